"""The same task asked for twice at once is done once; whoever follows the first is not undone with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.records import Answer, Outcome, Request
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline
from tests.test_pipeline import A, both

TASK = Task(id="t", input={"text": "x"})


class Slow(ScriptedModel):
    """Its first answer does not come until it is cancelled."""

    def __init__(self) -> None:
        super().__init__(lambda _: A, name="drafter")
        self.asked = asyncio.Event()

    async def complete(self, request: Request, **named: Any) -> Answer:
        answer = await super().complete(request, **named)
        if len(self.calls) == 1:
            self.asked.set()
            await asyncio.Event().wait()
        return answer


async def alone(pipeline: Pipeline) -> Outcome:
    return await pipeline.arun(TASK)


async def in_a_stream(pipeline: Pipeline) -> Outcome:
    [outcome] = [one async for one in pipeline.amap([TASK])]
    return outcome


async def through_the_graph(pipeline: Pipeline) -> Outcome:
    outcome: Outcome = (await pipeline.graph.ainvoke({"tasks": [TASK]}))["outcomes"][0]
    return outcome


@pytest.mark.parametrize("ask", [alone, in_a_stream, through_the_graph])
async def test_who_follows_a_caller_that_gives_up_takes_its_place(
    tmp_path: Path, ask: Callable[[Pipeline], Awaitable[Outcome]]
) -> None:
    drafter = Slow()
    clients = {**both(()), "drafter": drafter}
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        first = asyncio.ensure_future(pipeline.arun(TASK))
        await drafter.asked.wait()
        [leader] = (await pipeline.runtime()).inflight.values()
        following = [asyncio.ensure_future(ask(pipeline)) for _ in range(3)]
        while len(leader.outcome._callbacks or ()) < 3:  # type: ignore[attr-defined]  # noqa: ASYNC110 - who waits
            await asyncio.sleep(0)
        first.cancel()
        outcomes = await asyncio.gather(*following)
        assert first.cancelled()
    assert {outcome.status for outcome in outcomes} == {"accepted"}
    assert len({outcome.run_id for outcome in outcomes}) == 1
    assert len(drafter.calls) == 2, "one was given up, and one of those who followed asked anew"
