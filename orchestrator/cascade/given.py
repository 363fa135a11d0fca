"""Tasks as callers give them: one, or many as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.cascade.run import Run, Stage, new_id
from orchestrator.errors import TaskError
from orchestrator.records import Task

KEYS = ("id", "input", "meta", "expected")


def as_task(task: Task | Mapping[str, Any]) -> Task:
    """A Task, or one made of a mapping with `input` and, optionally, `id`, `meta`, `expected`. An id that is a whole
    number, as databases have them, becomes its digits. Raises TaskError for what is no task."""
    if not isinstance(task, Task):
        unknown = sorted(map(str, set(task) - set(KEYS))) if isinstance(task, Mapping) else None
        if unknown is None or unknown or "input" not in task:
            wrong = f"unknown keys {unknown!r}" if unknown else f"{task!r} has no 'input'"
            raise TaskError(f"{wrong}: a task is {{'input': {{…}}}} and optionally 'id', 'meta', 'expected'")
        task = Task(input=task["input"], id=task.get("id"), meta=task.get("meta") or {}, expected=task.get("expected"))
    if isinstance(task.id, int) and not isinstance(task.id, bool):
        task = replace(task, id=str(task.id))
    if task.id is not None and not isinstance(task.id, str):
        raise TaskError(f"id is {task.id!r}: give a string")
    for name, part in (("input", task.input), ("meta", task.meta)):
        if not isinstance(part, Mapping):
            raise TaskError(f"{name} is {part!r}: give an object")
    return task


def run_of(task: Task | Mapping[str, Any], now: float, *, collect_at: int | None = None) -> Run:
    """A new run of a task; of what is no task, one that is over before it begins, so that others beside it go on."""
    run_id = new_id("r", now)
    try:
        taken = as_task(task)
    except TaskError as error:
        return Run(task=Task(input={}), run_id=run_id, stage=Stage.DONE, error=error)
    return Run(task=taken, run_id=run_id, collecting=collect_at is not None, collect_at=collect_at or 0)


def each_made(
    tasks: AsyncIterable[Task | Mapping[str, Any]] | Iterable[Task | Mapping[str, Any]],
    make: Callable[[Task | Mapping[str, Any]], Run],
) -> AsyncIterable[Run] | Iterable[Run]:
    """A run of each task, made when it is asked for."""
    if not isinstance(tasks, AsyncIterable):
        return (make(task) for task in tasks)

    async def each(live: AsyncIterable[Task | Mapping[str, Any]]) -> AsyncGenerator[Run, None]:
        async for task in live:
            yield make(task)

    return each(tasks)
