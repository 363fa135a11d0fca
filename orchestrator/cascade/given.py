"""Tasks as callers give them: one, or many as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import Any

from orchestrator.cascade.run import Run
from orchestrator.errors import TaskError
from orchestrator.records import Task


def as_task(task: Task | Mapping[str, Any]) -> Task:
    """A Task as it is, or one made of a mapping with `input` and, optionally, `id`, `meta`, `expected`."""
    if isinstance(task, Task):
        return task
    unknown = set(task) - {"id", "input", "meta", "expected"}
    if unknown or not isinstance(task.get("input"), Mapping):
        wrong = f"unknown keys {sorted(unknown)!r}" if unknown else f"input is {task.get('input')!r}"
        raise TaskError(f"{wrong}: a task is {{'input': {{…}}}} and optionally 'id', 'meta', 'expected'")
    return Task(
        input=task["input"], id=task.get("id"), meta=task.get("meta") or {}, expected=task.get("expected")
    )


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
