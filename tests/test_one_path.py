"""Invariant 1: whatever the door, a task takes the one graph, and models are asked in one place only."""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.batch import RunOptions, arun_file
from orchestrator.cascade.run import Run, Stage
from orchestrator.graph import IN_A_STEP
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline, write_tasks

PACKAGE = Path(__file__).resolve().parent.parent / "orchestrator"
Door = Callable[[Path, Path], Awaitable[None]]


def scripted(config: object) -> ScriptedModel:
    """What `use: python:tests.test_one_path:scripted` builds."""
    return ScriptedModel(lambda _: {"label": "a"})


async def by_arun(path: Path, folder: Path) -> None:
    async with Pipeline.load(path, store="memory:") as pipeline:
        await pipeline.arun(Task(input={"text": "x"}))


async def by_amap(path: Path, folder: Path) -> None:
    async with Pipeline.load(path, store="memory:") as pipeline:
        assert [o.value async for o in pipeline.amap([Task(input={"text": "x"})])] == [{"label": "a"}]


async def by_graph(path: Path, folder: Path) -> None:
    async with Pipeline.load(path, store="memory:") as pipeline:
        await pipeline.graph.ainvoke({"tasks": [Task(input={"text": "x"})]})


async def by_node(path: Path, folder: Path) -> None:
    async with Pipeline.load(path, store="memory:") as pipeline:
        await pipeline.as_node(input="ticket", output="label").ainvoke({"ticket": {"text": "x"}})


async def by_file(path: Path, folder: Path) -> None:
    tasks = write_tasks(folder / "tasks.jsonl", 1)
    await arun_file(RunOptions(pipeline=path, tasks=tasks, out=folder / "out.jsonl", store="memory:", yes=True))


@pytest.mark.parametrize("door", [by_arun, by_amap, by_graph, by_node, by_file])
async def test_every_door_leads_through_the_same_nodes(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Stage] = []
    for stage, work in list(IN_A_STEP.items()):
        monkeypatch.setitem(IN_A_STEP, stage, _watched(stage, work, seen))
    model = {"use": "python:tests.test_one_path:scripted", "endpoints": []}
    path = write_pipeline(
        tmp_path / "p", drafter=model, validator=model, allow_imports=["tests.test_one_path"]
    )
    await door(path, tmp_path)
    assert seen == [Stage.SCREEN, Stage.RECALL, Stage.DRAFT, Stage.WEIGH, Stage.DECIDE]


def _watched(stage: Stage, work: Any, seen: list[Stage]) -> Any:
    async def watched(runs: list[Run], step: Any, rt: Any) -> None:
        seen.append(stage)
        await work(runs, step, rt)

    return watched


def test_models_are_asked_in_one_place_only() -> None:
    """`check --live` asks local endpoints whether they give log-probabilities, `drafter bench` what its server can do;
    no task is involved there."""
    places = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "complete"
    }
    assert places == {"cascade/calls.py", "check/live.py", "models/bench.py"}
