"""Certify a threshold: the lowest one whose loss is at most `max_regret` with probability `confidence`.

Definitions, formulas and the traps avoided: docs/certificates.md. Pure: no I/O, no clock; standard library only, but
for regret with unlabelled traffic (numpy, orchestrator/quality/certification/known_coverage.py).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from itertools import compress

from orchestrator.quality.certification.advice import advise, guarantee_in_words
from orchestrator.quality.certification.sample import Found, Sample, keeps
from orchestrator.quality.certification.traffic import Traffic
from orchestrator.quality.certification.walks import every_score, fixed_starts, records_needed_for
from orchestrator.quality.records import Certificate, Loss, Record

SET_ASIDE = 40
"""Records that fix where the walk for the selective error starts: enough to find a quarter of the tasks roughly."""


def certify(
    records: Iterable[Record],
    *,
    max_regret: float,
    confidence: float = 0.90,
    loss: Loss = "regret",
    seed: int = 0,
    traffic: Iterable[float] | None = None,
    drafts_first: bool = True,
    reference: str = "label",
    attempt: int = 0,
) -> Certificate:
    """The lowest threshold that keeps `loss` at or below `max_regret` with probability `confidence`, over redraws.

    loss="regret": P(accepted, draft worse than validator); every distinct score is a candidate.
    loss="selective": P(wrong | accepted); every distinct score below a start that is fixed by `traffic`, or by 40
    records (a fifth, of fewer than 200) that are set aside by `seed`.

    `traffic` are the scores (NaN: not measured) of the other tasks of the stream that the records were taken from,
    those whose label was not seen. It tells how many tasks a threshold accepts, which sharpens a bound on regret; it
    is not used with grades between 0 and 1. Where every record has the same propensity, scores of any other tasks of
    the same population do as well.
    `drafts_first` False: a gate before the draft, whose escalated tasks pay no draft. Only the costs differ.
    Records of unequal `propensity` are thinned to equal ones by `seed`. The `attempt`-th certificate (from 1) tried
    on overlapping records spends (1 - confidence) * 2**-attempt; 0 says that there is no other try.

    Raises ValueError for a tolerance or a confidence outside (0, 1), for what is no record or no score, and for
    traffic that is plainly of another population; ImportError where traffic needs numpy and there is none.
    """
    records = list(records)
    _check(records, max_regret, confidence, loss, attempt)
    delta = (1.0 - confidence) * 2.0**-attempt
    generator = random.Random(seed)
    kept = keeps(records, generator)
    given = list(compress(records, kept))
    if loss == "selective":
        generator.shuffle(given)  # neither what is set aside nor the order of bets is up to who wrote the records down
    sample = Sample(given, loss)
    thinned_away = [r.score for r, keep in zip(records, kept, strict=True) if not keep]
    others = None if traffic is None else Traffic.of([*traffic, *thinned_away])
    if others is not None:
        others.require_same_population(sample)
    aside = 0
    if loss == "selective":
        if others is None or not others.n:
            sample, others = _set_aside(sample)
            aside = others.n
        found = fixed_starts(sample, others, max_regret, delta)
    elif others is not None and others.n and sample.binary and sample.n >= _needed(max_regret, delta):
        found = _known_coverage(sample, others, max_regret, delta)
    else:
        others, found = None, every_score(sample, max_regret, delta)
    return _certificate(
        sample, found, max_regret=max_regret, confidence=confidence, delta=delta, given=len(records),
        thinned=len(thinned_away), aside=aside, traffic=others.n if others is not None and not aside else 0,
        drafts_first=drafts_first, reference=reference,
    )


def records_needed(max_regret: float, confidence: float = 0.90) -> int:
    """Fewer labelled records than this certify nothing, even without a single loss: ln(delta) / ln(1 - max_regret)."""
    _check((), max_regret, confidence, "regret", 0)
    return _needed(max_regret, 1.0 - confidence)


def _known_coverage(sample: Sample, others: Traffic, tolerance: float, delta: float) -> Found:
    try:
        from orchestrator.quality.certification.known_coverage import known_coverage
    except ImportError as error:
        raise ImportError(
            "traffic sharpens a bound on regret with numpy, which is not installed: pip install 'draftgate[quality]', "
            "or leave traffic out"
        ) from error
    return known_coverage(sample, others, tolerance, delta)


def _needed(tolerance: float, delta: float) -> int:
    return math.ceil(records_needed_for(tolerance, delta))


def _set_aside(sample: Sample) -> tuple[Sample, Traffic]:
    """A few records, whose scores fix where the walk starts and whose labels are not looked at."""
    aside = min(SET_ASIDE, sample.n // 5)
    fixing, tested = sample.records[:aside], sample.records[aside:]
    return Sample(tested, sample.loss), Traffic.of([r.score for r in fixing])


def _certificate(
    sample: Sample, found: Found, *, max_regret: float, confidence: float, delta: float, given: int, thinned: int,
    aside: int, traffic: int, drafts_first: bool, reference: str,
) -> Certificate:
    n = sample.n
    accepted = 0 if found.threshold is None else sample.accepted_at(found.threshold)
    advice = advise(sample, found.threshold, accepted, max_regret, delta, drafts_first=drafts_first)
    measured = [v for r, v in zip(sample.records, sample.validators, strict=True) if r.validator_ok is not None]
    asked, wrong = sample.validator_among(accepted)
    room = 1.0 if sample.loss == "regret" else 1.0 - max_regret
    return Certificate(
        threshold=found.threshold, recommendation=advice.recommendation, reasons=advice.reasons,
        guarantee=guarantee_in_words(found.threshold, sample.loss, max_regret, confidence, n, reference),
        loss=sample.loss, max_regret=max_regret, confidence=confidence, delta=delta, given=given, n=n,
        traffic=traffic, accepted=accepted, regretted=float(sample.lost(accepted)),
        coverage=accepted / n if n else 0.0, p_value=found.p_value, base_loss=sample.base,
        least_escalation=max(0.0, (sample.base - max_regret) / room), cost_ratio=advice.cost_ratio,
        drafts_first=drafts_first, draft_accuracy=math.fsum(sample.drafts) / n if n else None,
        validator_accuracy=math.fsum(measured) / len(measured) if measured else None, validator_asked=asked,
        validator_wrong=wrong, method=found.method,
        computed_from=_computed_from(given, thinned, aside, n, len(measured), traffic, reference),
        tested=found.tested,
    )


def _computed_from(given: int, thinned: int, aside: int, n: int, measured: int, traffic: int, reference: str) -> str:
    text = f"{n} records, right or wrong by {reference}"
    if thinned:
        text += f"; {given - thinned} of {given} kept after thinning to equal propensity"
    if aside:
        text += f"; {aside} set aside to fix where the walk starts"
    if traffic:
        text += f"; {traffic} unlabelled scores"
    if measured < n:
        text += f"; validator assumed right on {n - measured}, measured on {measured}"
    return text


def _check(records: Sequence[Record], max_regret: float, confidence: float, loss: str, attempt: int) -> None:
    for name, share in (("max_regret", max_regret), ("confidence", confidence)):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name} is {share!r}: give a share between 0 and 1, like 0.03")
    if loss not in ("regret", "selective"):
        raise ValueError(f"loss is {loss!r}: give 'regret' or 'selective'")
    if attempt < 0:
        raise ValueError(f"attempt is {attempt!r}: count tries on overlapping records from 1, or leave it out")
    for i, record in enumerate(records):
        if not isinstance(record, Record):
            raise ValueError(f"records[{i}] is {record!r}: give an orchestrator.quality.Record")
