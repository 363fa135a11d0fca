"""Logged requests as tasks of a pipeline: a sample of them drafted, each draft compared with the logged answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, InputError
from orchestrator.quality.assessment.request_logs import BadLine, LoggedRequest, NotALog, as_json, read_logs
from orchestrator.quality.assessment.seen import Seen, View
from orchestrator.quality.calibration.drafting import Drafted, draft_all
from orchestrator.quality.calibration.evidence import Known, Place, place_of
from orchestrator.records import Money, Task

SHOWN = 20
"""Bad lines that are kept with their reason; the others are counted."""


async def seen_in_logs(place: Place, path: Path, sample: int) -> View:
    """Drafts of `sample` requests of the log, drawn at random. Raises InputError where no line can be used, ConfigError
    where the step can't take what a log holds."""
    fill, how = _filling(place)
    bad: list[BadLine] = []
    chosen = await asyncio.to_thread(_sample, place, path, sample, fill, bad)
    if not chosen:
        first = f": {bad[0].why} (line {bad[0].number})" if bad else ""
        hint = "docs/assess.md shows the forms that are read"
        raise InputError(f"{str(path)!r} has no line that can be assessed{first}", hint=hint)
    by_task = {task.id: logged for logged, task in chosen}
    drafted, problems = await draft_all(place, [task for _, task in chosen])
    seen = tuple(_seen(one, by_task[_line(one)], place) for one in drafted)
    if not seen:
        raise InputError(f"not one of {len(chosen)} requests could be drafted: {(problems or ['see the ledger'])[0]}")
    notes = [how] if how else []
    if problems:
        notes.append(f"{len(problems)} requests are no task of this pipeline, and in no figure: {problems[0]}")
    if undrafted := sum(not one.known.features for one in seen):
        notes.append(f"{undrafted} requests got no draft: they count as wrong, and go to the validator")
    if bad:
        notes.append(f"{len(bad)} lines left out; line {bad[0].number}: {bad[0].why}")
    if unpriced := sum(one.known.validator_cost is None for one in seen):
        notes.append(f"{unpriced} of the logged requests have neither a cost nor usage that the price book prices")
    return View(
        source=f"{len(chosen)} requests drawn from {path.name}", seen=seen, notes=tuple(notes),
        bad_lines=tuple(bad[:SHOWN]),
    )


def _sample(
    place: Place, path: Path, sample: int, fill: Any, bad: list[BadLine]
) -> list[tuple[LoggedRequest, Task]]:
    """The same on every try: by a digest of each line's number."""
    seed = place.asked.seed
    return nsmallest(
        sample, _usable(place, path, fill, bad), key=lambda pair: place_of(f"log {pair[0].number}", seed)
    )


def _usable(place: Place, path: Path, fill: Any, bad: list[BadLine]) -> Iterator[tuple[LoggedRequest, Task]]:
    structured = place.step.output_schema is not None
    for line in read_logs(path):
        if isinstance(line, BadLine):
            bad.append(line)
            continue
        try:
            answer = as_json(line.answer) if structured else line.answer
            if answer is None:
                raise NotALog("the answer is null")
            given = fill(line)
        except NotALog as error:
            bad.append(BadLine(line.number, str(error)))
            continue
        yield line, Task(id=f"{path.name}:{line.number}", input=given, expected=answer)


def _filling(place: Place) -> tuple[Any, str]:
    """(what makes a task's input of a logged request, what is to be said of it)."""
    step, loaded = place.step, place.loaded
    if step.prompt is None:
        return (lambda line: {"messages": [dict(one) for one in line.messages]}), ""
    name = _only_text(loaded.task_schema)
    if name is None:
        raise ConfigError(
            f"step {step.config.id!r} has a prompt of its own, and its task is not one text: a logged request can't be "
            "turned into it", file=str(loaded.path), key="task",
            hint="leave `prompt:` out, so that the logged messages are sent as they are; or name a `task:` schema "
            "whose input requires one string alone",
        )
    return (lambda line: {name: _last_user(line)}), (
        f"the last user message of each request became input.{name}; the pipeline's own prompt stands around it, and "
        "not what else the logged request said"
    )


def _only_text(schema: Mapping[str, Any] | None) -> str | None:
    """The one required property of a task's input, where that is a string."""
    given = (schema or {}).get("properties", {}).get("input", {})
    required = given.get("required", [])
    if len(required) != 1 or given.get("properties", {}).get(required[0], {}).get("type") != "string":
        return None
    return str(required[0])


def _last_user(line: LoggedRequest) -> str:
    said = next((one.get("content") for one in reversed(line.messages) if one["role"] == "user"), None)
    if not isinstance(said, str) or not said.strip():
        raise NotALog("there is no user message of plain text")
    return said


def _line(one: Drafted) -> str:
    """The task's own id, which the calibration's leads on to: `calibration:MARK:ID:DIGEST`."""
    return str(one.id).rpartition(":")[0]


def _seen(one: Drafted, logged: LoggedRequest, place: Place) -> Seen:
    collected = one.collected
    reached = collected.reached and not collected.gated
    return Seen(
        known=Known(
            id=one.id, score=collected.score, draft_ok=bool(collected.draft_ok), draft_cost=collected.cost,
            validator_cost=_frontier_cost(logged, place), features=one.kept.features, meta=collected.task.meta,
        ),
        reached=reached,
        accepted_anyway=not reached and not collected.gated and one.kept.action in ("accept", "spot_check"),
    )


def _frontier_cost(logged: LoggedRequest, place: Place) -> Money | None:
    """What the log says, else its usage at the price of the pipeline's validator."""
    if logged.cost is not None:
        return logged.cost
    validator, book = place.step.config.validate_, place.loaded.book
    if logged.usage is None or validator is None or book is None:
        return None
    model = place.loaded.config.models[validator.model]
    now = datetime.fromtimestamp(place.now().timestamp(), UTC)
    names: Sequence[str | None] = (model.target, model.price)
    entry = next((found for name in names if name and (found := book.entry(name, now)) is not None), None)
    return entry.cost(logged.usage) if entry is not None else None

