"""A store that can't be opened, read or written says so; nothing is lost, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.errors import StoreError
from orchestrator.store import leases
from orchestrator.store.connect import keep_log, locate
from orchestrator.store.database import pulse
from orchestrator.store.engine import Store
from orchestrator.store.entries import HandOffEntry, SpotCheckEntry
from tests.stores import calls_of, claim, intent, line, run_to_the_end, settlement

HAND_OFF = HandOffEntry(step="extract", reason="no budget")
SPOT_CHECKS = (SpotCheckEntry(step="extract", propensity=0.1),)


def set_most_pages(store: Store, pages: int) -> None:
    """How full the disk is, as SQLite sees it."""
    store._connection.connection.driver_connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[union-attr]


def failed(results: list[BaseException | None]) -> list[str]:
    return [str(r) for r in results if r is not None]


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [
    "orchestrator.db", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://host/db", "", "redis://x",
])
async def test_an_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="is no store: write sqlite:///FILE"):
        await Store.open(url)


def test_a_password_is_not_said() -> None:
    assert "hidden" not in locate("postgresql://me:hidden@host/db").name
    with pytest.raises(StoreError) as refused:
        locate("mysql://me:hidden@host/db")
    assert "hidden" not in str(refused.value)


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No such file or directory: .*nowhere"):
        await Store.open(f"sqlite:///{tmp_path}/nowhere/store.db")


async def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="store postgresql"):
        await Store.open(f"postgresql://me:hidden@/db?host={tmp_path}")


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(StoreError, match="no SQLite database"):
        await Store.open(f"sqlite:///{path}")
    assert path.read_text() == "these are my notes\n" * 100


async def test_a_damaged_database_is_said_to_be_damaged(sqlite_url: str, tmp_path: Path) -> None:
    store = await Store.open(sqlite_url)
    await run_to_the_end(store)
    await store.aclose()
    path = tmp_path / "store.db"
    body = bytearray(path.read_bytes())
    body[100:] = b"\xff" * (len(body) - 100)
    path.write_bytes(body)
    with pytest.raises(StoreError, match="damaged"):
        await Store.open(sqlite_url)


@pytest.fixture
async def made_read_only(tmp_path: Path) -> str:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = await Store.open(url)
    await run_to_the_end(store)
    await store.aclose()
    (tmp_path / "store.db").chmod(0o444)
    return url


@pytest.fixture
def read_only(made_read_only: str) -> Iterator[str]:
    """Root may write to anything: meanwhile, be nobody."""
    if os.geteuid() != 0:
        yield made_read_only
        return
    os.seteuid(65534)
    try:
        yield made_read_only
    finally:
        os.seteuid(0)


async def test_a_read_only_file_is_refused_in_words(read_only: str) -> None:
    with pytest.raises(StoreError, match=r"read-only|can't be opened"):
        await Store.open(read_only)


async def test_files_are_made_for_their_owner_alone(sqlite_url: str, tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = await Store.open(sqlite_url)
        await run_to_the_end(store)
    finally:
        os.umask(mask)
    assert _modes(tmp_path) == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    await store.aclose()


def _modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_the_store_of_a_test_goes_when_it_is_closed() -> None:
    store = await Store.open("memory:")
    folder = store.place.folder
    assert folder is not None
    assert folder.exists()
    await store.aclose()
    assert not folder.exists()


async def test_commits_are_durable(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    with store._writing.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    await store.aclose()


# -- writing -----------------------------------------------------------------------------------------------------------


async def test_a_full_disk_reaches_everyone_who_waits_and_loses_nothing(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    await store.intend(intent("before"))
    set_most_pages(store, 1)
    many = (store.intend(intent(f"k{i}", endpoint="x" * 2000)) for i in range(50))
    results = await asyncio.wait_for(asyncio.gather(*many, return_exceptions=True), 300)
    assert len(failed(results)) == 50
    assert all("its disk is full" in words for words in failed(results))
    set_most_pages(store, 1_000_000)
    await store.settle(settlement("before"))
    await store.intend(intent("after"))
    assert [(c.call_id, c.state) for c in calls_of(store, "r1")] == [("before", "settled"), ("after", "intent")]
    await store.aclose()


async def test_a_closed_store_refuses_what_comes_later(sqlite_url: str) -> None:
    store = await Store.open(sqlite_url)
    await store.aclose()
    with pytest.raises(StoreError, match="is closed"):
        await store.intend(intent("k1"))


async def test_a_writer_that_breaks_tells_those_who_wait(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    store = await Store.open(sqlite_url)

    def broken(*_: object) -> list[object]:
        raise KeyboardInterrupt

    with pytest.raises(StoreError):
        await asyncio.wait_for(store._write(broken), 300)
    with pytest.raises(StoreError):
        await store.intend(intent("k1"))
    with pytest.raises(StoreError):
        await store.aclose()
    assert "stopped" in caplog.text


async def test_what_is_no_value_for_a_column_fails_alone(store: Store) -> None:
    wrong = intent("k1", attempt=object())
    results = await asyncio.gather(store.intend(wrong), store.intend(intent("k2")), return_exceptions=True)
    assert [type(r) for r in results] == [StoreError, type(None)]


async def test_a_lock_held_elsewhere_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    store = await Store.open(sqlite_url)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.ensure_future(store.intend(intent("k1")))
    assert calls_of(store, "r1") == [], "readers go on"
    assert not waiting.done()
    other.execute("COMMIT")
    await asyncio.wait_for(waiting, 300)
    other.close()
    await store.aclose()


def test_a_log_that_others_stand_in_the_way_of_is_asked_for_again(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    reader = sqlite3.connect(file, isolation_level=None)
    reader.executescript("CREATE TABLE t (x); BEGIN; SELECT * FROM t")  # from here on nobody may change the mode

    class Refused(sqlite3.Connection):
        refusals = 0

        def execute(self, *said: Any) -> sqlite3.Cursor:
            try:
                return super().execute(*said)
            except sqlite3.OperationalError:
                self.refusals += 1
                reader.close()
                raise

    opener = sqlite3.connect(file, timeout=0, factory=Refused)
    assert keep_log(opener) == "wal"
    assert opener.refusals == 1
    opener.close()


async def test_a_file_that_is_taken_away_is_written_no_more(sqlite_url: str, tmp_path: Path) -> None:
    """What went into it would be lost with the process, and another one would begin anew beside it."""
    store = await Store.open(sqlite_url)
    file = tmp_path / "store.db"
    file.rename(tmp_path / "away.db")
    with pytest.raises(StoreError, match="is gone from there") as caught:
        await run_to_the_end(store)
    assert "put it back" in caught.value.hint
    (tmp_path / "away.db").rename(file)
    await run_to_the_end(store)
    assert len(calls_of(store, "r1")) == 1
    await store.aclose()


def remove(folder: Path) -> None:
    for file in folder.glob("store.db*"):
        file.unlink()


async def test_a_file_in_the_place_of_the_one_that_was_opened_is_not_written(sqlite_url: str, tmp_path: Path) -> None:
    store = await Store.open(sqlite_url)
    remove(tmp_path)
    other = await Store.open(sqlite_url)
    with pytest.raises(StoreError, match="was replaced by another"):
        await run_to_the_end(store)
    await run_to_the_end(other)
    await other.aclose()
    with pytest.raises(StoreError, match="was replaced by another"):
        await store.aclose()


async def test_no_everyday_statement_reads_a_whole_table(sqlite_url: str) -> None:
    """Neither per task nor every ten seconds: the ledger grows for ever. Budgets, prices and closed months are few, and
    may be read; of the queue of runs to be counted, so many at a time; the others are results of such reads."""
    store = await Store.open(sqlite_url)
    said: dict[str, Any] = {}
    for engine in (store._writing, store.engine):
        event.listen(engine, "before_cursor_execute", lambda c, _, statement, values, *more: said.update(
            {statement: values[0] if isinstance(values, list) else values}))
    await run_to_the_end(store, budgets=(line(100), line(100, "task:r1")), spot_checks=SPOT_CHECKS, handoff=HAND_OFF)
    await run_to_the_end(store, "r2", keep_until=0)
    await store.claim([claim("r1")])
    await store.recall([("", "q of r1")])
    await store.pending_spot_checks("p")
    await store.settle_spot_check("r1", "extract", draft_ok=False)
    await store.resolve_handoff("r1", value=1, success=False)
    await store.escalation_share("p", 0.0)
    await store._writer.submit(pulse, None)
    await store.forget(run_ids=["r2"])
    await store._write(leases.leave)
    plans = sqlite3.connect(store.place.path)  # type: ignore[arg-type]  # a file, as the URL says
    read = {
        row[3]: statement for statement, values in said.items() if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        for row in plans.execute(f"EXPLAIN QUERY PLAN {statement}", values)
    }
    plans.close()
    assert len(said) > 40
    whole = {plan: read[plan] for plan in read if plan.startswith("SCAN ") and "INDEX" not in plan}
    few = {f"SCAN {name}" for name in (
        "budget", "owner", "setting", "price", "close", "each", "anon_1", "(subquery-1)", "CONSTANT ROW",
    )}
    assert "LIMIT" in whole.pop("SCAN uncounted")
    assert whole.keys() <= few, whole
    await store.aclose()


def test_the_package_of_the_store_is_light() -> None:
    script = "import sys; import orchestrator.store, orchestrator.store.entries; print('sqlalchemy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "False"
