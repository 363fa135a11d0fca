"""A power cut takes what no commit had waited for: nothing that has left the process rests on that."""

from __future__ import annotations

import asyncio
import math
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.store import calls, runs, writer
from orchestrator.store.engine import Store
from orchestrator.store.writer import Writer
from tests.loopback import Loopback
from tests.loopback_shapes import label
from tests.pipelines import POLICY, write_pipeline
from tests.stores import claim, intent, run_to_the_end, settlement

ESCALATE: dict[str, Any] = {**POLICY, "after": [{"name": "all", "then": "escalate"}]}
NORMAL, FULL, OFF = 1, 2, 0


class Disk:
    """What a power cut would leave of the store in `folder`: its files as they stood after the last commit that waited
    for the disk and wrote. Every commit is noted as it was made: NORMAL, FULL, or OFF."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._left = folder, folder
        self.commits: list[int] = []
        self._made = threading.Event()
        self._commit = Writer._transact
        monkeypatch.setattr(Writer, "_transact", lambda of, batch: self._watched(of, batch))

    def _watched(self, of: Writer, batch: Any) -> list[Any]:
        raw: Any = of._connection.connection.driver_connection
        before = raw.total_changes
        results = self._commit(of, batch)
        (kind,) = raw.execute("PRAGMA synchronous").fetchone()
        if kind == FULL and raw.total_changes > before:
            left = self._folder / f"left-{len(self.commits)}"
            left.mkdir()
            for name in ("store.db", "store.db-wal"):
                shutil.copy(self._folder / name, left / name)
            self._left = left
        self.commits.append(kind)
        self._made.set()
        return results

    async def next_commit(self) -> None:
        await asyncio.to_thread(self._made.wait, 30)
        self._made.clear()

    def rows(self, statement: str, *values: Any) -> list[Any]:
        """What is found once the power is back."""
        connection = sqlite3.connect(self._left / "store.db")
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


async def test_every_request_that_left_is_on_disk_with_the_answers_it_rests_on(tmp_path: Path, disk: Disk) -> None:
    found: list[list[Any]] = []

    def reply(body: dict[str, Any]) -> Any:
        found.append(disk.rows("SELECT run.run_id, role, state FROM call JOIN run USING (run_id) ORDER BY started_at"))
        found.append(disk.rows("SELECT role FROM answer JOIN call USING (call_id)"))
        return label(body)

    async with Loopback(models=("drafter", "validator"), reply=reply) as server:
        model = {"endpoints": [server.url]}
        path = write_pipeline(tmp_path / "p", drafter=model, validator=model, policy=ESCALATE)
        async with Pipeline.load(path, store=f"sqlite:///{tmp_path}/store.db") as pipeline:
            run_id = (await pipeline.arun(Task(id="t", input={"text": "x"}))).run_id
            outcomes = disk.rows("SELECT run_id, status FROM outcome")
            calls = disk.rows("SELECT state FROM call")
    draft, redo = (run_id, "draft", "intent"), (run_id, "redo", "intent")
    assert found == [[draft], [], [(run_id, "draft", "settled"), redo], [("draft",)]]
    assert outcomes == [(run_id, "approved")]
    assert calls == [("settled",), ("settled",)]


async def test_of_a_task_the_intent_and_the_outcome_wait_for_the_disk(
    sqlite_url: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DELAY_S", math.inf)  # however slow this machine is
    store = await Store.open(sqlite_url, lease_s=3600)
    await run_to_the_end(store)
    assert disk.commits == [NORMAL, FULL, NORMAL, FULL]
    await store.aclose()


async def test_a_commit_that_holds_an_intent_waits_whatever_else_it_holds(
    sqlite_url: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DELAY_S", math.inf)
    store = await Store.open(sqlite_url, lease_s=3600)
    await run_to_the_end(store, "r1")
    store._writer.close()  # from here on by hand: so all of it is in one commit
    store._writer._transact([
        writer._Operation(runs.claim, [claim("r2")]),
        writer._Operation(calls.intend, intent("k2", "r2")),
        writer._Operation(calls.settle, settlement("k2")),
    ])
    assert disk.commits[-1] == FULL
    assert disk.rows("SELECT state FROM call WHERE run_id = 'r2'") == [("settled",)]
    store._close()


@pytest.mark.parametrize("then", ["nothing", "a commit that writes nothing"])
async def test_an_answer_that_nothing_follows_is_on_disk_soon(sqlite_url: str, disk: Disk, then: str) -> None:
    store = await Store.open(sqlite_url, lease_s=3600)  # its renewal in due course comes too late
    await store.claim([claim()])
    await store.intend(intent())
    await store.settle(settlement())
    if then != "nothing":
        assert await store.cache_purge("nobody's") == 0
    async with asyncio.timeout(300):
        while disk.rows("SELECT state FROM call") != [("settled",)]:
            await disk.next_commit()
    await store.aclose()


async def test_a_stream_of_answers_delays_none_of_them_for_long(
    sqlite_url: str, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(sqlite_url, lease_s=3600)
    await store.claim([claim()])
    for i in range(3):
        await store.intend(intent(f"k{i}"))
    before = len(disk.commits)
    monkeypatch.setattr(writer, "DELAY_S", 0.0)
    store._writer.close()  # from here on by hand: so it finds no moment between them
    for i in range(3):
        store._writer._transact([writer._Operation(calls.settle, settlement(f"k{i}"))])
    assert disk.commits[before:] == [NORMAL, FULL, NORMAL]
    store._close()


async def test_a_store_in_memory_never_waits(disk: Disk) -> None:
    store = await Store.open("memory:")
    await run_to_the_end(store)
    assert set(disk.commits) == {OFF}
    await store.aclose()
