"""What the cascade saves against the measured baseline: the validator alone, on the same tasks.

The tasks are drawn at random, so the pairs are a sample: the mean difference of their costs has an interval. Whether
the cheaper answers were as good is compared where something other than the validator judges both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from orchestrator.finance.cost import cost_per_success, exact_units
from orchestrator.finance.error_price import error_priced
from orchestrator.finance.pairs import PairRow
from orchestrator.finance.records import Judged, Savings, Side
from orchestrator.finance.success import Cell
from orchestrator.intervals import Interval, beta_quantile, bounded_mean, clopper_pearson
from orchestrator.records import Money

ENOUGH = 200
"""Pairs from which the mean of costs of two kinds, accepted and escalated, is near normal (benchmarks/paired.py)."""
UNJUDGED = (
    "costs only: nothing but the validator could say whether both answers were as good, and it does not judge itself"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """An interval of a mean difference, by the method named."""

    low: float
    high: float
    method: Literal["student", "bounded"]


def savings_of(
    rows: Sequence[PairRow], currency: str, *, left_out: int = 0, confidence: float = 0.95,
    error_price: Money | None = None,
) -> Savings | None:
    """None where no pair was measured: nothing is saved against a baseline that nobody measured."""
    n = sum(row.pairs for row in rows)
    if n == 0:
        return None
    cascade, alone = sum(row.cascade.cost for row in rows), sum(row.alone.cost for row in rows)
    found = mean_difference(rows, confidence)
    judged = _judged([row for row in rows if row.judge is not None], currency, confidence, error_price)
    return Savings(
        currency=currency, pairs=n, left_out=left_out, cascade=Money(nano=cascade, currency=currency),
        baseline=Money(nano=alone, currency=currency), per_run=exact_units(Fraction(alone - cascade, n)),
        low=None if found is None else exact_units(found.low), high=None if found is None else exact_units(found.high),
        method=None if found is None else found.method, judged=judged, note="" if judged else UNJUDGED,
    )


def mean_difference(rows: Sequence[PairRow], confidence: float) -> Difference | None:
    """The interval of the mean of (baseline - cascade), billionths a run, in the long run.

    Student's t where there are at least 200 pairs and the differences are not too skewed for it (Cochran 1977, 2.15:
    n > 25 x skewness squared); otherwise bounds that hold for any differences between what was reserved on either
    side. None where that is not known.
    """
    n = sum(row.pairs for row in rows)
    mean = sum(row.alone.cost - row.cascade.cost for row in rows) / n
    second = max(0.0, sum(row.d2 for row in rows) / n - mean**2)
    third = sum(row.d3 for row in rows) / n - 3.0 * mean * second - mean**3
    if n >= ENOUGH and (second <= 1e-12 * mean**2 or n > 25.0 * third**2 / second**3):
        width = student_quantile(0.5 + confidence / 2.0, n - 1) * math.sqrt(second / (n - 1))
        return Difference(mean - width, mean + width, "student")
    bounds, alone = [row.cascade.bound for row in rows], [row.alone.bound for row in rows]
    if None in bounds or None in alone:
        return None
    most = float(max(bound for bound in bounds if bound is not None))
    span = most + float(max(bound for bound in alone if bound is not None))
    if span <= 0.0 or not -most <= mean <= span - most:
        return None
    found = bounded_mean(n, mean + most, second * n / max(1, n - 1), span, confidence)
    return Difference(found.low - most, found.high - most, "bounded")


def student_quantile(p: float, freedom: int) -> float:
    """t with P(T <= t) = p for Student's T, p > 1/2: T squared is a ratio whose quantile is the beta distribution's."""
    x = beta_quantile(2.0 * (1.0 - p), freedom / 2.0, 0.5)
    return math.sqrt(freedom * (1.0 - x) / x)


def _judged(
    rows: Sequence[PairRow], currency: str, confidence: float, error_price: Money | None
) -> Judged | None:
    n = sum(row.pairs for row in rows)
    if n == 0:
        return None
    unknown = sum(row.pairs for row in rows if row.alone.success is None)
    low = rate_difference(rows, confidence, alone=True).low
    high = rate_difference(rows, confidence, alone=False).high
    ahead = sum(row.pairs * (bool(row.cascade.success) - bool(row.alone.success)) for row in rows)
    price = error_price if error_price is not None and error_price.currency == currency else None
    return Judged(
        pairs=n, by={judge: sum(row.pairs for row in rows if row.judge == judge)
                     for judge in ("label", "proof", "feedback") if any(row.judge == judge for row in rows)},
        cascade=_side([row.cascade for row in rows], currency, confidence, price),
        baseline=_side([row.alone for row in rows], currency, confidence, price),
        difference=None if unknown else ahead / n, low=low, high=high,
    )


def rate_difference(rows: Sequence[PairRow], confidence: float, *, alone: bool) -> Interval:
    """The interval of the cascade's rate of success less the baseline's, the baseline taken for `alone` where unknown.

    Square-and-add (Zou and Donner 2008) of the exact limits of the two shares of pairs that differ, which are shares of
    one multinomial and so negatively correlated.
    """
    n = sum(row.pairs for row in rows)
    better = sum(r.pairs for r in rows if r.cascade.success and not _taken(r, alone))
    worse = sum(r.pairs for r in rows if not r.cascade.success and _taken(r, alone))
    p, q = better / n, worse / n
    of_p, of_q = clopper_pearson(better, n, confidence), clopper_pearson(worse, n, confidence)
    together = -math.sqrt(p * q / ((1.0 - p) * (1.0 - q))) if p < 1.0 and q < 1.0 else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 + y**2 - 2.0 * together * x * y))

    return Interval(
        max(-1.0, p - q - reach(p - of_p.low, of_q.high - q)), min(1.0, p - q + reach(of_p.high - p, q - of_q.low))
    )


def _taken(row: PairRow, unknown: bool) -> bool:
    return unknown if row.alone.success is None else row.alone.success


def _side(cells: Sequence[Cell], currency: str, confidence: float, price: Money | None) -> Side:
    spent = sum(cell.cost for cell in cells)
    return Side(
        successes=sum(cell.runs for cell in cells if cell.success),
        unknown=sum(cell.runs for cell in cells if cell.success is None),
        served=sum(cell.runs for cell in cells if cell.served), cost=Money(nano=spent, currency=currency),
        per_success=cost_per_success(spent, cells, confidence=confidence),
        with_errors=None if price is None else error_priced(price, spent, cells, confidence=confidence),
    )
