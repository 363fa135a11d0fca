"""Shadow runs as an assessment sees them: drafted and decided on live traffic, served by the validator."""

from __future__ import annotations

from orchestrator.errors import InputError
from orchestrator.quality.assessment.seen import Seen, View
from orchestrator.quality.calibration.evidence import Known, Place
from orchestrator.quality.calibration.from_ledger import recorded
from orchestrator.quality.history.recorded import RecordedDraft


async def seen_in_shadow(place: Place) -> View:
    """The ledger's shadow runs of the step, made as today's drafts are. Raises InputError where there are none."""
    drafts = await recorded(place, "shadow")
    known = [one for one in drafts if one.draft_ok is not None]
    if not known:
        raise InputError(
            f"the ledger holds no shadow run of pipeline {place.loaded.config.pipeline!r}, made as today's are, that "
            "the validator answered", hint="run tasks with `mode: shadow`, or give a log: assess LOGS.jsonl",
        )
    notes = [] if len(known) == len(drafts) else [f"{len(drafts) - len(known)} drafts have no answer to compare with"]
    return View(
        source=f"{len(drafts)} shadow runs", seen=tuple(_seen(one) for one in known), notes=tuple(notes),
    )


def _seen(one: RecordedDraft) -> Seen:
    return Seen(
        known=Known(
            id=one.run_id, score=one.confidence, draft_ok=bool(one.draft_ok), validator_ok=one.validator_ok,
            draft_cost=one.draft_cost, validator_cost=one.alone_cost, features=one.features,
            meta=one.tags, at=one.ended_at,
        ),
        reached=one.reached,
    )
