"""Records out of the ledger: what live traffic's own spot checks, escalations, shadow runs and labels have told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from sqlalchemy import select

from orchestrator.config.fingerprint import step_fingerprint
from orchestrator.errors import InputError
from orchestrator.quality.calibration.evidence import Evidence, Known, Place, Reference, Source, Unlabelled
from orchestrator.quality.history.recorded import RecordedDraft, read_recorded
from orchestrator.quality.history.stored_config import stored_steps
from orchestrator.store.statements import table
from orchestrator.store.tables import Config

_config = table(Config)


def from_ledger(*, mode: str | None = None) -> Source:
    """The step's own recorded drafts, made as today's are; `mode` narrows them to runs of that mode."""

    async def gather(place: Place) -> Evidence:
        step_id = place.step.config.id
        if place.asked.gate and place.step.gate_certificate is not None:
            raise InputError(
                "the ledger's drafts are those that the gate in place let through: none can be certified on them",
                hint="give --labels FILE or --spend SUM",
            )
        drafts = await recorded(place, mode)
        reached = [one for one in drafts if place.asked.gate or one.reached]
        if not reached:
            raise InputError(
                f"the ledger holds no draft of step {step_id!r}, made as today's are, that came to a rule that "
                "compares the confidence", hint="run some tasks first, or give --labels FILE or --spend SUM",
            )
        seen = [one for one in reached if one.propensity > 0.0 and one.draft_ok is not None]
        never = [one for one in reached if one.propensity == 0.0]
        known = [_known(one) for one in seen] + [_held_against(one) for one in never]
        traffic = [_unlabelled(one) for one in reached if one.propensity > 0.0 and one.draft_ok is None]
        return Evidence(
            source=f"{len(drafts)} recorded drafts", tasks=len(drafts), known=tuple(known), traffic=tuple(traffic),
            reference=_reference(seen), notes=_notes(seen, never),
        )

    return gather


async def recorded(place: Place, mode: str | None = None) -> list[RecordedDraft]:
    """Recorded drafts of the step, made as today's are. Cache hits enter no sample. A confidence that was measured
    otherwise than today's is unknown here."""
    step_id = place.step.config.id
    found = await read_recorded(place.store, place.loaded, step_id)
    found = [one for one in found if not one.from_cache and (mode is None or one.mode == mode)]
    confidence = place.step.config.confidence
    if confidence is None or confidence.fitted is not None:
        return found
    source = step_fingerprint(place.loaded, place.step)["confidence_source"]
    sources = await asyncio.to_thread(_sources, place, {one.config_id for one in found})
    other = [one for one in found if sources.get(one.config_id) != source]
    if other and len(other) == len(found):
        raise InputError(
            f"the recorded drafts were weighed by another confidence than {confidence.signal!r}, and none by it",
            hint="use `confidence: {fitted: FILE}`, which is computed from recorded numbers, or run some tasks first",
        )
    return [one for one in found if sources.get(one.config_id) == source]


async def unlabelled(place: Place, without: AbstractSet[str] = frozenset()) -> tuple[Unlabelled, ...]:
    """Recorded drafts of live traffic, for the spread of their scores alone; none of the runs `without`."""
    if not place.asked.traffic or (place.asked.gate and place.step.gate_certificate is not None):
        return ()
    try:
        drafts = await recorded(place)
    except InputError:
        return ()
    return tuple(_unlabelled(one) for one in drafts if (place.asked.gate or one.reached) and one.run_id not in without)


def _sources(place: Place, config_ids: set[str]) -> Mapping[str, str | None]:
    """The confidence source of each configuration, as its fingerprint has it."""
    c = _config.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(c.config_id, c.mode, c.body_json).where(c.pipeline == place.loaded.config.pipeline)
        )
        wanted = [(row.config_id, row.mode, row.body_json) for row in rows if row.config_id in config_ids]
    return {
        one.config_id: (one.fingerprint or {}).get("confidence_source")
        for one in stored_steps(wanted, place.step.config.id)
    }


def _known(one: RecordedDraft) -> Known:
    return Known(
        id=one.run_id, score=one.confidence, draft_ok=bool(one.draft_ok), validator_ok=one.validator_ok,
        draft_cost=one.draft_cost, validator_cost=one.validator_cost or one.alone_cost, propensity=one.propensity,
        features=one.features, meta=one.tags, at=one.ended_at,
    )


def _held_against(one: RecordedDraft) -> Known:
    """A draft that could never have been looked at counts as wrong: that bound holds whatever it was. So does one whose
    spot check got no answer, with the probability that it was drawn with: it stands for those that were not."""
    return Known(
        id=one.run_id, score=one.confidence, draft_ok=False, validator_ok=True, draft_cost=one.draft_cost,
        propensity=one.unanswered or 1.0,
        features=one.features, meta=one.tags, at=one.ended_at,
    )


def _unlabelled(one: RecordedDraft) -> Unlabelled:
    return Unlabelled(id=one.run_id, score=one.confidence, features=one.features, meta=one.tags)


def _reference(seen: Sequence[RecordedDraft]) -> Reference:
    truths = {one.truth for one in seen}
    return "label" if truths == {"label"} else "proof" if truths == {"proof"} else "validator"


def _notes(seen: Sequence[RecordedDraft], never: Sequence[RecordedDraft]) -> tuple[str, ...]:
    by_truth = {t: sum(one.truth == t for one in seen) for t in ("label", "proof", "spot_check", "validator")}
    notes = ["known by " + ", ".join(f"{t.replace('_', ' ')}: {n}" for t, n in by_truth.items() if n)] if seen else []
    if unanswered := sum(one.unanswered is not None for one in never):
        notes.append(f"{unanswered} spot checks got no answer: their drafts count as wrong")
    if blind := len(never) - unanswered:
        notes.append(
            f"{blind} drafts could never have been looked at, and count as wrong: a rule "
            "{name: spot_check, sample: 0.02, then: spot_check} would have looked at some"
        )
    return tuple(notes)
