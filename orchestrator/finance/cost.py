"""Cost per successful outcome: all that was spent, failures included, over the runs that succeeded.

The figure is an exact quotient. Two intervals: `own` of this period's figure, whose cost is known to the last
billionth and whose successes are counted or estimated; `low` to `high` of the long run, of which the period is a
sample (docs/cost.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from orchestrator.finance.moments import heavy_tailed, mean_cost, moments
from orchestrator.finance.rates import estimated_right, long_run_rate, own_successes, rate, rate_limit
from orchestrator.finance.success import Cell, Tally, assume, tally
from orchestrator.intervals import normal_quantile

UnitCostMethod = Literal["square-and-add", "box"]
MANY = 100
"""Runs below which the shape of the costs is not known well enough to take their mean for normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPerSuccess:
    """In currency units. `low` to `high` by `method`: of the long run; `own_low` to `own_high`: of this period's own
    figure, where spot checks estimate a part of it or runs are unknown. A None is not known, and `note` says why.

    `qualifier` is "at least" where a cost is missing from the sum, "at most" where runs of unknown success count as
    none. With both, `value` is None, and the figure lies "between" `own_low` and `own_high`, or is "at least" `own_low`
    where what is missing has no upper bound. Where it has one, the high ends hold it.
    """

    value: Decimal | None
    low: Decimal | None = None
    high: Decimal | None = None
    method: UnitCostMethod | None = None
    own_low: Decimal | None = None
    own_high: Decimal | None = None
    qualifier: Literal["", "at least", "at most", "between"] = ""
    note: str = ""

    @property
    def per_thousand(self) -> Decimal | None:
        return None if self.value is None else self.value * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Calls that a sum lacks, for nobody knows their cost: `calls` in all, of which the `lost` have no answer and cost
    `bound` billionths at most. Of the others (a model without a price) nothing is known."""

    calls: int = 0
    lost: int = 0
    bound: int = 0

    @property
    def bounded(self) -> bool:
        return self.calls == self.lost


NOTHING = Missing()


def cost_per_success(
    spent: int | None, cells: Sequence[Cell], *, missing: Missing = NOTHING, confidence: float = 0.95
) -> CostPerSuccess:
    """`spent` billionths over the successes of `cells`; None where no call has a known cost.

    With `missing` calls the figure is a lower limit. It has no interval where one of them has no upper bound.
    """
    counts = tally(cells)
    if counts.runs == 0:
        return CostPerSuccess(value=None, note="no runs ended in this period")
    if spent is None:
        return CostPerSuccess(value=None, note="no call has a price")
    successes = counts.known_right + estimated_right(tally(assume(cells, False)))
    if _too_few(counts, successes, normal_quantile(0.5 + confidence / 2.0)):
        note = f"too few successes ({counts.known_right:,} known of {counts.runs:,} runs)"
        return CostPerSuccess(value=None, note=note)
    unclear = missing.calls > 0 and counts.not_estimated > 0
    found = CostPerSuccess(
        value=None if unclear else exact_units(Fraction(spent) / successes),
        qualifier="between" if unclear else "at least" if missing.calls else "at most" if counts.not_estimated else "",
    )
    own = _own(spent, missing.bound, cells, counts, confidence)
    if not missing.bounded and unclear:
        return replace(found, own_low=own.low, qualifier="at least", note=_note(counts, missing, confidence))
    if not missing.bounded:
        return replace(found, note=_note(counts, missing, confidence))
    limits = _long_run(spent, cells, counts, confidence)
    if missing.bound and limits.method is not None:  # as if all of it had been spent
        more = _long_run(spent + missing.bound, cells, counts, confidence)
        limits = _NONE if more.method is None else replace(more, low=limits.low)
    notes = [_note(counts, missing, confidence, high_ends=(own.high is not None) + (limits.high is not None))]
    if limits.method is None and any(c.bound is None for c in cells):
        notes.append("no interval: the upper bound of a run's cost is not known")
    elif limits.method is None and missing.bound and not any(c.cost for c in cells):
        notes.append("no long-run interval: all known costs of the runs are 0")
    return replace(
        found, low=limits.low, high=limits.high, method=limits.method, own_low=own.low, own_high=own.high,
        note="; ".join(note for note in notes if note),
    )


def _note(counts: Tally, missing: Missing, confidence: float, high_ends: int = 0) -> str:
    """`high_ends`: how many are shown of intervals that hold what the missing calls cost at most."""
    unknown = f"{counts.not_estimated:,}"
    if missing.calls and counts.not_estimated:
        both = f"unknown cost (calls: {missing.calls:,}) and unknown success (runs: {unknown})"
        level = f" ({confidence:.0%} interval, as other successes are estimated)" if counts.unchecked else ""
        if missing.bounded:
            return f"{both}: it lies in the range whatever they are{level}"
        return f"{both}: it is that much at least{level}, and some of these calls have no upper bound"
    if missing.calls:
        held = ("", "; the high end holds their upper bound", "; the high ends hold their upper bound")[high_ends]
        return f"calls of unknown cost: {missing.calls:,}{held}"
    return f"runs of unknown success, counted as none: {unknown}" if counts.not_estimated else ""


def exact_units(nano: Fraction | float) -> Decimal:
    """Billionths as currency units, to twelve places, half even: a unit cost may be far below a billionth's size."""
    scaled = round(Fraction(nano) * 1000)
    return Decimal(scaled).scaleb(-12)


@dataclass(frozen=True, slots=True)
class _Limits:
    low: Decimal | None = None
    high: Decimal | None = None
    method: UnitCostMethod | None = None


_NONE = _Limits()


def _too_few(counts: Tally, successes: Fraction, z: float) -> bool:
    """Fieller's criterion (1954): a ratio whose denominator is within z standard errors of 0 has no finite interval."""
    if counts.known_right == 0:
        return True
    share = float(successes) / counts.runs
    return z * z * (1.0 - share) >= counts.known_right


def _own(spent: int, unknown: int, cells: Sequence[Cell], counts: Tally, confidence: float) -> _Limits:
    """Of this period's figure: `spent` is no sample, only the successes nobody counted are uncertain, and what of up to
    `unknown` billionths more was spent."""
    found = own_successes(cells, confidence)
    if found is None and not counts.not_estimated and not unknown:
        return _NONE
    low, high = (found.low, found.high) if found else (0.0, 0.0)
    fewest, most = counts.known_right + low, counts.known_right + high + counts.not_estimated
    return _Limits(exact_units(spent / most), exact_units((spent + unknown) / fewest) if fewest else None)


def _long_run(spent: int, cells: Sequence[Cell], counts: Tally, confidence: float) -> _Limits:
    """Of the long-run ratio. `spent` may differ a little from the runs' own costs (calls at the edges of a period)."""
    run_costs = sum(c.cost for c in cells)
    if spent == 0 or run_costs == 0:
        return _Limits(Decimal(0), Decimal(0), "box") if spent == run_costs else _NONE
    if counts.runs >= MANY:
        low, high = (_end(spent / counts.runs, cells, success, confidence) for success in (True, False))
        if not any(heavy_tailed(cells, end.of_cost) for end in (low, high)) and high.limit < math.inf:
            return _Limits(exact_units(low.limit), exact_units(high.limit), "square-and-add")
    return _box(spent / run_costs, cells, counts.runs, confidence)


def _box(edges: float, cells: Sequence[Cell], runs: int, confidence: float) -> _Limits:
    """Both intervals at half the error, laid against each other: valid however the costs are distributed."""
    each = 0.5 + confidence / 2.0
    cost, success = mean_cost(cells, runs, each), long_run_rate(cells, each)
    if cost is None or success is None or success.low <= 0.0:
        return _NONE
    return _Limits(exact_units(cost.low / success.high * edges), exact_units(cost.high / success.low * edges), "box")


@dataclass(frozen=True, slots=True)
class _End:
    """`of_cost`: how much of the squared distance to the limit is due to costs, the rest being due to successes."""

    limit: float
    of_cost: float


def _end(mean: float, cells: Sequence[Cell], success: bool, confidence: float) -> _End:
    """One end of the interval of `mean` over the rate of success, what is not estimated taken as `success`.

    Square-and-add (Zou and Donner 2008) in logarithms: the distances of mean cost and rate from their own limits make
    up that of the ratio as sides of a triangle, whose angle is the correlation of the two. The rate's limit is exact,
    so that few failures do no harm; with many, this is the log-delta interval.
    """
    given = assume(cells, success)
    counts = tally(given)
    share, limit = rate(counts), rate_limit(counts, confidence, upper=success)
    if limit <= 0.0:
        return _End(math.inf, 1.0)
    found = moments(given, counts)
    cost = normal_quantile(0.5 + confidence / 2.0) * found.cost_error
    distance = abs(math.log(limit / share))
    width = math.sqrt(max(0.0, cost**2 + distance**2 - 2.0 * found.correlation * cost * distance))
    of_cost = cost**2 / (cost**2 + distance**2) if cost > 0.0 else 0.0
    return _End(mean / share * math.exp(-width if success else width), of_cost)
