"""The SDK in the hands of callers: whatever is given as a task, and from whichever event loop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline
from orchestrator.errors import ConnectionLost, InputError, TaskError
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline
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


LOOPS = """
import asyncio, gc, os, sys
from orchestrator import Pipeline

def sockets():
    gc.collect()
    return sum(os.path.realpath(f"/proc/self/fd/{fd}").count("socket:") for fd in os.listdir("/proc/self/fd"))

with Pipeline.load(sys.argv[1], store=sys.argv[2]) as pipeline:
    for number in range(8):
        outcome = asyncio.run(pipeline.arun({"id": str(number), "input": {"text": "x"}}))
        print(outcome.calls[0].state, outcome.calls[0].error, sockets())
"""


async def test_a_loop_for_each_task_leaves_no_connection_open(tmp_path: Path) -> None:
    async with Loopback(models=("drafter",)) as server:
        path = write_pipeline(tmp_path / "p", drafter={"endpoints": [server.url]})
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", LOOPS, path, f"sqlite:///{tmp_path}/s.db",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        said, complaints = await asyncio.wait_for(child.communicate(), 120)
    lines = [line.split() for line in said.decode().splitlines()]
    assert [line[:2] for line in lines] == [["settled", "None"]] * 8
    assert complaints == b""
    assert len({line[2] for line in lines}) == 1, "as many after the last as after the first"


async def test_a_service_tries_again_what_failed_for_want_of_a_model(tmp_path: Path) -> None:
    path, store = write_pipeline(tmp_path / "p"), f"sqlite:///{tmp_path}/s.db"
    task = {"id": "t", "input": {"text": "x"}}
    clients = both([ConnectionLost("away", sent=False)] * 2 + [A, A])
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        assert [(await pipeline.arun(task)).status for _ in range(2)] == ["failed", "failed"]
    assert len(clients["drafter"].calls) == 2, "retried once, and then what had ended stood"
    async with Pipeline.load(path, store=store, clients=clients, again=("outage", "budget")) as pipeline:
        done = [await pipeline.arun(task) for _ in range(2)]
    assert [(outcome.status, outcome.resumed) for outcome in done] == [("accepted", False), ("accepted", True)]
    with pytest.raises(InputError, match="'outages' is no reason"):
        Pipeline.load(path, store=store, again=("outages",))  # type: ignore[arg-type]


async def test_a_person_answers_a_hand_off_by_the_sdk(tmp_path: Path) -> None:
    async with Pipeline.load(
        write_pipeline(tmp_path / "p", policy={**POLICY, "otherwise": "hand_off"}), store="memory:",
        clients=both(lambda _: A),
    ) as pipeline:
        outcome = await pipeline.arun({"id": "t", "input": {"text": "x"}})
        with pytest.raises(InputError, match="label"):
            await pipeline.aresolve_handoff(outcome.run_id, value={"label": 7})
        await pipeline.aresolve_handoff(outcome.run_id, value=A, reason="looked")
        again = await pipeline.arun({"id": "t", "input": {"text": "x"}})
    assert (outcome.status, again.success, again.success_source) == ("handed_off", True, "feedback")
