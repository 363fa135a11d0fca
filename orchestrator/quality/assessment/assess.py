"""`orchestrator assess`: what a cascade would save, from logs of what the frontier model answered, or from shadow runs.

logs -> a sample -> drafts on the one path -> compare -> a threshold certified on one half -> measured on the other

Nothing is validated: the logged answers are the reference. Nothing is written but the drafts, in the store. An
escalation costs what the ledger's recorded ones do, or what it is estimated to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.errors import ConfigError, InputError
from orchestrator.quality.assessment.logged_tasks import seen_in_logs
from orchestrator.quality.assessment.recommendation import Recommended, could_accept, recommend
from orchestrator.quality.assessment.request_logs import BadLine
from orchestrator.quality.assessment.savings import Measured, Served, measure
from orchestrator.quality.assessment.seen import Seen, View
from orchestrator.quality.assessment.shadow_runs import seen_in_shadow
from orchestrator.quality.calibration.calibrate import opened
from orchestrator.quality.calibration.drafting import marks_of
from orchestrator.quality.calibration.escalation_price import (
    EscalationPrice,
    escalation_price,
    left_out,
    recorded_escalations,
)
from orchestrator.quality.calibration.evidence import Asked, Bars, Known, Place, as_records, no_bars, place_of
from orchestrator.quality.calibration.fitting import fitted_on
from orchestrator.quality.calibration.guarantees import needed, require
from orchestrator.quality.calibration.priced import with_escalations_priced
from orchestrator.quality.records import Certificate, Loss, Record
from orchestrator.records import Money

if TYPE_CHECKING:
    from orchestrator.config.loader import LoadedPipeline, LoadedStep
    from orchestrator.models.client import ModelClient
    from orchestrator.store.engine import Store

SAMPLE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a cascade would do. `certificate` is of one part of the drafts, `measured` on another. `drafts_right` is the
    share of all drafts that agree with the frontier model's answers. Nothing of it is put to use.

    `could_accept` is an outlook: the share of the drafts certified on that a threshold could accept within the bound
    by hindsight. `escalation` is the price of one, None where it is the validator's own answer or is not known;
    `own_cost` says what stands for the cost of that answer, where the ledger does not hold it. `lines_left_out` counts
    them by the kind of reason, and `bad_lines` are the first. `kept` of the drafts were in the store before."""

    pipeline: str
    source: str
    drafted: int
    drafts_right: float
    certificate: Certificate
    measured: Measured
    recommendation: Recommended
    why: str
    could_accept: float
    own_cost: str = ""
    escalation: EscalationPrice | None = None
    notes: tuple[str, ...] = ()
    lines_left_out: Mapping[str, int] = field(default_factory=dict)
    bad_lines: tuple[BadLine, ...] = ()
    kept: int = field(default=0, compare=False)

    @property
    def words(self) -> str:
        """For the screen: figures first, the recommendation last."""
        from orchestrator.quality.assessment.assessment_words import words

        return words(self)


async def assess(
    pipeline: str | Path | LoadedPipeline, logs: Path | None = None, *, sample: int = SAMPLE, max_regret: float = 0.03,
    confidence: float = 0.90, loss: Loss = "regret", store: str | Store, seed: int = 0, concurrency: int = 64,
    clients: Mapping[str, ModelClient] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    bars: Bars = no_bars,
) -> Assessment:
    """Draft `sample` requests of the log (or read the ledger's shadow runs, where there is none), certify a threshold
    on one half of the drafts, and measure what it saves on the other.

    Raises InputError where the log can't be used or holds too little, ConfigError where the pipeline can't take it.
    """
    from orchestrator.config.loader import load_pipeline

    loaded = load_pipeline(pipeline) if isinstance(pipeline, str | Path) else pipeline
    step = _step(loaded)
    asked = Asked(max_regret=max_regret, confidence=confidence, loss=loss, seed=seed)
    async with opened(store) as at:
        place = Place(
            loaded=loaded, step=step, store=at, asked=asked, marks=marks_of(loaded, step, asked), clients=clients,
            concurrency=concurrency, now=now, bars=bars,
        )
        view = await (seen_in_shadow(place) if logs is None else seen_in_logs(place, logs, sample))
        recorded = await recorded_escalations(place)
    return _assessed(place, view, recorded)


def _assessed(place: Place, view: View, recorded: Sequence[Money]) -> Assessment:
    scored, notes = _scored(place, view.seen)
    certify_on = [one for one in scored if place_of(f"assess {one.known.id}", place.asked.seed) < 0.5]
    chosen = {one.known.id for one in certify_on}
    measure_on = [one for one in scored if one.known.id not in chosen]
    reached = [one.known for one in certify_on if one.reached]
    try:
        require(len(reached), f"of {len(view.seen)} drafts, the half that is certified on and reached the rule,",
                place.asked)
    except InputError as error:  # few lines tell something, too: say what they do
        raise InputError(f"{error}\n{_seen_words(view)}", hint=error.hint) from None
    certificate = _certified(place, reached)
    if not measure_on:
        raise InputError("no draft is left to measure on", hint=f"bring more: {2 * needed(place.asked)} or so at least")
    price = _price(place, scored, measure_on, certificate.threshold, recorded)
    measured = measure([_served(one, certificate.threshold, price) for one in measure_on])
    unpriced = left_out(place.step)
    certificate = with_escalations_priced(certificate, reached, price, unpriced)
    recommendation, why = recommend(certificate, measured, price, unpriced)
    return Assessment(
        pipeline=place.loaded.config.pipeline, source=view.source, drafted=len(view.seen),
        drafts_right=sum(one.known.draft_ok for one in view.seen) / len(view.seen), certificate=certificate,
        measured=measured, recommendation=recommendation, why=why,
        could_accept=could_accept(_records(reached), place.asked.loss, place.asked.max_regret), own_cost=view.own_cost,
        escalation=price, notes=(*view.notes, *notes), lines_left_out=view.lines_left_out, bad_lines=view.bad_lines,
        kept=view.kept,
    )


def _seen_words(view: View) -> str:
    right = sum(one.known.draft_ok for one in view.seen)
    return "\n".join([f"drafts that agree with the answers that were given: {right} of {len(view.seen)}", *view.notes])


def _scored(place: Place, seen: Sequence[Seen]) -> tuple[Sequence[Seen], tuple[str, ...]]:
    """The drafts with their confidence. One that is fitted and fits today's drafts is applied; where there is none yet,
    it is fitted on a share of the drafts, which then are in no figure."""
    confidence = place.step.config.confidence
    if confidence is None or confidence.fitted is None:
        return seen, ()
    artefact: Mapping[str, Any] | None = place.step.confidence.fitted
    rest: Sequence[Seen] = seen
    notes: tuple[str, ...] = ()
    if artefact is None or "lapsed" in (place.step.confidence.problem or ""):
        to_fit = [one for one in seen if place_of(f"fit {one.known.id}", place.asked.seed) < place.asked.fit_share]
        found = fitted_on(place, [one.known for one in to_fit if one.reached])
        chosen = {one.known.id for one in to_fit}
        rest = [one for one in seen if one.known.id not in chosen]
        artefact, notes = found.body(), tuple(found.words.splitlines())
    apply = FittedConfidence(artefact)
    return [
        replace(one, known=replace(one.known, score=apply.of(one.known.features, one.known.meta))) for one in rest
    ], notes


def _certified(place: Place, known: Sequence[Known]) -> Certificate:
    from orchestrator.quality.certification.thresholds import certify

    asked = place.asked
    return certify(
        _records(known), max_regret=asked.max_regret, confidence=asked.confidence, loss=asked.loss, seed=asked.seed,
        reference="validator",
    )


def _records(known: Sequence[Known]) -> list[Record]:
    return as_records(known, [one.score for one in known])


def _price(
    place: Place, scored: Sequence[Seen], measure_on: Sequence[Seen], threshold: float | None,
    recorded: Sequence[Money],
) -> EscalationPrice | None:
    """Of a draft that is escalated, by those that are measured on; by all of these where each is accepted."""
    drafted = [one for one in measure_on if one.known.features]
    escalated = [one for one in drafted if not _accepted(one, threshold)] or drafted
    return escalation_price(place, [one.known for one in scored], [one.known for one in escalated], recorded)


def _accepted(one: Seen, threshold: float | None) -> bool:
    sure = threshold is not None and one.known.score is not None and one.known.score >= threshold
    return one.accepted_anyway or (one.reached and sure)


def _served(one: Seen, threshold: float | None, price: EscalationPrice | None) -> Served:
    """A task without a draft is the validator's alone, whatever the mode."""
    known, accepted = one.known, _accepted(one, threshold)
    return Served(
        accepted=accepted, regretted=accepted and not known.draft_ok, draft_cost=known.draft_cost,
        validator_cost=known.validator_cost, times=price.times if price is not None and known.features else 1.0,
    )


def _step(loaded: LoadedPipeline) -> LoadedStep:
    if len(loaded.steps) > 1:
        raise ConfigError(
            f"pipeline {loaded.config.pipeline!r} has {len(loaded.steps)} steps: a log tells the truth of one",
            file=str(loaded.path), key="steps", hint="assess a pipeline of the one step that the logged requests are",
        )
    step = loaded.steps[0]
    if step.config.confidence is None:
        raise ConfigError(
            f"step {step.config.id!r} has no `confidence:` to choose a threshold of", file=str(loaded.path),
            key="confidence", hint="confidence: {from: logprob.mean, certificate: certificates/NAME.json}",
        )
    return step
