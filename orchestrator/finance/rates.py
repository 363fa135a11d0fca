"""The intervals of success: of this period's own runs, and of the long run. Two questions, two intervals.

- *This period*: how many of the runs that nobody looked at succeeded? They are given; only the draw of the spot
  checks is random.
- *Long run*: at what rate do runs like these succeed? The runs themselves are a sample, too.

What is not estimated is wrong for the lower end of either and right for the upper one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from orchestrator.finance.success import Cell, Stratum, Tally, assume, tally
from orchestrator.intervals import beta_quantile, hypergeometric_limits

Method = Literal["clopper-pearson", "hypergeometric", "melded", "augmented"]
ENOUGH = 10
"""Successes and failures that a stratum needs among its checked runs before a variance estimated from them is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """`value` with its interval and the name of the method: exact (`clopper-pearson`, `hypergeometric`), exact parts
    `melded`, or the `augmented` inverse-propensity estimate."""

    value: float
    low: float
    high: float
    method: Method


@dataclass(frozen=True, slots=True)
class _Part:
    """A share of what is estimated, with its rate as `right` and `wrong` of so many looked at. Counts need not be
    whole: an augmented estimate counts as the number of plain checks that would have its variance.

    `spread` is the variance of the part over that of its rate.
    """

    scale: float
    right: float
    wrong: float
    spread: float = 1.0

    @property
    def value(self) -> float:
        return self.scale * self.right / (self.right + self.wrong)


def own_successes(cells: Sequence[Cell], confidence: float = 0.95) -> Estimated | None:
    """Successes among this period's runs that could have been spot-checked and were not; None where there are none.

    One stratum: the exact limits of a sample without replacement. Several: these melded.
    """
    low, high = (tally(assume(cells, success)) for success in (False, True))
    if not low.unchecked:
        return None
    tail = (1.0 - confidence) / 2.0
    lower, upper = ([_unchecked(s) for s in counts.strata if s.unchecked] for counts in (low, high))
    value = float(estimated_right(low))
    sharper = any(map(augmented, low.strata))
    if sharper or len(lower) > 1:
        ends = math.floor(_melded(lower, tail)), math.ceil(_melded(upper, 1.0 - tail))  # of a count of runs
        method: Method = "augmented" if sharper else "melded"
        return Estimated(value=value, low=float(ends[0]), high=float(ends[1]), method=method)
    (s,), (t,) = ([s for s in counts.strata if s.unchecked] for counts in (low, high))
    limits = [hypergeometric_limits(one.right, one.checked, one.runs, confidence) for one in (s, t)]
    return Estimated(
        value=value, low=limits[0].low - s.right, high=limits[1].high - t.right, method="hypergeometric"
    )


def long_run_rate(cells: Sequence[Cell], confidence: float = 0.95) -> Estimated | None:
    """The share of runs like these that succeed; None without runs.

    All known, or all of one stratum: exact (Clopper and Pearson 1934). Otherwise the parts melded.
    """
    fewest, most = (tally(assume(cells, success)) for success in (False, True))
    if not fewest.runs:
        return None
    exact = len(_classes(fewest)) == 1
    return Estimated(
        value=rate(fewest), low=rate_limit(fewest, confidence, upper=False),
        high=rate_limit(most, confidence, upper=True),
        method="augmented" if any(map(augmented, fewest.strata)) else "clopper-pearson" if exact else "melded",
    )


def rate(counts: Tally) -> float:
    """The share of successes. `counts` holds no run that is not estimated: see `assume`."""
    return sum(part.value for part in _classes(counts))


def rate_limit(counts: Tally, confidence: float, *, upper: bool) -> float:
    """One end of the interval of the long-run rate, at equal tails. `counts` as for `rate`."""
    tail, parts = (1.0 - confidence) / 2.0, _classes(counts)
    return _melded(parts, 1.0 - tail if upper else tail, _mixing(parts, counts.runs))


def estimated_right(counts: Tally) -> Fraction:
    """Successes expected among the unchecked runs of this period: the value of `own_successes`, exact where the
    rate of a stratum is that of its checks."""
    return sum((s.unchecked * _rate(s) for s in counts.strata), Fraction(0))


def _rate(stratum: Stratum) -> Fraction:
    found = stratum.residuals if augmented(stratum) else None
    return stratum.rate if found is None else Fraction(found.assumed_unchecked + found.mean)


def augmented(stratum: Stratum) -> bool:
    """Does the logged confidence make the estimate of this stratum sharper, with enough seen to know by how much?"""
    found = stratum.residuals
    if found is None or not stratum.unchecked or min(stratum.right, stratum.checked - stratum.right) < ENOUGH:
        return False
    plain = float(stratum.rate)
    return 0.0 < found.assumed_unchecked + found.mean < 1.0 and found.variance < plain * (1.0 - plain)


def _unchecked(stratum: Stratum) -> _Part:
    """The unchecked runs of this period: their own sum has the variance of a sum of so many draws beside that of the
    rate. With plain counts that is the beta-binomial whose tails are those of the hypergeometric."""
    spread = 1.0 + (stratum.checked + 1.0) / stratum.unchecked
    found = stratum.residuals if augmented(stratum) else None
    if found is None:
        return _Part(stratum.unchecked, stratum.right, stratum.checked - stratum.right, spread)
    sharper = found.assumed_unchecked + found.mean
    return _counting(stratum.unchecked, sharper, found.variance / stratum.checked, spread)


def _classes(counts: Tally) -> list[_Part]:
    """Runs by how their success comes to be known. Strata that were checked to the last run are known."""
    runs, whole = counts.runs, [s for s in counts.strata if not s.unchecked]
    right = counts.right + sum(s.right for s in whole)
    wrong = counts.wrong + sum(s.checked - s.right for s in whole)
    known = [_Part((right + wrong) / runs, right, wrong)] if right + wrong else []
    return known + [_long_run(s, runs) for s in counts.strata if s.unchecked]


def _long_run(stratum: Stratum, runs: int) -> _Part:
    found = stratum.residuals if augmented(stratum) else None
    if found is None:
        return _Part(stratum.runs / runs, stratum.right, stratum.checked - stratum.right)
    sharper = found.assumed + found.mean
    of_runs = max(0.0, sharper * (1.0 - sharper) - found.variance) / stratum.runs
    return _counting(stratum.runs / runs, sharper, found.variance / stratum.checked + of_runs)


def _counting(scale: float, mean: float, variance: float, spread: float = 1.0) -> _Part:
    """A rate with its variance, as counts: the effective sample of Korn and Graubard (1998)."""
    effective = mean * (1.0 - mean) / max(variance, 1e-300)
    return _Part(scale, mean * effective, (1.0 - mean) * effective, spread)


def _mixing(parts: Sequence[_Part], runs: int) -> float:
    """Variance of the whole rate because the parts' shares are those of `runs` runs, not of the long run."""
    whole = sum(part.value for part in parts)
    return max(0.0, sum(part.value**2 / part.scale for part in parts) - whole**2) / runs


def _melded(parts: Sequence[_Part], p: float, mixing: float = 0.0) -> float:
    """The limit of a sum whose parts have exact limits, at probability `p` (Fay, Proschan and Brittain 2015).

    Clopper and Pearson's limits are quantiles of Beta(right, wrong + 1) below and Beta(right + 1, wrong) above. The
    limit of the sum is that quantile of the sum of independent ones, here of the beta distribution with its mean and
    variance. Of one part it is the exact limit itself; of several it is narrower than Bonferroni's.
    """
    more = 1.0 if p > 0.5 else 0.0
    total = mean = variance = 0.0
    for part in parts:
        n = part.right + part.wrong + 1.0
        centre = (part.right + more) / n
        total += part.scale
        mean += part.scale * centre
        variance += part.scale**2 * part.spread * centre * (1.0 - centre) / (n + 1.0)
    centre, relative = mean / total, (variance + mixing) / total**2
    if relative <= 0.0 or not 0.0 < centre < 1.0:
        return mean
    size = centre * (1.0 - centre) / relative - 1.0
    if size <= 0.0:
        return total if more else 0.0
    return total * beta_quantile(p, centre * size, (1.0 - centre) * size)
