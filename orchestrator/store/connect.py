"""How a store is reached: URLs, engines, what is set on each connection, and what a failure means in words.

SQLite runs with a write-ahead log and `synchronous=FULL`, but for commits whose durability may be delayed
(`store/writer.py`); its files are created for their owner alone (0600).
PostgreSQL runs with `synchronous_commit=on`, whatever the server's default.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, ProgrammingError, StatementError
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from orchestrator.errors import StoreError

MEMORY = "memory:"
LOCK_PATIENCE_S = 30.0
"""How long a writer waits for the lock of another process before it gives up."""
READER_PRAGMAS = ("PRAGMA query_only=ON",)
WRITER_PRAGMAS = (
    "PRAGMA secure_delete=ON",  # erased content leaves no bytes behind in free pages
    "PRAGMA cache_size=-16000",
    "PRAGMA wal_autocheckpoint=4000",  # pages: a page written often is copied into the file once
    "PRAGMA journal_size_limit=67108864",
)
_CONNECT = {"check_same_thread": False, "timeout": LOCK_PATIENCE_S}


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """Where a store is. `name` is fit for messages: it holds no password. `folder` is removed on close."""

    url: URL
    name: str
    path: Path | None = None
    folder: Path | None = None

    @property
    def durable(self) -> bool:
        return self.folder is None

    @property
    def delays(self) -> bool:
        """May a commit get to disk with a later one? Not on PostgreSQL: its server can lose it and we live on."""
        return self.path is not None and self.durable

    def remove(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def locate(url: str) -> StorePlace:
    """`sqlite:///FILE`, `postgresql://…`, or `memory:` for a private store that goes on close."""
    if url == MEMORY:
        folder = Path(tempfile.mkdtemp(prefix="orchestrator-"))
        path = folder / "store.db"
        return StorePlace(url=URL.create("sqlite", database=str(path)), name=MEMORY, path=path, folder=folder)
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise _bad_url(url) from error
    name = parsed.render_as_string(hide_password=True)
    if parsed.drivername == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.query:
        return StorePlace(url=parsed, name=name, path=Path(parsed.database))
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return StorePlace(url=parsed.set(drivername="postgresql+psycopg"), name=name)
    raise _bad_url(name)


def _bad_url(url: str) -> StoreError:
    error = StoreError(
        f"{url!r} is no store: write sqlite:///FILE (four slashes for an absolute path) or postgresql://HOST/DATABASE"
    )
    error.exit_code = 2  # the argument is wrong, no store is at fault
    return error


def writing_engine(place: StorePlace) -> Engine:
    """The engine of the one writer. On SQLite it makes the file, and every transaction starts as a writer's."""
    if place.path is None:
        return _postgres_engine(place, pool_size=1)
    _create_private(place)
    engine = create_engine(place.url, poolclass=NullPool, connect_args=_CONNECT)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are ours: begun below, not by the driver at its own time
        mode = keep_log(connection)
        if mode != "wal":
            raise StoreError(f"{place.name}: SQLite can't keep a write-ahead log there (journal mode {mode!r})",
                             hint="put the store on a local disk")
        connection.execute(f"PRAGMA synchronous={'FULL' if place.durable else 'OFF'}")
        for pragma in WRITER_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def patiently() -> Retrying:
    """Calls what it is given; again, within a bound, where another process was in the way."""
    return Retrying(
        retry=retry_if_exception(is_transient), stop=stop_after_delay(LOCK_PATIENCE_S), wait=wait_random(0.001, 0.02),
        reraise=True,
    )


def keep_log(connection: sqlite3.Connection) -> str:
    """Have the file keep a write-ahead log; the journal mode it has then. SQLite does not wait here for processes that
    make the same file at once, though it waits everywhere else: so we do."""
    return str(patiently()(connection.execute, "PRAGMA journal_mode=WAL").fetchone()[0])


def wait_for_disk(connection: Connection, wait: bool) -> None:
    """Have commits of SQLite's writer return once they are on disk, or else once they are in the log: from there the
    next commit that waits takes them to disk, too. Not within a transaction."""
    connection.connection.driver_connection.execute(  # type: ignore[union-attr]  # an open connection has one
        f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}"
    )


def rows_written(connection: Connection) -> int:
    """By SQLite's writer, since it was opened. A commit that wrote none does not touch the disk."""
    return int(connection.connection.driver_connection.total_changes)  # type: ignore[union-attr]  # as above


def reading_engine(place: StorePlace, *, size: int) -> Engine:
    """A pool of `size` connections that can only read; each transaction is one consistent view."""
    if place.path is None:
        return _postgres_engine(place, pool_size=size).execution_options(isolation_level="REPEATABLE READ")
    engine = create_engine(place.url, pool_size=size, connect_args=_CONNECT)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in READER_PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _postgres_engine(place: StorePlace, *, pool_size: int) -> Engine:
    try:
        engine = create_engine(
            place.url, paramstyle="format", pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True
        )
    except ImportError as error:
        raise StoreError(f"{place.name} needs psycopg", hint="pip install 'draftgate[distributed]'") from error

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute("SET synchronous_commit = on")
        connection.commit()

    return engine


def scrub_log(engine: Engine) -> None:
    """Fold SQLite's write-ahead log into the file and empty it: erased content may still stand in the log's pages."""
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()


def _create_private(place: StorePlace) -> None:
    """Make the file before SQLite does, readable by its owner only; SQLite gives `-wal` and `-shm` the same mode."""
    assert place.path is not None
    try:
        os.close(os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{place.name}: {error.strerror}: {str(place.path)!r}",
                         hint="name a folder that exists and that you may write to") from error


def file_of(place: StorePlace) -> tuple[int, int] | None:
    """Which file the store is in, whatever it is called by now; None on PostgreSQL."""
    if place.path is None:
        return None
    found = os.stat(place.path)
    return found.st_dev, found.st_ino


def require_file(place: StorePlace, opened: tuple[int, int] | None) -> None:
    """Raises StoreError where the file `opened` is not the one at the store's path any more: what is written into it is
    lost with the process, and another process would begin a store of its own."""
    try:
        there = file_of(place)
    except OSError:
        there = None
    if there != opened:
        what, hint = ("was replaced by another", "end this process, and see which other one made the new file")
        if there is None:
            what, hint = ("is gone from there", "put it back, or start anew; nothing more is done until then")
        raise StoreError(f"store {place.name}: its file {what} while it was open", hint=hint)


def is_transient(error: BaseException) -> bool:
    """Would the same transaction pass a moment later, and is it sure that none of it was written: a lock of another
    process, a deadlock that was broken, a connection lost before the commit."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return error.statement is not None  # a lost COMMIT has none: what became of it is unknown
    if isinstance(cause, sqlite3.OperationalError):
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(cause, "sqlstate", None) in ("40001", "40P01", "55P03")


def is_of_a_row(error: BaseException) -> bool:
    """Does the failure concern what was written (a duplicate, an unfit value) and not the store as a whole."""
    if isinstance(error, DBAPIError):
        return isinstance(error, (IntegrityError, DataError, ProgrammingError))
    return isinstance(error, (StatementError, TypeError, ValueError, OverflowError, AttributeError, KeyError))


_SAID = {
    "full": ("its disk is full", "free some space; what was reported as written is safe"),
    "readonly": ("it can't be written: the file is read-only", "change its permissions or name another --store"),
    "read-only": ("it can't be written: the database is read-only", "name a writable --store"),
    "unable to open": ("the file can't be opened", "check the path and its permissions"),
    "not a database": ("the file is no SQLite database", "name another --store"),
    "malformed": ("the file is damaged", "restore it from a backup, or run `sqlite3 FILE .recover`"),
    "is locked": (f"another process held its lock for {LOCK_PATIENCE_S:.0f} s", "see which process uses the file"),
    "permission denied": ("the database's user lacks a right", "docs/store.md says which it needs"),
    "disk i/o": ("its disk failed to read or write", "check the disk"),
}


def store_error(error: BaseException, name: str) -> StoreError:
    """`error` of the driver as a StoreError that says what is wrong with the store `name` and what to do."""
    said, hint = _said(error, name)
    failure = type(error)(said, hint=hint) if isinstance(error, StoreError) else StoreError(said, hint=hint)
    failure.__cause__ = error
    return failure


def _said(error: BaseException, name: str) -> tuple[str, str]:
    if isinstance(error, StoreError):
        return str(error), error.hint
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    detail = str(cause).strip()
    for mark, (what, hint) in _SAID.items():
        if mark in detail.lower():
            return f"store {name}: {what} ({detail})", hint
    return f"store {name}: {type(cause).__name__}: {detail}", "check that the store is reachable"
