"""A model that is away: one line when it begins, one a minute while it lasts, one when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.batch import RunOptions, arun_file
from orchestrator.cascade.outages import Outages
from orchestrator.errors import ConnectionLost, ContextOverflow
from orchestrator.pipeline import Pipeline
from orchestrator.progress import Progress
from orchestrator.records import Task
from orchestrator.testing import FrozenClock
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks

ALWAYS = 100_000
"""More connections than a waiting run ever makes."""
BOTH = ("drafter", "validator")


class Lines:
    """What a person is told, in order; a test waits for the next line instead of for a time."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._came = asyncio.Condition()
        self._told: set[asyncio.Task[None]] = set()

    def __call__(self, words: str) -> None:
        self.said.append(words)
        task = asyncio.create_task(self._wake())
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def count(self, n: int) -> None:
        async with self._came:
            await self._came.wait_for(lambda: len(self.said) >= n)

    async def _wake(self) -> None:
        async with self._came:
            self._came.notify_all()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting runs ask again at once, and no circuit holds them back."""
    monkeypatch.setattr("orchestrator.cascade.outages.POLL_S", 0.0)
    monkeypatch.setattr("orchestrator.models.limits.CircuitBreaker.check", lambda self: False)


@pytest.mark.parametrize("away", BOTH)
async def test_a_server_that_goes_and_comes_back_is_told_once_then_each_minute_then_once(
    tmp_path: Path, away: str
) -> None:
    """Ten tasks wait, and ask again many times between two lines."""
    clock, lines = FrozenClock(), Lines()
    async with Loopback(models=BOTH) as steady, Loopback(models=BOTH, plan=["close"] * ALWAYS) as gone:
        url = {name: gone.url if name == away else steady.url for name in BOTH}
        path = write_pipeline(
            tmp_path / "p", drafter={"endpoints": [url["drafter"]], "retries": 0},
            validator={"endpoints": [url["validator"]], "retries": 0}, policy={**POLICY, "otherwise": "escalate"},
        )
        store = f"sqlite:///{tmp_path}/s.db"
        async with Pipeline.load(path, store=store, clock=lambda: clock.now().timestamp(), in_file=True) as pipeline:
            (await pipeline.runtime()).outages.tell = lines
            running = [asyncio.create_task(pipeline.arun(Task(id=f"t{i}", input={"text": f"x{i}"}))) for i in range(10)]
            await lines.count(1)
            clock.advance(59)
            await _asked_again(gone)
            clock.advance(1)
            await lines.count(2)
            await _asked_again(gone)
            clock.advance(61)
            await lines.count(3)
            gone.plan.clear()
            done = await asyncio.gather(*running)
    assert {outcome.status for outcome in done} <= {"approved", "redone"}
    begun, minute, second, back = lines.said
    assert begun.startswith(f"waiting for model {away!r}: ")
    assert minute.startswith(f"still waiting for model {away!r}, for 1 min 00 s now: ")
    assert second.startswith(f"still waiting for model {away!r}, for 2 min 01 s now: ")
    assert back == f"model {away!r} is back, after 2 min 01 s"


async def _asked_again(server: Loopback) -> None:
    """Until the ten that wait have asked twenty times more."""
    seen = len(server.seen)
    while len(server.seen) < seen + 20:
        server.arrived.clear()
        await server.arrived.wait()


async def test_a_file_run_tells_of_an_outage_while_no_task_of_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server stays away until the line is on the screen, which is no terminal here."""

    class Shown(Progress):
        def note(self, words: str) -> None:
            super().note(words)
            if words.startswith("waiting for model"):
                server.plan.clear()

    write_tasks(tmp_path / "tasks.jsonl", 3)
    async with Loopback(models=BOTH, plan=["close"] * ALWAYS) as server:
        model = {"endpoints": [server.url], "retries": 0}
        path = write_pipeline(tmp_path / "p", drafter=model, validator=model)
        summary = await arun_file(RunOptions(
            pipeline=path, tasks=tmp_path / "tasks.jsonl", store=f"sqlite:///{tmp_path}/s.db", yes=True,
            progress=Shown(),
        ))
    assert summary.by_status["accepted"] == 3
    told = [line for line in capsys.readouterr().err.splitlines() if "model 'drafter'" in line]
    begun, back = told
    assert begun.startswith("waiting for model 'drafter': ")
    assert back == "model 'drafter' is back, after 0 s"


async def test_a_later_outage_is_a_new_one_also_where_the_first_ended_with_another_error() -> None:
    clock, said = FrozenClock(), list[str]()
    outages = Outages(clock.monotonic, said.append)
    answers = iter([ConnectionLost("gone"), ContextOverflow("too long"), ConnectionLost("gone"), "an answer"])

    async def ask() -> str:
        match next(answers):
            case str(answer):
                return answer
            case error:
                clock.advance(2 * 3600 + 5 * 60)
                raise error

    with pytest.raises(ContextOverflow):
        await outages.through("m", ask)
    assert await outages.through("m", ask) == "an answer"
    assert said == [
        "waiting for model 'm': gone", "model 'm' is back, after 2 h 05 min", "waiting for model 'm': gone",
        "model 'm' is back, after 0 s",
    ]


async def test_what_was_asked_before_the_model_was_back_begins_no_outage_and_ends_none() -> None:
    """Three wait. The second is answered while the first's question, asked before, is still to be refused; then the
    model goes again, while the third's, asked before that, is still to be answered."""
    said: list[str] = []
    outages, asked = Outages(FrozenClock().monotonic, said.append), asyncio.Queue[asyncio.Future[str]]()

    async def ask() -> str:
        answer = asyncio.get_running_loop().create_future()
        await asked.put(answer)
        return await answer

    running = [asyncio.create_task(outages.through("m", ask)) for _ in range(3)]
    for _ in running:
        (await asked.get()).set_exception(ConnectionLost("gone"))
    first, second, third = [await asked.get() for _ in running]
    second.set_result("two")
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    first.set_exception(ConnectionLost("gone"))
    again = await asked.get()
    assert said == ["waiting for model 'm': gone", "model 'm' is back, after 0 s"]
    again.set_exception(ConnectionLost("gone again"))
    last = await asked.get()
    third.set_result("three")
    await asyncio.wait([one for one in running if not one.done()], return_when=asyncio.FIRST_COMPLETED)
    assert said[2:] == ["waiting for model 'm': gone again"]
    last.set_result("one")
    assert sorted(await asyncio.gather(*running)) == ["one", "three", "two"]
    assert said[3:] == ["model 'm' is back, after 0 s"]
