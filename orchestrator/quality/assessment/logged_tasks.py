"""Logged requests as tasks of a pipeline: a sample of them drafted, each draft compared with the logged answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.schema import validator
from orchestrator.errors import ConfigError, InputError
from orchestrator.quality.assessment.left_out import BREAKS_SCHEMA, LeftOut
from orchestrator.quality.assessment.request_logs import (
    NO_ANSWER,
    NO_PLAIN_TEXT,
    BadLine,
    LoggedRequest,
    NotALog,
    as_json,
    read_logs,
)
from orchestrator.quality.assessment.seen import Seen, View
from orchestrator.quality.calibration.bills import Bills, bills
from orchestrator.quality.calibration.drafting import Drafted, draft_all
from orchestrator.quality.calibration.evidence import Known, Place, place_of
from orchestrator.records import Json, Money, Task

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedStep

Filling = Callable[[LoggedRequest], dict[str, Json]]
"""A task's input of a logged request. Raises NotALog where it gives none."""
MESSAGE = 200
"""Characters shown of what the schema says of an answer."""


async def seen_in_logs(place: Place, path: Path, sample: int) -> View:
    """Drafts of `sample` requests of the log, drawn at random. Raises InputError where no line can be used, ConfigError
    where the step can't take what a log holds."""
    fill, how = _filling(place)
    left_out = LeftOut()
    chosen = await asyncio.to_thread(_sample, place, path, sample, fill, left_out)
    if not chosen:
        why = "; ".join([f"{str(path)!r} has no line that can be assessed", *left_out.notes()])
        raise InputError(why, hint="docs/assess.md shows the forms that are read")
    by_task = {task.id: logged for logged, task in chosen}
    drafted, problems = await draft_all(place, [task for _, task in chosen])
    paid = await bills(place, [one.collected.run_id for one in drafted])
    seen = tuple(_seen(one, by_task[_line(one)], place, paid) for one in drafted)
    if not seen:
        raise InputError(f"not one of {len(chosen)} requests could be drafted: {(problems or ['see the ledger'])[0]}")
    notes = [how] if how else []
    if problems:
        notes.append(f"{len(problems)} requests are no task of this pipeline, and in no figure: {problems[0]}")
    if undrafted := sum(not one.known.features for one in seen):
        notes.append(f"{undrafted} requests got no draft: they count as wrong, and go to the validator")
    notes += [*paid.notes, *left_out.notes()]
    if unpriced := sum(one.known.validator_cost is None for one in seen):
        notes.append(f"{unpriced} of the logged requests have neither a cost nor usage that the price book prices")
    return View(
        source=f"{len(chosen)} requests drawn from {path.name}", seen=seen, notes=tuple(notes),
        own_cost="what the logged request did, with the prompt that it had",
        kept=sum(one.collected.resumed for one in drafted), lines_left_out=left_out.counts,
        bad_lines=tuple(left_out.lines),
    )


def _sample(
    place: Place, path: Path, sample: int, fill: Filling, left_out: LeftOut
) -> list[tuple[LoggedRequest, Task]]:
    """The same on every try: by a digest of each line's number."""
    seed = place.asked.seed
    return nsmallest(
        sample, _usable(place, path, fill, left_out), key=lambda pair: place_of(f"log {pair[0].number}", seed)
    )


def _usable(place: Place, path: Path, fill: Filling, left_out: LeftOut) -> Iterator[tuple[LoggedRequest, Task]]:
    read = _reading(place.step)
    for line in read_logs(path):
        if isinstance(line, BadLine):
            left_out.add(line)
            continue
        try:
            task = Task(id=f"{path.name}:{line.number}", input=fill(line), expected=read(line.answer))
        except NotALog as error:
            left_out.add(BadLine(line.number, str(error), error.kind))
            continue
        yield line, task


def _reading(step: LoadedStep) -> Callable[[str], Json]:
    """What an answer says, as the step would. Raises NotALog where it says nothing, or what can equal no draft: what
    breaks the output schema, unless the user's own `compare` may read it otherwise."""
    schema = step.output_schema
    if schema is None:
        return lambda answer: answer
    valid = None if ":" in step.config.compare else validator(schema)

    def read(answer: str) -> Json:
        value = as_json(answer)
        if value is None:
            raise NotALog("the answer is null", NO_ANSWER)
        broken = next(valid.iter_errors(value), None) if valid is not None else None
        if broken is not None:
            raise NotALog(broken.message[:MESSAGE], BREAKS_SCHEMA)
        return value

    return read


def _filling(place: Place) -> tuple[Filling, str]:
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


def _only_text(schema: Mapping[str, Json] | None) -> str | None:
    """The one required property of a task's input, where that is a string."""
    given = (schema or {}).get("properties", {}).get("input", {})
    required = given.get("required", [])
    if len(required) != 1 or given.get("properties", {}).get(required[0], {}).get("type") != "string":
        return None
    return str(required[0])


def _last_user(line: LoggedRequest) -> str:
    said = _plain(next((one.get("content") for one in reversed(line.messages) if one["role"] == "user"), None))
    if not said.strip():
        raise NotALog("there is no user message of plain text", NO_PLAIN_TEXT)
    return said


def _plain(content: Json) -> str:
    """A message's text, its parts a line each; empty where a part is none: an image or a recording is asked about."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    return "\n".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else ""


def _line(one: Drafted) -> str:
    """The task's own id, which the calibration's leads on to: `calibration:MARK:ID:DIGEST`."""
    return str(one.id).rpartition(":")[0]


def _seen(one: Drafted, logged: LoggedRequest, place: Place, paid: Bills) -> Seen:
    collected = one.collected
    drafted = collected.undrafted is None
    reached = drafted and collected.reached
    return Seen(
        known=Known(
            id=one.id, score=collected.score, draft_ok=bool(collected.draft_ok),
            draft_cost=paid.costs.get(collected.run_id), validator_cost=_frontier_cost(logged, place),
            features=one.kept.features, meta=collected.task.meta,
        ),
        reached=reached,
        accepted_anyway=drafted and not reached and one.kept.action in ("accept", "spot_check"),
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

