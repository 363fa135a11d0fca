"""The database of a store, as one process has it open: writing goes to the one writer thread and returns once it is on
disk; reading has connections of its own. Many processes may share one database.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.store import allocations, calls, cells, leases, migrations, outcomes, retention, runs, spot_checks
from orchestrator.store.connect import (
    StorePlace,
    file_of,
    patiently,
    reading_engine,
    require_file,
    scrub_log,
    store_error,
    writing_engine,
)
from orchestrator.store.statements import Transaction
from orchestrator.store.writer import Flow, Writer, one_by_one

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4

ORDER: tuple[Flow, ...] = (
    runs.record_config, runs.record_price, runs.claim, calls.intend, calls.settle, outcomes.finish,
)
"""A run's life. Within one commit an intent comes before its settlement, even where both were queued at once."""

DELAYED: frozenset[Flow] = frozenset({runs.claim, calls.settle})
"""What nobody outside can have seen before an intent or an outcome is on disk, which is later in the same log."""


def renew(transaction: Transaction, payloads: Sequence[Any]) -> list[None]:
    """The least that there is to commit."""
    leases.renew(transaction)
    return [None] * len(payloads)


def pulse(transaction: Transaction, payloads: Sequence[Any]) -> list[None]:
    """What each process does for the store with every renewal of its lease."""
    open_up(transaction)
    allocations.close_hours(transaction)
    return [None] * len(payloads)


def open_up(transaction: Transaction) -> None:
    """The same as it opens the store: no hours are closed before a pipeline has said what its book has of them."""
    leases.renew(transaction)
    leases.recover(transaction)
    spot_checks.expire(transaction)
    retention.sweep(transaction)
    cells.count(transaction)


class Database:
    """Opened by its constructor, which blocks. Whatever the driver raises comes out as StoreError."""

    def __init__(self, place: StorePlace, clock: Callable[[], float], lease_s: float) -> None:
        self.place, self.owner_id, self._clock = place, leases.new_owner_id(), clock
        with _said_plainly(place):
            self._writing = writing_engine(place)
            try:
                self._connection = patiently()(self._begin, lease_s)  # PostgreSQL breaks deadlocks by failing one
                opened = file_of(place)
            except BaseException:  # Ctrl-C too: a store that is not open leaves nothing behind
                self._writing.dispose()
                place.remove()
                raise
        self.engine: Engine = reading_engine(place, size=READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="orchestrator-reader")
        self._writer = Writer(
            self._connection, name=place.name, owner_id=self.owner_id, clock=clock, lease_s=lease_s, order=ORDER,
            beat=pulse, beat_s=lease_s / 3, renew=renew, delayed=DELAYED if place.delays else frozenset(),
            ready=partial(require_file, place, opened),
        )
        self._writer.start()

    def _begin(self, lease_s: float) -> Connection:
        """Bring the schema up to date, take a lease, recover what others left."""
        migrations.migrate(self._writing, self.place.name)
        connection = self._writing.connect()
        try:
            with connection.begin():
                self.secret = migrations.secret(connection)
                self._keyed = hashlib.blake2b(key=self.secret, digest_size=16)
                first = Transaction(
                    connection=connection, owner_id=self.owner_id, now=self._clock(), lease_s=lease_s
                )
                open_up(first)
        except BaseException:  # the same
            connection.close()
            raise
        return connection

    async def aclose(self) -> None:
        """Commit what is queued, give up the lease and close. Calls left open become `unsettled`."""
        try:
            await self._write(leases.leave)
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        self._connection.close()
        self._writing.dispose()
        self.engine.dispose()
        self.place.remove()

    async def _write(self, write: Callable[Concatenate[Transaction, P], T], *args: P.args, **named: P.kwargs) -> T:
        """Have the writer do what is too rare to be written in groups; what it returned, once that is durable.

        `write` must check before it writes: an OrchestratorError that it raises undoes nothing.
        """
        written: T = await self._writer.submit(one_by_one, lambda transaction: write(transaction, *args, **named))
        return written

    async def _read(self, look_up: Callable[Concatenate[Connection, P], T], *args: P.args, **named: P.kwargs) -> T:
        def run() -> T:
            with self.read() as connection:
                return look_up(connection, *args, **named)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads, with one consistent view: for reports. Blocks; not for the event loop."""
        with _said_plainly(self.place), self.engine.connect() as connection:
            yield connection

    def digest(self, data: bytes) -> str:
        """Keyed digest: equal data gives equal digests in this store, and tells nothing outside of it."""
        keyed = self._keyed.copy()  # which costs less than another one with the key
        keyed.update(data)
        return "b2:" + keyed.hexdigest()

    def _scrub(self) -> None:
        """Have what was erased leave the disk, too."""
        with _said_plainly(self.place):
            scrub_log(self._writing)


@contextmanager
def _said_plainly(place: StorePlace) -> Iterator[None]:
    """Whatever the driver raises, callers know one error: StoreError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise store_error(error, place.name) from error
