"""Records out of the ledger: what live traffic's own spot checks, escalations, shadow runs and labels have told."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from orchestrator.cascade.again import RULES, Reason
from orchestrator.config.fingerprint import step_fingerprint
from orchestrator.errors import InputError
from orchestrator.quality.calibration.bills import with_cut_off
from orchestrator.quality.calibration.elsewhere import Decided
from orchestrator.quality.calibration.evidence import (
    Evidence,
    Known,
    Place,
    Reference,
    Source,
    Traffic,
    Unlabelled,
    place_of,
)
from orchestrator.quality.calibration.guarantees import require
from orchestrator.quality.calibration.priced import alone
from orchestrator.quality.calibration.revoked import Span, span_of
from orchestrator.quality.history.numbers import Numbers
from orchestrator.quality.history.recorded import RecordedDraft, hear_recorded
from orchestrator.quality.history.stored_config import stored_steps
from orchestrator.records import Json, Money
from orchestrator.store.statements import table
from orchestrator.store.tables import Config

_config = table(Config)
_NONE: Mapping[str, Any] = {}
_WANTING: Mapping[Reason, str] = {"budget": "a budget was spent", "outage": "a model was out"}
_NOT_DONE = frozenset(rule for rules in RULES.values() for rule in rules)
"""What stands for a rule where that which the policy decided could not be done."""


def from_ledger(*, mode: str | None = None, since: float | None = None, until: float | None = None) -> Source:
    """The step's own recorded drafts, made as today's are; `mode` narrows them to runs of that mode, and `since` and
    `until` to those that ended in [since, until), in epoch seconds. Where a certificate of the step was revoked, they
    count by default from when that change began."""

    async def gather(place: Place) -> Evidence:
        step_id = place.step.config.id
        if place.asked.gate and place.step.gate.certificate is not None:
            raise InputError(
                "the ledger's drafts are those that the gate in place let through: none can be certified on them",
                hint="give --labels FILE or --spend SUM",
            )
        span = span_of(place, since, until)
        heard = Heard(place, span)
        drafts = await _hear(place, heard, mode, undrafted=not place.asked.gate) - heard.left_out
        if not heard.reached and heard.left_out:
            require(0, "records of the ledger", place.asked, why=span.why(heard.left_out))
        if not heard.reached:
            raise InputError(
                f"the ledger holds no draft of step {step_id!r}, made as today's are, that came to a rule that "
                "compares the confidence", hint="run some tasks first, or give --labels FILE or --spend SUM",
            )
        known, escalations = alone((*heard.seen, *heard.never), (*heard.verdicts, *(None for _ in heard.never)))
        known, cut_off = await with_cut_off(place, known, heard.cut_off)
        return Evidence(
            source=f"{drafts} recorded drafts{span.words}", tasks=drafts, known=known, escalations=escalations,
            traffic=tuple(heard.traffic), reference=heard.reference,
            notes=(*span.notes(heard.left_out), *heard.notes(), *cut_off), elsewhere=heard.elsewhere,
            came=heard.reached, fewer=span.why(heard.left_out),
        )

    return gather


@dataclass(slots=True)
class Heard:
    """What of each recorded draft is kept: its numbers and tags only where a confidence is fitted to them; `left_out`
    counts those outside the `span`. `verdicts` are the costs of those on `seen` drafts, where one was given. Of those
    `never` seen, `unanswered` had a spot check that failed, `waiting` have one to be made, and `refused` were sent on,
    by what was wanting then. `cut_off`: the runs in which a call of the validation was."""

    place: Place
    span: Span = field(default_factory=Span)
    left_out: int = 0
    reached: int = 0
    seen: list[Known] = field(default_factory=list)
    verdicts: list[Money | None] = field(default_factory=list)
    cut_off: set[str] = field(default_factory=set)
    never: list[Known] = field(default_factory=list)
    traffic: list[Unlabelled] = field(default_factory=list)
    truths: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    waiting: int = 0
    refused: Counter[Reason] = field(default_factory=Counter)
    elsewhere: Counter[Decided] = field(default_factory=Counter)

    def __call__(self, one: RecordedDraft) -> None:
        if one.ended_at not in self.span:
            self.left_out += bool(one.features)
            return
        if not (self.place.asked.gate or one.reached):
            if one.action is not None and one.rule not in _NOT_DONE and one.mode != "validate_only":
                self.elsewhere[Decided(one.action, one.rule or "", drafted=bool(one.features))] += 1
            return
        self.reached += 1
        if one.propensity == 0.0:
            self.waiting += one.waits
            self.unanswered += one.unanswered is not None and one.action == "spot_check" and not one.waits
            if one.refused is not None:
                self.refused[one.refused] += 1
            self.never.append(_held_against(one, self.place))
        elif one.draft_ok is not None:
            self.truths[one.truth or ""] += 1
            self.seen.append(_known(one, self.place))
            self.verdicts.append(_verdict(one))
            if one.validator_cost is None and one.alone_cost is None and one.validator_bound is not None:
                self.cut_off.add(one.run_id)
        elif self.place.asked.traffic and _takes_part(one, self.place):
            self.traffic.append(_unlabelled(one, self.place))

    @property
    def reference(self) -> Reference:
        truths = set(self.truths)
        return "label" if truths == {"label"} else "proof" if truths == {"proof"} else "validator"

    def notes(self) -> tuple[str, ...]:
        told = [(who, self.truths[who]) for who in ("label", "proof", "spot_check", "validator")]
        notes = []
        if self.seen:
            notes.append("known by " + ", ".join(f"{who.replace('_', ' ')}: {n}" for who, n in told if n))
        if self.unanswered:
            notes.append(f"{self.unanswered} spot checks got no answer: their drafts count as wrong")
        if self.waiting:
            notes.append(
                f"{self.waiting} spot checks are still to be made: their drafts count as wrong until they are. The "
                "next run makes them, once there is room"
            )
        notes.extend(self._refused(reason, n) for reason, n in sorted(self.refused.items()))
        if blind := len(self.never) - self.unanswered - self.waiting - self.refused.total():
            notes.append(
                f"{blind} drafts could never have been looked at, and count as wrong: no rule "
                "{name: spot_check, sample: 0.02, then: spot_check} looked at any like them, or what would have could "
                "not, or an earlier version did not log with what probability"
            )
        return tuple(notes)

    def _refused(self, reason: Reason, count: int) -> str:
        """Which calls a budget refuses depends on how large they are, and which an outage lets fail on how long they
        take: of the drafts that were seen, these are no sample."""
        command = shlex.join(["orchestrator", "run", str(self.place.loaded.path), "TASKS", "--again", reason])
        return (
            f"{count} drafts were sent on and then refused ({_WANTING[reason]}): nobody saw them, and they count as "
            f"wrong until their tasks are done again, by `{command}`"
        )


async def recorded(place: Place, mode: str | None = None) -> list[RecordedDraft]:
    """Recorded drafts of the step, made as today's are; of runs in this `mode` only, where one is given. Cache hits
    enter no sample. A confidence that was measured otherwise than today's is unknown here."""
    found: list[RecordedDraft] = []
    await _hear(place, found.append, mode)
    return found


async def _hear(
    place: Place, hear: Callable[[RecordedDraft], None], mode: str | None = None, *, undrafted: bool = False
) -> int:
    """The same, told one by one, with the runs in which nothing was drafted if `undrafted`; how many drafts there were.
    Raises InputError where all were weighed by another confidence."""
    confidence = place.step.config.confidence
    raw = confidence is not None and confidence.fitted is None
    sources = await asyncio.to_thread(_sources, place) if raw else {}
    source = step_fingerprint(place.loaded, place.step)["confidence_source"]
    told = other = 0

    def mine(one: RecordedDraft) -> None:
        nonlocal told, other
        if one.from_cache or (mode is not None and one.mode != mode):
            return
        if raw and sources.get(one.config_id) != source:
            other += bool(one.features)
            return
        told += bool(one.features)
        hear(one)

    await hear_recorded(place.store, place.loaded, place.step.config.id, mine, undrafted=undrafted)
    if confidence is not None and other and not told:
        raise InputError(
            f"the recorded drafts were weighed by another confidence than {confidence.signal!r}, and none by it",
            hint="use `confidence: {fitted: FILE}`, which is computed from recorded numbers, or run some tasks first",
        )
    return told


async def unlabelled(place: Place, without: AbstractSet[str] = frozenset()) -> Traffic:
    """Recorded drafts of live traffic since the last change, for the spread of their scores alone; none of the runs
    `without`."""
    if not place.asked.traffic or (place.asked.gate and place.step.gate.certificate is not None):
        return Traffic()
    found: list[Unlabelled] = []
    span, before = span_of(place), 0

    def hear(one: RecordedDraft) -> None:
        nonlocal before
        if not (place.asked.gate or one.reached) or one.run_id in without:
            return
        if one.ended_at not in span:
            before += 1
        elif _takes_part(one, place):
            found.append(_unlabelled(one, place))

    try:
        await _hear(place, hear)
    except InputError:
        return Traffic()
    return Traffic(drafts=tuple(found), left_out=before)


def _sources(place: Place) -> Mapping[str, str | None]:
    """The confidence source of each configuration, as its fingerprint has it."""
    c = _config.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(c.config_id, c.mode, c.body_json).where(c.pipeline == place.loaded.config.pipeline)
        )
        wanted = [(row.config_id, row.mode, row.body_json) for row in rows]
    return {
        one.config_id: (one.fingerprint or {}).get("confidence_source")
        for one in stored_steps(wanted, place.step.config.id)
    }


def _known(one: RecordedDraft, place: Place) -> Known:
    return Known(
        id=one.run_id, score=one.confidence, draft_ok=bool(one.draft_ok), validator_ok=one.validator_ok,
        draft_cost=one.draft_cost, validator_cost=one.alone_cost if _verdict(one) else one.validator_cost,
        propensity=one.propensity, features=_numbers(one, place), meta=_tags(one, place), at=one.ended_at,
        run=one.run_id,
    )


def _verdict(one: RecordedDraft) -> Money | None:
    """What judging or repairing the draft cost, with a redo after it; None where the validator did the task alone."""
    return one.validator_cost if one.action == "escalate" and one.validator_cost != one.alone_cost else None


def _held_against(one: RecordedDraft, place: Place) -> Known:
    """A draft that could never have been looked at counts as wrong: that bound holds whatever it was. So does one whose
    look was drawn and gave no answer, with the probability of that draw: it stands for those that were not drawn."""
    return Known(
        id=one.run_id, score=one.confidence, draft_ok=False, validator_ok=True, draft_cost=one.draft_cost,
        propensity=one.unanswered or 1.0, features=_numbers(one, place), meta=_tags(one, place), at=one.ended_at,
        run=one.run_id,
    )


def _takes_part(one: RecordedDraft, place: Place) -> bool:
    """Of traffic the same share is set apart as of the records that a confidence is fitted on."""
    return not place.fits or place_of(f"fit {one.run_id}", place.asked.seed) >= place.asked.fit_share


def _unlabelled(one: RecordedDraft, place: Place) -> Unlabelled:
    """There is one for most runs of a ledger. Its id is asked for where a share is set apart, and nowhere else."""
    return Unlabelled(
        id=one.run_id if place.fits else "", score=one.confidence, features=_numbers(one, place),
        meta=_tags(one, place),
    )


def _numbers(one: RecordedDraft, place: Place) -> Mapping[str, float | None]:
    return Numbers(one.features) if place.fits else _NONE


def _tags(one: RecordedDraft, place: Place) -> Mapping[str, Json]:
    return one.tags if place.fits and one.tags else _NONE
