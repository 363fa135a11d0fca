"""Draft tasks through the pipeline's own graph, up to the rule that compares; have the validator answer them alone.

Both are durable under ids of the calibration's own, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import select

from orchestrator.canonical import stable
from orchestrator.cascade.signals.features import features_from_json
from orchestrator.config.expression_names import reads_gate
from orchestrator.config.fingerprint import draft_fingerprint, fingerprint_digest, step_fingerprint
from orchestrator.errors import InputError
from orchestrator.quality.calibration.elsewhere import Decided, Elsewhere, counted
from orchestrator.quality.calibration.evidence import Asked, Marks, Place
from orchestrator.records import Features, Json, Outcome, Task
from orchestrator.store.copies import copy_id, named_in
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import Content, StepRow

if TYPE_CHECKING:
    from orchestrator.cascade.collected import Collected
    from orchestrator.config.loaded import LoadedPipeline, LoadedStep
    from orchestrator.store.lapses import Change

MARK_DIGITS = 16
SENT_ON = frozenset({"context_overflow", "draft_failed"})
"""Rules by which a task that got no draft goes to the validator in service; a calibration stops there."""
_step, _content = table(StepRow), table(Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the store holds of a draft: its numbers, what it said (None where its content went), what was decided."""

    features: Features
    value: Json = None
    action: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A task and its draft, if it got one. `id` is the record's: the task's own, without the configuration's mark."""

    id: str
    collected: Collected
    kept: Kept

    def counts(self, gate: bool) -> bool:
        """Did it come to what is calibrated: the rule that compares the confidence, or the gate."""
        if gate:
            return bool(self.kept.features)
        return self.collected.reached and self.collected.undrafted is None


def named(tasks: Iterable[Task], place: Place) -> Iterable[Task]:
    """The tasks under ids of this calibration: the same configuration goes on where it stopped, another one drafts
    anew, and so does a task whose content or label changed."""
    return (replace(task, id=copy_id("calibration", place.marks.draft, unnamed(task))) for task in tasks)


def unnamed(task: Task) -> str:
    """The task's id, and a digest of its content and label."""
    return _with_digest(task, {"input": task.input, "meta": task.meta, "expected": task.expected})


def record_id(task: Task) -> str:
    """What a record of this task is known by from one calibration to the next, whatever its label."""
    return _with_digest(task, {"input": task.input, "meta": task.meta})


def _with_digest(task: Task, content: Mapping[str, Json]) -> str:
    return f"{task.id or ''}:{hashlib.blake2b(stable(content), digest_size=8).hexdigest()}"


def validated_id(place: Place, drafted_id: str) -> str:
    """The id under which the validator answers a task alone. Known by what it is asked: a new rule or confidence needs
    no new validation."""
    return copy_id("validated", place.marks.validation, named_in(drafted_id))


def marks_of(
    loaded: LoadedPipeline, step: LoadedStep, asked: Asked, changes: Sequence[Change] = ()
) -> Marks:
    """Under what the drafts and validations of this configuration are known in the store: other ones after each of the
    `changes` that revoked a certificate of the step, for nobody knows whether drafter, validator or tasks changed.

    A gate is calibrated on tasks that no gate has sorted. A fitted confidence is applied to recorded numbers, so that
    a new fit needs no new drafts.
    """
    found = dict(step_fingerprint(loaded, step))
    validation = {**draft_fingerprint(found), "step": step.config.id}
    confidence = step.config.confidence
    if asked.gate:
        found.pop("gate", None)
    if confidence is not None and confidence.fitted is not None:
        found["confidence_source"] = "fitted"
    draft = {**found, "features": ",".join(step.features), "step": step.config.id}
    since: list[dict[str, str]] = [{}, *({"since": f"{nth}: {one.since!r}"} for nth, one in enumerate(changes))]
    return Marks(
        draft=_short(draft | since[-1]), validation=_short(validation | since[-1]),
        earlier=tuple(_short(draft | one) for one in since[:-1]),
    )


def _short(fingerprint: Mapping[str, str]) -> str:
    return fingerprint_digest(fingerprint).removeprefix("sha256:")[:MARK_DIGITS]


async def drafts(place: Place, tasks: AsyncIterable[Task] | Iterable[Task]) -> AsyncGenerator[Collected, None]:
    """Tasks (under their calibration's ids) as they are drafted. Nothing is validated or served."""
    from orchestrator.pipeline import Pipeline

    async with (
        Pipeline(
            _asked_anew(place), store=place.store, clients=place.clients, mode="cascade", calibrating=True
        ) as pipeline,
        contextlib.aclosing(
            pipeline.collect(tasks, step=place.step.config.id, concurrency=place.concurrency)
        ) as collected,
    ):
        async for one in collected:
            yield one


async def validations(
    place: Place, tasks: AsyncIterable[Task] | Iterable[Task]
) -> AsyncGenerator[tuple[str, Outcome], None]:
    """Each task (under its calibration's id) answered by the validator alone: (that id, the outcome)."""
    from orchestrator.pipeline import Pipeline

    asked: dict[str, str] = {}

    def alone(task: Task) -> Task:
        own = validated_id(place, str(task.id))
        asked[own] = str(task.id)
        return replace(task, id=own)

    async with (
        Pipeline(
            _ungated(_asked_anew(place)), store=place.store, clients=place.clients, mode="validate_only",
            calibrating=True,
        ) as pipeline,
        contextlib.aclosing(pipeline.amap(_each(tasks, alone), concurrency=place.concurrency)) as outcomes,
    ):
        async for outcome in outcomes:
            yield asked[str(outcome.id)], outcome


def _asked_anew(place: Place) -> LoadedPipeline:
    """Without the cache, where a certificate was revoked: what it holds may have been answered before the change."""
    config = place.loaded.config
    return replace(place.loaded, config=config.model_copy(update={"cache": None})) if place.changes else place.loaded


def _ungated(loaded: LoadedPipeline) -> LoadedPipeline:
    """Without the rules that go by a gate: one that is not certified yet may hand a task to a person."""
    steps = tuple(
        replace(step, policy=step.policy.model_copy(update={
            "before": [rule for rule in step.policy.before if rule.when is None or not reads_gate(rule.when)],
        }))
        for step in loaded.steps
    )
    return replace(loaded, steps=steps)


def _each(tasks: AsyncIterable[Task] | Iterable[Task], make: Any) -> AsyncIterable[Task] | Iterable[Task]:
    if not isinstance(tasks, AsyncIterable):
        return (make(task) for task in tasks)
    live = tasks

    async def each() -> AsyncIterator[Task]:
        async for task in live:
            yield make(task)

    return each()


async def draft_all(place: Place, tasks: Sequence[Task]) -> tuple[list[Drafted], list[str]]:
    """(tasks with their drafts, why others were not taken), for tasks that all are to be drafted."""
    ids: dict[str, str] = {}
    own: list[Task] = []
    for task, under in zip(tasks, named(tasks, place), strict=True):
        if str(under.id) not in ids:
            ids[str(under.id)] = record_id(task)
            own.append(under)
    collected: list[Collected] = []
    with place.bars("drafting", len(own)) as done:
        async with contextlib.aclosing(drafts(place, own)) as each:
            async for one in each:
                collected.append(one)
                done()
    return await with_kept(place, collected, ids), [one.problem for one in collected if one.problem]


async def with_kept(place: Place, collected: Sequence[Collected], ids: Mapping[str, str]) -> list[Drafted]:
    """What was collected, with what the store holds of each draft: no numbers where a task got none."""
    kept = await asyncio.to_thread(_kept_of, place, [one.run_id for one in collected if one.run_id])
    return [
        Drafted(id=ids[str(one.task.id)], collected=one, kept=kept.get(one.run_id, Kept(features={})))
        for one in collected if one.run_id
    ]


async def validate_all(place: Place, drafted: Sequence[Drafted]) -> dict[str, Outcome]:
    """The validator's own answers to these tasks, by the ids they were drafted under."""
    tasks = [one.collected.task for one in drafted]
    answers: dict[str, Outcome] = {}
    with place.bars("validating", len(tasks)) as done:
        async with contextlib.aclosing(validations(place, tasks)) as each:
            async for task_id, outcome in each:
                answers[task_id] = outcome
                done()
    return answers


def _kept_of(place: Place, run_ids: Sequence[str]) -> dict[str, Kept]:
    """What the store holds of the drafts of these runs, by run id."""
    step_id, names = place.step.config.id, place.step.features
    found: dict[str, Kept] = {}
    with place.store.read() as connection:
        for some in chunks(run_ids):
            said = {
                row.run_id: orjson.loads(row.body)
                for row in connection.execute(
                    select(_content.c.run_id, _content.c.body)
                    .where(among(_content.c.run_id), _content.c.kind == f"draft:{step_id}"), {"among": some}
                )
            }
            for row in connection.execute(
                select(_step.c.run_id, _step.c.features_json, _step.c.action, _step.c.rule)
                .where(among(_step.c.run_id), _step.c.step == step_id), {"among": some}
            ):
                numbers = features_from_json(row.features_json, names)
                found[row.run_id] = Kept(
                    features=numbers, value=said.get(row.run_id), action=row.action, rule=row.rule
                )
    return found


def decided_elsewhere(drafted: Iterable[Drafted], place: Place) -> Elsewhere:
    """What becomes in service of those that did not come to what is calibrated; a gate stands before all else."""
    if place.asked.gate:
        return {}
    return counted(_decided(one) for one in drafted if not one.counts(False))


def _decided(one: Drafted) -> Decided | None:
    """None of a step that was skipped. A calibration drafts what a gate stops; in service nobody pays for that."""
    before, kept = one.collected.undrafted, one.kept
    if before is not None:
        return Decided(before.action, before.rule or "", drafted=False)
    if kept.rule in SENT_ON:
        return Decided("escalate", kept.rule, drafted=False)
    return None if kept.action is None else Decided(kept.action, kept.rule or "", drafted=bool(kept.features))


def refused(errors: Sequence[str]) -> InputError:
    """Tasks that could not be taken, said together."""
    shown = "; ".join(errors[:3]) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
    return InputError(f"{len(errors)} tasks can't be taken: {shown}")
