"""Certify a threshold: the lowest one whose loss is at most `max_regret` with probability `confidence`.

Definitions, formulas and the traps avoided: docs/certificates.md. Pure: no I/O, no clock; standard library only, but
for regret with unlabelled traffic (numpy, orchestrator/quality/certification/known_coverage.py).
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import compress

from orchestrator.intervals import binomial_cdf, relative_entropy
from orchestrator.quality.certification.advice import advise, guarantee_in_words
from orchestrator.quality.certification.sample import SHOWN_EACH_SIDE, Found, Sample, keeps
from orchestrator.quality.certification.traffic import Traffic
from orchestrator.quality.records import Certificate, Loss, Record, Tested

CANDIDATES = 50


def certify(
    records: Sequence[Record],
    *,
    max_regret: float,
    confidence: float = 0.90,
    loss: Loss = "regret",
    seed: int = 0,
    traffic: Sequence[float] | None = None,
    drafts_first: bool = True,
    reference: str = "label",
    attempt: int = 0,
) -> Certificate:
    """The lowest threshold that keeps `loss` at or below `max_regret` with probability `confidence`, over redraws.

    loss="regret": P(accepted, draft worse than validator); every distinct score is a candidate.
    loss="selective": P(wrong | accepted); candidates are quantiles of `traffic`, or of a fifth of the records, set
    aside by `seed`.

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
    _check(records, max_regret, confidence, loss, attempt)
    delta = (1.0 - confidence) * 2.0**-attempt
    generator = random.Random(seed)
    kept = keeps(records, generator)
    sample = Sample([*compress(records, kept)], loss)
    thinned_away = [r.score for r, keep in zip(records, kept, strict=True) if not keep]
    others = None if traffic is None else Traffic.of([*traffic, *thinned_away])
    if others is not None:
        others.require_same_population(sample)
    aside = 0
    if loss == "selective":
        if others is None:
            sample, others = _set_aside(sample, generator)
            aside = others.n
        found = fixed_sequence(sample, others, max_regret, delta)
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


def every_score(sample: Sample, tolerance: float, delta: float) -> Found:
    """Regret: the p-value only grows as the threshold falls, so that the end of the walk is found by bisection."""
    ends = range(len(sample.levels))

    def p_value(i: int) -> float:
        return _p_value(sample, sample.accepted[i], sample.n, tolerance)

    end = bisect_left(ends, True, key=lambda i: p_value(i) > delta)
    return _found(sample, sample.levels, end, p_value, "every score")


def fixed_sequence(sample: Sample, others: Traffic, tolerance: float, delta: float) -> Found:
    """Selective error: candidates from safe to permissive, fixed by scores whose labels the test does not see."""
    candidates = _quantiles(others, sample.n, tolerance, delta)

    def p_value(i: int) -> float:
        accepted = sample.accepted_at(candidates[i])
        return _p_value(sample, accepted, accepted, tolerance)

    end = next((i for i in range(len(candidates)) if p_value(i) > delta), len(candidates))
    return _found(sample, candidates, end, p_value, "fixed sequence of quantiles")


def p_value_of_count(count: int, n: int, tolerance: float) -> float:
    """Exact: P(Bin(n, tolerance) <= count)."""
    return binomial_cdf(count, n, tolerance) if n else 1.0


def p_value_of_sum(total: float, n: int, tolerance: float) -> float:
    """Hoeffding-Bentkus: p of "mean loss > tolerance" for n losses in [0, 1] summing to `total` (Bates et al. 2021)."""
    if n == 0:
        return 1.0
    ceiling = math.ceil(math.nextafter(total, math.inf)) if total > 0.0 else 0
    hoeffding = math.exp(-n * relative_entropy(min(total / n, tolerance), tolerance))
    return min(1.0, hoeffding, math.e * binomial_cdf(ceiling, n, tolerance))


def _p_value(sample: Sample, accepted: int, n: int, tolerance: float) -> float:
    lost = sample.lost(accepted)
    return p_value_of_count(int(lost), n, tolerance) if sample.binary else p_value_of_sum(lost, n, tolerance)


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
    return math.ceil(math.log(delta) / math.log1p(-tolerance))


def _quantiles(others: Traffic, n: int, tolerance: float, delta: float) -> list[float]:
    """The first is where two standard deviations more than ln(delta) / ln(1 - tolerance) of n records are expected to
    be accepted: fewer can't pass, even without an error."""
    levels = others.levels
    if not levels or not n:
        return []
    needed = math.log(delta) / math.log1p(-tolerance)
    first = (needed + 2.0 * math.sqrt(needed)) / n * others.n
    ranks = {math.ceil(len(levels) * j / CANDIDATES) for j in range(1, CANDIDATES + 1)}
    return sorted({levels[rank - 1] for rank in ranks if rank >= first}, reverse=True)


def _set_aside(sample: Sample, generator: random.Random) -> tuple[Sample, Traffic]:
    """A fifth of the records, whose scores fix the candidates and whose labels are not looked at."""
    shuffled = list(sample.records)
    generator.shuffle(shuffled)
    aside = len(shuffled) // 5
    return Sample(shuffled[aside:], sample.loss), Traffic.of([r.score for r in shuffled[:aside]])


def _found(
    sample: Sample, candidates: Sequence[float], end: int, p_value: Callable[[int], float], method: str
) -> Found:
    """The walk over `candidates` passed those before `end`; a few on either side are shown."""
    shown = range(max(0, end - 1 - SHOWN_EACH_SIDE), min(len(candidates), end + SHOWN_EACH_SIDE))
    tested = []
    for i in shown:
        accepted = sample.accepted_at(candidates[i])
        tested.append(Tested(
            threshold=candidates[i], accepted=accepted, loss=sample.lost(accepted), p_value=p_value(i), passed=i < end,
        ))
    exact = "exact binomial" if sample.binary else "Hoeffding-Bentkus"
    last = candidates[end - 1] if end else None
    return Found(
        threshold=last, p_value=p_value(end - 1) if end else None, method=f"{exact}, {method}", tested=tuple(tested)
    )


def _certificate(
    sample: Sample, found: Found, *, max_regret: float, confidence: float, delta: float, given: int, thinned: int,
    aside: int, traffic: int, drafts_first: bool, reference: str,
) -> Certificate:
    n = sample.n
    accepted = 0 if found.threshold is None else sample.accepted_at(found.threshold)
    advice = advise(sample, found.threshold, accepted, max_regret, delta, drafts_first=drafts_first)
    measured = [v for r, v in zip(sample.records, sample.validators, strict=True) if r.validator_ok is not None]
    room = 1.0 if sample.loss == "regret" else 1.0 - max_regret
    return Certificate(
        threshold=found.threshold, recommendation=advice.recommendation, reasons=advice.reasons,
        guarantee=guarantee_in_words(found.threshold, sample.loss, max_regret, confidence, n, reference),
        loss=sample.loss, max_regret=max_regret, confidence=confidence, delta=delta, given=given, n=n,
        traffic=traffic, accepted=accepted, regretted=float(sample.lost(accepted)),
        coverage=accepted / n if n else 0.0, p_value=found.p_value, base_loss=sample.base,
        least_escalation=max(0.0, (sample.base - max_regret) / room), cost_ratio=advice.cost_ratio,
        drafts_first=drafts_first, draft_accuracy=math.fsum(sample.drafts) / n if n else None,
        validator_accuracy=math.fsum(measured) / len(measured) if measured else None, method=found.method,
        computed_from=_computed_from(given, thinned, aside, n, len(measured), traffic, reference),
        tested=found.tested,
    )


def _computed_from(given: int, thinned: int, aside: int, n: int, measured: int, traffic: int, reference: str) -> str:
    text = f"{n} records, right or wrong by {reference}"
    if thinned:
        text += f"; {given - thinned} of {given} kept after thinning to equal propensity"
    if aside:
        text += f"; {aside} set aside to fix the candidates"
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
