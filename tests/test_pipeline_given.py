"""The SDK in the hands of callers: whatever is given as a task, and from whichever event loop."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline
from orchestrator.errors import InputError, TaskError
from orchestrator.portal import LoopThread
from tests.loopback import Loopback
from tests.pipelines import write_pipeline
from tests.test_pipeline import A, both

NO_TASKS: list[Any] = [
    5, None, "text", ["text"], {}, {"text": "x"}, {"input": "x"}, {"input": None}, {"input": {"text": "x"}, 3: 4},
    {"input": {"text": "x"}, "id": 1.5}, {"input": {"text": "x"}, "id": True}, {"input": {"text": "x"}, "meta": "eu"},
]


@pytest.mark.parametrize("given", NO_TASKS, ids=repr)
async def test_what_is_no_task_says_what_one_is(tmp_path: Path, given: Any) -> None:
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        with pytest.raises(TaskError, match=r"a task is|give"):
            await pipeline.arun(given)


async def test_among_many_what_is_no_task_fails_alone(tmp_path: Path) -> None:
    tasks = [x for given in NO_TASKS for x in ({"input": {"text": repr(given)}}, given)]
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        streamed = [outcome async for outcome in pipeline.amap(tasks, concurrency=4)]
        graphed = (await pipeline.graph.ainvoke({"tasks": tasks}))["outcomes"]
    for outcomes in (streamed, graphed):
        failed = [outcome for outcome in outcomes if outcome.status == "failed"]
        assert len(failed) == len(NO_TASKS)
        assert all(str(outcome.error).startswith("TaskError: ") for outcome in failed)
        assert len(outcomes) == 2 * len(NO_TASKS)
    assert [outcome.status for outcome in graphed] == ["accepted", "failed"] * len(NO_TASKS), "in the order given"


async def test_an_id_out_of_a_database_is_the_id_that_its_digits_spell(tmp_path: Path) -> None:
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        first = await pipeline.arun({"id": 5, "input": {"text": "x"}})
        again = await pipeline.arun({"id": "5", "input": {"text": "x"}})
    assert (first.id, again.run_id) == ("5", first.run_id)


async def test_a_success_is_true_or_false(tmp_path: Path) -> None:
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        outcome = await pipeline.arun({"id": "t", "input": {"text": "x"}})
        for said in ("no", "false", None, 0.5):
            with pytest.raises(InputError, match="give True or False"):
                await pipeline.arecord_outcome(outcome.run_id, success=said)  # type: ignore[arg-type]
        await pipeline.arecord_outcome(outcome.run_id, success=0)  # type: ignore[arg-type]  # as a database says it
        assert (await pipeline.arun({"id": "t", "input": {"text": "x"}})).success is False


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of asyncio: its loops ended over these connections
def test_a_loop_for_each_task_leaves_no_connection_open(tmp_path: Path) -> None:
    served = LoopThread()
    server = served.portal.call(Loopback(models=("drafter",)).__aenter__)

    def sockets() -> int:
        gc.collect()
        return sum(os.path.realpath(f"/proc/self/fd/{fd}").count("socket:") for fd in os.listdir("/proc/self/fd"))

    path = write_pipeline(tmp_path / "p", drafter={"endpoints": [server.url]})
    with Pipeline.load(path, store=f"sqlite:///{tmp_path}/s.db") as pipeline:
        def one(number: int) -> set[str]:
            outcome = asyncio.run(pipeline.arun({"id": str(number), "input": {"text": "x"}}))
            return {call.state for call in outcome.calls}

        assert one(0) == {"settled"}
        first = sockets()
        assert [one(number) for number in range(1, 8)] == [{"settled"}] * 7
        assert sockets() <= first + 2, "both ends of a connection that is closing, at most"
    served.portal.call(server.__aexit__, None, None, None)
    served.stop()
    gc.collect()  # while these warnings are ignored
