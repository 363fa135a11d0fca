"""Certify a threshold: the lowest one whose loss is at most `max_regret` with probability `confidence`.

Definitions, formulas and the traps avoided: docs/certificates.md. Pure: standard library only, no I/O, no clock.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.intervals import binomial_cdf, relative_entropy
from orchestrator.quality.advice import advise, guarantee_in_words, mean
from orchestrator.quality.records import Certificate, Loss, Record, Tested

CANDIDATES = 50
SHOWN_EACH_SIDE = 3


def certify(
    records: Sequence[Record],
    *,
    max_regret: float,
    confidence: float = 0.90,
    loss: Loss = "regret",
    seed: int = 0,
    candidate_scores: Sequence[float] | None = None,
    reference: str = "label",
    attempt: int = 0,
) -> Certificate:
    """The lowest threshold that keeps `loss` at or below `max_regret` with probability `confidence`, over redraws.

    loss="regret": P(accepted, draft worse than validator); every distinct score is a candidate.
    loss="selective_error": P(wrong | accepted); candidates are quantiles of `candidate_scores` (scores of other,
    unlabelled traffic), or of a fifth of the records, set aside by `seed`.
    Records of unequal `propensity` are thinned to equal ones by `seed`. The `attempt`-th certificate (from 1) tried
    on overlapping records spends (1 - confidence) * 2**-attempt; 0 says that there is no other try.
    Raises ValueError for a tolerance or a confidence outside (0, 1).
    """
    _check(max_regret, confidence, loss, attempt)
    delta = (1.0 - confidence) * 2.0**-attempt
    generator = random.Random(seed)
    kept: Sequence[Record] = thin(records, generator)
    if loss == "regret":
        tested_on = kept
        candidates = sorted({r.level for r in kept if r.level is not None}, reverse=True)
    else:
        tested_on, candidates = _fix_candidates(kept, candidate_scores, max_regret, delta, generator)
    test = _Test(tested_on, loss, max_regret)
    chosen = test.walk(candidates, delta)
    return _certificate(
        test, candidates, chosen, given=len(records), kept=len(kept), confidence=confidence, delta=delta,
        reference=reference,
    )


def thin(records: Sequence[Record], generator: random.Random) -> list[Record]:
    """Keep each record with probability (least propensity / its own): what is left was seen with equal probability."""
    least = min((r.propensity for r in records), default=1.0)
    return [r for r in records if r.propensity == least or generator.random() < least / r.propensity]


def p_value_of_sum(total: float, n: int, tolerance: float) -> float:
    """Hoeffding-Bentkus: p of "mean loss > tolerance" for n losses in [0, 1] summing to `total` (Bates et al. 2021)."""
    if n == 0:
        return 1.0
    ceiling = math.ceil(math.nextafter(total, math.inf)) if total > 0.0 else 0
    hoeffding = math.exp(-n * relative_entropy(min(total / n, tolerance), tolerance))
    return min(1.0, hoeffding, math.e * binomial_cdf(ceiling, n, tolerance))


def p_value_of_count(count: int, n: int, tolerance: float) -> float:
    """Exact: P(Bin(n, tolerance) <= count)."""
    return binomial_cdf(count, n, tolerance) if n else 1.0


@dataclass(frozen=True, slots=True)
class _Span:
    """Losses of the records accepted at a threshold."""

    accepted: int
    loss: float
    p_value: float


class _Test:
    """Records sorted from the surest down, and the p-value of any threshold on them."""

    def __init__(self, records: Sequence[Record], loss: Loss, tolerance: float) -> None:
        self.records, self.loss, self.tolerance = records, loss, tolerance
        sure = sorted(((r.level, r) for r in records if r.level is not None), key=lambda pair: -pair[0])
        self.descending = [-level for level, _ in sure]
        self.losses = [r.regret if loss == "regret" else r.error for _, r in sure]
        self.binary = all(grade in (0.0, 1.0) for r in records for grade in (r.draft_ok, r.validator_grade))
        self.p_value: Callable[[float, int, float], float] = p_value_of_sum
        if self.binary:
            self.p_value = lambda total, n, tolerance: p_value_of_count(round(total), n, tolerance)

    def at(self, threshold: float) -> _Span:
        accepted = bisect_right(self.descending, -threshold)
        total = math.fsum(self.losses[:accepted])
        n = len(self.records) if self.loss == "regret" else accepted
        return _Span(accepted, total, self.p_value(total, n, self.tolerance))

    def walk(self, candidates: Sequence[float], delta: float) -> int | None:
        """The index of the last candidate that passes before the first that fails; None where the first fails.

        The regret's p-value only grows along the walk, so that its end is found by bisection.
        """
        if self.loss == "regret":
            end = bisect_left(candidates, True, key=lambda c: self.at(c).p_value > delta)
        else:
            end = next((i for i, c in enumerate(candidates) if self.at(c).p_value > delta), len(candidates))
        return end - 1 if end else None


def _fix_candidates(
    records: Sequence[Record], scores: Sequence[float] | None, tolerance: float, delta: float, generator: random.Random
) -> tuple[Sequence[Record], list[float]]:
    """Quantiles from safe to permissive, of scores whose labels the test does not see.

    The first is where two standard deviations more than ln(delta) / ln(1 - tolerance) accepted records are
    expected: fewer can't pass, even without an error.
    """
    if scores is None:
        shuffled = list(records)
        generator.shuffle(shuffled)
        aside = len(shuffled) // 5
        records, scores = shuffled[aside:], [r.score for r in shuffled[:aside]]
    levels = sorted((x for s in scores if (x := Record(s, True).level) is not None), reverse=True)
    if not levels or not records:
        return records, []
    needed = math.log(delta) / math.log1p(-tolerance)
    first = (needed + 2.0 * math.sqrt(needed)) / len(records) * len(scores)
    ranks = sorted({math.ceil(len(levels) * j / CANDIDATES) for j in range(1, CANDIDATES + 1)})
    return records, sorted({levels[rank - 1] for rank in ranks if rank >= first}, reverse=True)


def _certificate(
    test: _Test, candidates: Sequence[float], chosen: int | None, *, given: int, kept: int, confidence: float,
    delta: float, reference: str,
) -> Certificate:
    records, n = test.records, len(test.records)
    threshold = None if chosen is None else candidates[chosen]
    span = _Span(0, 0.0, 1.0) if threshold is None else test.at(threshold)
    base = mean([r.regret if test.loss == "regret" else r.error for r in records]) or 0.0
    room = 1.0 if test.loss == "regret" else 1.0 - test.tolerance
    advice = advise(records, test.loss, threshold, test.tolerance, delta)
    measured = [r for r in records if r.validator_ok is not None]
    return Certificate(
        threshold=threshold, recommendation=advice.recommendation, reasons=advice.reasons,
        guarantee=guarantee_in_words(threshold, test.loss, test.tolerance, confidence, n, reference),
        loss=test.loss, max_regret=test.tolerance, confidence=confidence, delta=delta, given=given, n=n,
        accepted=span.accepted, regretted=span.loss, coverage=span.accepted / n if n else 0.0,
        p_value=None if threshold is None else span.p_value,
        base_loss=base, least_escalation=max(0.0, (base - test.tolerance) / room), cost_ratio=advice.cost_ratio,
        draft_accuracy=mean([float(r.draft_ok) for r in records]),
        validator_accuracy=mean([r.validator_grade for r in measured]),
        method=_method(test), computed_from=_computed_from(given, kept, n, len(measured), reference),
        tested=_around(test, candidates, chosen),
    )


def _around(test: _Test, candidates: Sequence[float], chosen: int | None) -> tuple[Tested, ...]:
    """The candidates tested around the threshold: those before it passed, those after it failed."""
    last = -1 if chosen is None else chosen
    shown = range(max(0, last - SHOWN_EACH_SIDE), min(len(candidates), last + 1 + SHOWN_EACH_SIDE))
    rows = [(i, candidates[i], test.at(candidates[i])) for i in shown]
    return tuple(
        Tested(threshold=c, accepted=s.accepted, loss=s.loss, p_value=s.p_value, passed=i <= last) for i, c, s in rows
    )


def _method(test: _Test) -> str:
    p_value = "exact binomial" if test.binary else "Hoeffding-Bentkus"
    return f"{p_value}, every score" if test.loss == "regret" else f"{p_value}, fixed sequence of quantiles"


def _computed_from(given: int, kept: int, n: int, measured: int, reference: str) -> str:
    text = f"{n} records, right or wrong by {reference}"
    if kept < given:
        text += f"; {kept} of {given} kept after thinning to equal propensity"
    if n < kept:
        text += f"; {kept - n} set aside to fix the candidates"
    if measured < n:
        text += f"; validator assumed right on {n - measured}, measured on {measured}"
    return text


def _check(max_regret: float, confidence: float, loss: str, attempt: int) -> None:
    for name, share in (("max_regret", max_regret), ("confidence", confidence)):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name} is {share!r}: give a share between 0 and 1, like 0.03")
    if loss not in ("regret", "selective_error"):
        raise ValueError(f"loss is {loss!r}: give 'regret' or 'selective_error'")
    if attempt < 0:
        raise ValueError(f"attempt is {attempt!r}: count tries on overlapping records from 1, or leave it out")
