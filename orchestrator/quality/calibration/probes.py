"""A few drafts sent to the validator as the step would send them: a price of escalations before there are any."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.quality.calibration.drafting import Drafted
from orchestrator.quality.calibration.escalation_price import FEWEST, reading_modes, recorded_escalations
from orchestrator.quality.calibration.evidence import Place, place_of
from orchestrator.records import Money, Task
from orchestrator.store.copies import copy_id, named_in

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedPipeline

PROBES = 20
"""Twice what a mean is taken of: some verdicts may come without a price."""


async def priced_escalations(place: Place, drafted: Sequence[Drafted]) -> tuple[Money, ...]:
    """What recorded escalations cost; where there are too few, some of the drafts that came to the rule are escalated
    for that, PROBES at most: out of the less sure half, for those are the ones that will be. Durable, as drafts are."""
    found = await recorded_escalations(place)
    if len(found) >= FEWEST or not reading_modes(place.step):
        return found
    from orchestrator.pipeline import Pipeline

    tasks = [_named(one, place) for one in _unsure(drafted, place)]
    async with (
        Pipeline(
            _escalating(place.loaded), store=place.store, clients=place.clients, mode="cascade", calibrating=True
        ) as pipeline,
        contextlib.aclosing(pipeline.amap(tasks, concurrency=place.concurrency)) as outcomes,
    ):
        with place.bars("pricing escalations", len(tasks)) as done:
            async for _ in outcomes:
                done()
    return await recorded_escalations(place)


def _unsure(drafted: Sequence[Drafted], place: Place) -> list[Drafted]:
    reached = sorted(
        (one for one in drafted if one.counts(False)),
        key=lambda one: (-1.0, 0.0) if one.collected.score is None else (0.0, one.collected.score),
    )
    half = reached[: max(PROBES, len(reached) // 2)]
    return sorted(half, key=lambda one: place_of(f"price {one.id}", place.asked.seed))[:PROBES]


def _named(one: Drafted, place: Place) -> Task:
    own = named_in(str(one.collected.task.id))
    return replace(one.collected.task, id=copy_id("priced", place.marks.draft, own))


def _escalating(loaded: LoadedPipeline) -> LoadedPipeline:
    """With no threshold to be sure by: what would be compared with one escalates."""
    steps = tuple(
        replace(step, confidence=replace(step.confidence, problem="escalations are being priced"))
        for step in loaded.steps
    )
    return replace(loaded, steps=steps, config=loaded.config.model_copy(update={"certificate_lapsed": "escalate"}))
