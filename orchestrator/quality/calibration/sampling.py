"""A random sample of unlabelled tasks, from a file or from what the store still keeps; the same on every try."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest
from pathlib import Path

import orjson
from sqlalchemy import select

from orchestrator.cascade.collected import CALIBRATION
from orchestrator.quality.calibration.drafting import unnamed
from orchestrator.quality.calibration.evidence import Place, place_of
from orchestrator.records import Task
from orchestrator.store.statements import table
from orchestrator.store.tables import Config, Content, Run

MOST_RECORDS = 20_000
"""More than this sharpen no threshold that anyone could tell from the one before."""

_run, _config, _content = table(Run), table(Config), table(Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTasks:
    """`tasks` in the order they are taken in; `runs` are the recorded runs of these very tasks."""

    tasks: tuple[Task, ...]
    runs: frozenset[str] = frozenset()


def sample(place: Place, path: Path | None) -> DrawnTasks:
    """Up to MOST_RECORDS tasks of the file, or of the pipeline's own runs, in the random order of the seed."""
    if path is not None:
        return DrawnTasks(tasks=tuple(_first(place, _of_file(place, path))))
    found: dict[str, tuple[Task, list[str]]] = {}
    for run_id, task in _of_store(place):
        found.setdefault(unnamed(task), (task, []))[1].append(run_id)
    chosen = _first(place, (task for task, _ in found.values()))
    return DrawnTasks(tasks=tuple(chosen), runs=frozenset(run for task in chosen for run in found[unnamed(task)][1]))


def _first(place: Place, tasks: Iterable[Task]) -> list[Task]:
    seed = place.asked.seed
    return nsmallest(MOST_RECORDS, tasks, key=lambda task: place_of(f"sample {unnamed(task)}", seed))


def _of_file(place: Place, path: Path) -> Iterator[Task]:
    from orchestrator.task_file import read

    config = place.loaded.config
    seen: set[str] = set()
    for line in read(path, task_bytes=config.limits.task_bytes, schema=place.loaded.task_schema):
        if line.task is None:
            continue
        task = replace(line.task, id=line.task.id or f"line {line.number}", expected=None)
        if (mark := unnamed(task)) not in seen:
            seen.add(mark)
            yield task


def _of_store(place: Place) -> Iterator[tuple[str, Task]]:
    """(run id, task) of this pipeline's own runs whose content is kept; calibrations are none of them."""
    r, c, f = _run.c, _content.c, _config.c
    query = (
        select(c.run_id, c.body).join(_run, r.run_id == c.run_id).join(_config, f.config_id == r.config_id)
        .where(c.kind == "task", r.pipeline == place.loaded.config.pipeline, f.mode != CALIBRATION)
    )
    if place.changed is not None:  # what came before it is no sample of today's tasks
        query = query.where(r.created_at >= place.changed.since)
    with place.store.read() as connection:
        for row in connection.execution_options(yield_per=1000).execute(query):
            said = orjson.loads(row.body)
            yield row.run_id, Task(input=said["input"], meta=said["meta"], id=said.get("id"))
