"""Spot checks: off the answer's path, few at once, each made once, whatever ends in between."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.cascade import later
from orchestrator.cascade.rules import draw
from orchestrator.errors import ConnectionLost
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, write_pipeline

A, B = {"label": "a"}, {"label": "b"}
LOOK = {**POLICY, "after": [{"name": "look", "sample": 1.0, "then": "spot_check"}]}
ROOT = Path(__file__).parent.parent


class Held(ScriptedModel):
    """A validator that answers nobody until it is let go; `asked` counts who waits for it, `most` how many at once."""

    def __init__(self, value: Any = A) -> None:
        super().__init__(lambda _: value, name="validator")
        self.go, self.asked, self.most = asyncio.Event(), 0, 0
        self.full = asyncio.Event()

    async def complete(self, request: Any, **given: Any) -> Any:
        self.asked += 1
        self.most = max(self.most, self.asked)
        if self.asked >= later.AT_ONCE:
            self.full.set()
        await self.go.wait()
        self.asked -= 1
        return await super().complete(request, **given)


def drafting(validator: ScriptedModel) -> dict[str, ScriptedModel]:
    return {"drafter": ScriptedModel(lambda _: A, name="drafter"), "validator": validator}


def rows(folder: Path, query: str) -> list[Any]:
    connection = sqlite3.connect(folder / "s.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def tasks(count: int, start: int = 0) -> list[Task]:
    return [Task(id=f"t{i}", input={"text": f"text {i}"}) for i in range(start, start + count)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"




async def test_an_answer_does_not_wait_for_its_check(tmp_path: Path, url: str) -> None:
    """The validator answers only after every outcome is there."""
    validator = Held(B)
    async with Pipeline.load(write_pipeline(tmp_path / "p", policy=LOOK), store=url, clients=drafting(validator)) as p:
        one = await p.arun(tasks(1)[0])
        many = [outcome async for outcome in p.amap(tasks(40, 1), concurrency=4)]
        assert rows(tmp_path, "SELECT DISTINCT state FROM spot_check") == [("pending",)]
        validator.go.set()
    assert {(o.status, str(o.value), o.success) for o in (one, *many)} == {("accepted", str(A), None)}
    assert rows(tmp_path, "SELECT state, draft_ok, count(*) FROM spot_check GROUP BY 1, 2") == [("done", 0, 41)]


async def test_few_are_under_way_at_once_and_the_rest_waits_its_turn(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than fit into memory too: the store keeps those, and each is asked for once."""
    monkeypatch.setattr(later, "WAITING", 20)
    validator = Held()
    async with Pipeline.load(write_pipeline(tmp_path / "p", policy=LOOK), store=url, clients=drafting(validator)) as p:
        _ = [outcome async for outcome in p.amap(tasks(150))]
        rt = await p.runtime()
        await validator.full.wait()
        assert (validator.asked, rt.backlog.workers) == (later.AT_ONCE, later.AT_ONCE)
        assert len(rt.backlog.waiting) == 20
        validator.go.set()
    assert validator.most == later.AT_ONCE
    assert len(validator.calls) == 150
    assert rows(tmp_path, "SELECT state, count(*) FROM spot_check GROUP BY 1") == [("done", 150)]
    assert rows(tmp_path, "SELECT count(*) FROM feedback") == [(150,)]


CHILD = """
import asyncio, sys
from orchestrator import Pipeline, Task
from orchestrator.testing import ScriptedModel

class Silent(ScriptedModel):
    async def complete(self, request, **given):
        print("asked", flush=True)
        await asyncio.Event().wait()

async def main():
    clients = {"drafter": ScriptedModel(lambda _: {"label": "a"}, name="drafter"), "validator": Silent([])}
    async with Pipeline.load(sys.argv[1], store=sys.argv[2], clients=clients) as pipeline:
        for i in range(5):
            print((await pipeline.arun(Task(id=f"t{i}", input={"text": f"text {i}"}))).status, flush=True)

asyncio.run(main())
"""


def run_and_kill(path: Path, url: str) -> list[str]:
    """Five outcomes and five checks asked for; then the process is gone."""
    command = [sys.executable, "-c", CHILD, str(path), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        said = [child.stdout.readline().strip() for _ in range(10)]
        child.send_signal(signal.SIGKILL)
    return said


async def test_a_killed_process_leaves_its_checks_to_the_next_one(tmp_path: Path, url: str) -> None:
    path = write_pipeline(tmp_path / "p", policy=LOOK)
    said = run_and_kill(path, url)
    assert sorted(said) == ["accepted"] * 5 + ["asked"] * 5
    assert rows(tmp_path, "SELECT state, count(*) FROM spot_check GROUP BY 1") == [("pending", 5)]
    clients = drafting(ScriptedModel(lambda _: B, name="validator"))
    async with Pipeline.load(path, store=url, clients=clients) as pipeline:
        await pipeline.arun(Task(id="next", input={"text": "text next"}))
    assert rows(tmp_path, "SELECT state, draft_ok, count(*) FROM spot_check GROUP BY 1, 2") == [("done", 0, 6)]
    asked = rows(tmp_path, "SELECT state, count(*) FROM call WHERE role = 'spot_check' GROUP BY 1 ORDER BY 1")
    assert asked == [("settled", 6), ("unsettled", 5)], "what the killed process had asked is on record at its bound"
    assert rows(tmp_path, "SELECT count(DISTINCT run_id), count(*) FROM feedback") == [(6, 6)]


async def test_two_processes_make_each_check_once(tmp_path: Path, url: str) -> None:
    path = write_pipeline(tmp_path / "p", policy=LOOK)
    first, second = Held(), Held()
    async with Pipeline.load(path, store=url, clients=drafting(first)) as one, Pipeline.load(
        path, store=url, clients=drafting(second)
    ) as two:
        await asyncio.gather(*(one.arun(t) for t in tasks(20)), *(two.arun(t) for t in tasks(20, 20)))
        await one.take_up_spot_checks()
        await two.take_up_spot_checks()
        first.go.set()
        second.go.set()
    assert (len(first.calls), len(second.calls)) == (20, 20)
    assert rows(tmp_path, "SELECT state, count(*) FROM spot_check GROUP BY 1") == [("done", 40)]


async def test_a_check_that_was_allowed_when_drawn_is_not_made_where_it_is_forbidden_now(
    tmp_path: Path, url: str
) -> None:
    """A task that must stay home was drawn under a local validator; by now the validator is a remote one."""
    policy = {**LOOK, "before": POLICY["before"]}
    path = write_pipeline(tmp_path / "p", policy=policy)
    home = Task(id="t", input={"text": "x"}, meta={"residency": "local"})
    pipeline = Pipeline.load(path, store=url, clients=drafting(stuck := Held()))
    await pipeline.arun(home)
    for work in list((await pipeline.runtime()).background):
        work.cancel()
    await pipeline.aclose()
    assert rows(tmp_path, "SELECT state FROM spot_check") == [("pending",)]
    remote = ScriptedModel([], name="validator", location="remote")
    path = write_pipeline(tmp_path / "p", policy=policy, validator={"location": "remote"})
    async with Pipeline.load(path, store=url, clients=drafting(remote)) as pipeline:
        await pipeline.take_up_spot_checks()
    assert stuck.calls == remote.calls == []
    assert rows(tmp_path, "SELECT state, draft_ok FROM spot_check") == [("forbidden", None)]


@pytest.mark.parametrize("said", [ConnectionLost("gone"), "not json"])
async def test_a_check_without_an_answer_is_on_record_as_one(tmp_path: Path, url: str, said: Any) -> None:
    path = write_pipeline(tmp_path / "p", policy=LOOK, validator={"retries": 0})
    clients = drafting(ScriptedModel([said], name="validator"))
    async with Pipeline.load(path, store=url, clients=clients) as pipeline:
        outcome = await pipeline.arun(tasks(1)[0])
    assert outcome.status == "accepted"
    assert rows(tmp_path, "SELECT state, draft_ok FROM spot_check") == [("unanswered", None)]
    assert rows(tmp_path, "SELECT * FROM feedback") == []


async def test_the_probability_of_a_check_is_on_record_drawn_or_not_and_the_draw_can_be_replayed(
    tmp_path: Path, url: str
) -> None:
    some = {**POLICY, "after": [{"name": "look", "sample": 0.3, "then": "spot_check"}]}
    clients = drafting(ScriptedModel(lambda _: A, name="validator"))
    async with Pipeline.load(write_pipeline(tmp_path / "p", policy=some), store=url, clients=clients) as pipeline:
        outcomes = [o async for o in pipeline.amap(tasks(60))]
    assert rows(tmp_path, "SELECT DISTINCT propensity FROM step") == [(0.3,)]
    drawn = {row[0] for row in rows(tmp_path, "SELECT run_id FROM spot_check")}
    assert drawn == {o.run_id for o in outcomes if draw(o.run_id, "look") < 0.3}
    assert 0 < len(drawn) < 60


async def test_an_answer_that_a_guard_refused_is_not_checked(tmp_path: Path, url: str) -> None:
    guarded = {"guards": ["tests.test_spot_checks:never"], "allow_imports": ["tests.test_spot_checks"]}
    path = write_pipeline(tmp_path / "p", policy=LOOK, **guarded)
    async with Pipeline.load(path, store=url, clients=drafting(ScriptedModel([], name="validator"))) as pipeline:
        outcome = await pipeline.arun(tasks(1)[0])
    assert outcome.status == "handed_off"
    assert rows(tmp_path, "SELECT * FROM spot_check") == []


def never(value: Any, task: Task) -> bool:
    return False
