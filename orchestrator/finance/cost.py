"""Cost per successful outcome: all that was spent, failures included, over the runs that succeeded.

The figure is an exact quotient of integers; its interval follows docs/cost.md: log-delta where the numbers are
large enough, otherwise the box of two exact intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from orchestrator.finance.success import Cell, Tally, tally
from orchestrator.intervals import Interval, bounded_mean, normal_quantile

Method = Literal["log-delta", "box"]
ENOUGH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPerSuccess:
    """`value`, `low` and `high` in currency units. A None is not known, and `note` says why.

    `qualifier` is "at least" where a cost is missing from the sum, "at most" where runs of unknown success count as
    none; with both, nothing can be said and `value` is None.
    """

    value: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    method: Method | None = None
    qualifier: Literal["", "at least", "at most"] = ""
    note: str = ""

    @property
    def per_thousand(self) -> Decimal | None:
        return None if self.value is None else self.value * 1000


def cost_per_success(
    spent: int | None, cells: Sequence[Cell], *, missing_costs: int = 0, confidence: float = 0.95
) -> CostPerSuccess:
    """`spent` billionths over the successes of `cells`; None where no call has a known cost.

    `missing_costs` counts calls whose cost is unknown: the figure then is a lower limit, without an interval.
    """
    counts = tally(cells)
    if counts.runs == 0:
        return CostPerSuccess(value=None, note="no runs ended in this period")
    if spent is None:
        return CostPerSuccess(value=None, note="no call has a price")
    z = normal_quantile(0.5 + confidence / 2.0)
    if _too_few(counts, z):
        note = f"too few successes ({counts.known_right:,} known of {counts.runs:,} runs)"
        return CostPerSuccess(value=None, note=note)
    value = exact_units(Fraction(spent) / counts.successes)
    if missing_costs:
        if counts.not_estimated:
            note = f"unknown cost (calls: {missing_costs:,}) and unknown success (runs: {counts.not_estimated:,})"
            return CostPerSuccess(value=None, note=note)
        note = f"calls of unknown cost: {missing_costs:,}"
        return CostPerSuccess(value=value, qualifier="at least", note=note)
    unknown = f"runs of unknown success, counted as none: {counts.not_estimated:,}" if counts.not_estimated else ""
    limits = _interval(spent, cells, counts, confidence, z)
    if limits is None:
        note = "; ".join(filter(None, [unknown, "no interval: the upper bound of a run's cost is not known"]))
        return CostPerSuccess(value=value, qualifier="at most" if unknown else "", note=note)
    return CostPerSuccess(
        value=value, low=limits.low, high=limits.high, method=limits.method, qualifier="at most" if unknown else "",
        note=unknown,
    )


def exact_units(nano: Fraction) -> Decimal:
    """Billionths as currency units, to twelve places, half even: a unit cost may be far below a billionth's size."""
    scaled = round(nano * 1000)
    return Decimal(scaled).scaleb(-12)


@dataclass(frozen=True, slots=True)
class _Limits:
    low: Decimal
    high: Decimal
    method: Method


def _too_few(counts: Tally, z: float) -> bool:
    """Fieller's criterion (1954): a ratio whose denominator is within z standard errors of 0 has no finite interval."""
    if counts.known_right == 0:
        return True
    share = float(counts.successes) / counts.runs
    return z * z * (1.0 - share) >= counts.known_right


def _interval(spent: int, cells: Sequence[Cell], counts: Tally, confidence: float, z: float) -> _Limits | None:
    """Of the long-run ratio. `spent` may differ a little from the runs' own costs (calls at the edges of a period)."""
    run_costs = sum(c.cost for c in cells)
    if spent == 0 or run_costs == 0:
        return _Limits(Decimal(0), Decimal(0), "box") if spent == run_costs else None
    if _large_enough(cells, counts):
        relative = math.exp(z * _relative_error(cells, counts))
        theta = float(spent / counts.successes)
        return _Limits(_units(theta / relative), _units(theta * relative), "log-delta")
    each = 0.5 + confidence / 2.0
    cost = _mean_cost(cells, counts.runs, each)
    share = counts.share(each)
    if cost is None or share.low <= 0.0:
        return None
    edges = spent / run_costs
    return _Limits(_units(cost.low / share.high * edges), _units(cost.high / share.low * edges), "box")


def _units(nano: float) -> Decimal:
    return exact_units(Fraction(nano))


def _large_enough(cells: Sequence[Cell], counts: Tally) -> bool:
    """Ten successes and ten failures seen (in the strata too, where there are any), all else known, no heavy tail."""
    right, wrong = (counts.known_right, counts.known_wrong) if not counts.strata else _checked(counts)
    return min(right, wrong) >= ENOUGH and not counts.not_estimated and not heavy_tailed(cells)


def _checked(counts: Tally) -> tuple[int, int]:
    right = sum(s.right for s in counts.strata)
    return right, sum(s.checked for s in counts.strata) - right


def heavy_tailed(cells: Sequence[Cell]) -> bool:
    """Cochran's rule (Sampling Techniques, 1977, 2.15): a mean is near normal where n > 25 x skewness squared."""
    n = sum(c.runs for c in cells)
    mean = sum(c.cost for c in cells) / n
    second = sum(c.cost_squares for c in cells) / n - mean**2
    third = sum(c.cost_cubes for c in cells) / n - 3.0 * mean * second - mean**3
    if second <= 1e-12 * mean**2:
        return False
    return n <= 25.0 * third**2 / second**3


def _relative_error(cells: Sequence[Cell], counts: Tally) -> float:
    """se/theta of the log-delta interval: se^2 = (s_c^2 - 2 theta s_cz + theta^2 s_z^2) / (n z-bar^2).

    Z is a run's success where known, else f + (y - f) xi / pi with f its stratum's rate. The bracket is the
    variance of c - theta Z, whose mean is 0, so that it is summed cell by cell from the power sums.
    """
    n = counts.runs
    rates = {s.propensity: float(s.rate) for s in counts.strata}
    weights = [_weight(cell, rates) for cell in cells]
    total = math.fsum(w * c.runs for w, c in zip(weights, cells, strict=True))
    theta = sum(c.cost for c in cells) / total
    squares = math.fsum(
        c.cost_squares - 2.0 * theta * w * c.cost + (theta * w) ** 2 * c.runs
        for w, c in zip(weights, cells, strict=True)
    )
    return math.sqrt(max(squares, 0.0) / (n - 1) * n) / (theta * total)


def _weight(cell: Cell, rates: dict[float, float]) -> float:
    if cell.propensity is None or cell.propensity not in rates:
        return 1.0 if cell.success else 0.0
    rate = rates[cell.propensity]
    return rate if cell.success is None else rate + (float(cell.success) - rate) / cell.propensity


def _mean_cost(cells: Sequence[Cell], n: int, confidence: float) -> Interval | None:
    """The mean cost of a run, between 0 and the largest reserved one; None where no such bound is known."""
    bounds = [c.bound for c in cells]
    if None in bounds:
        return None
    upper = max(b for b in bounds if b is not None)
    mean = sum(c.cost for c in cells) / n
    variance = max(0.0, sum(c.cost_squares for c in cells) - n * mean**2) / max(1, n - 1)
    return bounded_mean(n, mean, variance, max(float(upper), mean), confidence)
