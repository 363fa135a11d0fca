"""The mean cost of a task where some of its parts were never billed: double sampling within cells.

A part that is needed and was not seen counts as the mean of those seen in its cell (same chance of being seen, same
move). The interval is normal with Student's quantile on the estimate's influence values (Cochran, Sampling Techniques,
1977, chapter 12; degrees of freedom by Satterthwaite 1946). Where these are heavy-tailed or few, two bounds that need
only the most that was ever reserved take its place, and both must hold: a box of bounded means, one a cell, and the
empirical Bernstein bound of the influence values.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from orchestrator.intervals import Interval, bernstein_width, bounded_mean, normal_quantile
from orchestrator.quality.cases import Case

FEW, SKEWED, MATTERS = 10, 4.0, 0.05
"""How many seen a mean needs to stand for others: FEW, and SKEWED x skewness squared; if it makes up MATTERS of all."""
MOST_SKEWED = 0.5
"""Skewness of a mean, in units of its standard error, up to which it is corrected for."""
KINDS = ("draft", "verdict", "alone")
NOT_RESERVED = "no interval: what was reserved is not known"


@dataclass(frozen=True, slots=True)
class Need:
    """How much of each part a policy buys for one task: 1 of what it surely asks for, else the probability."""

    draft: float = 0.0
    verdict: float = 0.0
    alone: float = 0.0


@dataclass(slots=True)
class Pool:
    """Those of a cell that need one part: `seen` of them with known cost; `owed` is how much the others need."""

    seen: int = 0
    total: float = 0.0
    squares: float = 0.0
    owed: float = 0.0
    unseen: int = 0

    def add(self, cost: float | None, share: float) -> None:
        if cost is None:
            self.owed, self.unseen = self.owed + share, self.unseen + 1
        else:
            self.seen, self.total, self.squares = self.seen + 1, self.total + cost, self.squares + cost * cost

    @property
    def mean(self) -> float:
        return self.total / self.seen

    @property
    def weight(self) -> float:
        """How much of what was not seen each that was seen stands for."""
        return self.owed / self.seen if self.seen else 0.0

    @property
    def variance(self) -> float:
        if self.seen < 2:
            return 0.0
        found = (self.squares - self.seen * self.mean**2) / (self.seen - 1)
        return found if found > 1e-12 * self.mean**2 else 0.0


@dataclass
class _Part:
    """One kind of call over all tasks: what each needs of it and paid for it, pooled by cell. `common` is over all of
    known cost: cells in which fewer than two were seen borrow from it."""

    kind: str
    shares: list[float]
    costs: list[int | None]
    pools: dict[Hashable, Pool]
    common: Pool
    bound: float | None

    def source(self, pool: Pool) -> Pool:
        return self.common if pool.owed and pool.seen < 2 else pool

    @cached_property
    def enough(self) -> float:
        """How many a mean needs that stands for others: by the skewness of all that were seen, since of a few it does
        not show."""
        return max(FEW, SKEWED * skewness([float(cost) for cost in self.costs if cost is not None]) ** 2)

    @property
    def owing(self) -> list[tuple[Pool, Pool]]:
        """Pools from which something is missing, with those it is estimated from."""
        return [(pool, self.source(pool)) for pool in self.pools.values() if pool.owed]

    @property
    def sources(self) -> list[Pool]:
        return list({id(source): source for _, source in self.owing}.values())


class Costing:
    """The mean cost of what `needs` ask for, one a case. `cells` part the cases into groups within which who was seen
    is chance. Costs are in billionths."""

    def __init__(
        self, cases: Sequence[Case], needs: Sequence[Need], cells: Sequence[Hashable], confidence: float
    ) -> None:
        self._cells, self._confidence = cells, confidence
        found = [_part(kind, cases, [getattr(need, kind) for need in needs], cells) for kind in KINDS]
        self._parts = [part for part in found if part is not None]

    @cached_property
    def missing(self) -> str:
        """Why there is no estimate at all."""
        wanting = [part.kind for part in self._parts if any(not source.seen for source in part.sources)]
        return f"no {'draft' if wanting == ['draft'] else 'validation'} has a known cost" if wanting else ""

    @cached_property
    def value(self) -> float | None:
        return None if self.missing else fmean(self.values)

    @property
    def extrapolated(self) -> int:
        """Calls whose cost is taken from tasks that came to be validated otherwise."""
        return sum(pool.unseen for part in self._parts for pool, source in part.owing if source is not pool)

    @cached_property
    def interval(self) -> Interval | None:
        if self.value is None:
            return None
        if self.is_rough:
            box = self.box
            return None if box is None else bernstein(self.values, self.value, self.reach or 0.0, self._confidence, box)
        found = skewed_interval(self.values, self.freedom, self._confidence)
        return Interval(max(0.0, found.low), found.high)

    @cached_property
    def values(self) -> list[float]:
        """Influence values: each task's cost, what was not seen at its mean, and for each that was seen its share in
        the means that stand for others."""
        values = [0.0] * len(self._cells)
        for part in self._parts:
            lent = part.common.weight
            for i, (share, cost, cell) in enumerate(zip(part.shares, part.costs, self._cells, strict=True)):
                if share:
                    pool = part.pools[cell]
                    source = part.source(pool)
                    if cost is None:
                        values[i] += share * source.mean
                    else:
                        values[i] += share * cost
                        if pool.owed and source is pool:
                            values[i] += pool.weight * (cost - pool.mean)
                if lent and cost is not None:
                    values[i] += lent * (cost - part.common.mean)
        return values

    @cached_property
    def is_rough(self) -> bool:
        """Is a normal interval out of the question?"""
        enough = MATTERS * math.fsum(self.values)
        few = any(s.seen < part.enough and s.owed * s.mean > enough for part in self._parts for s in part.sources)
        return few or len(self.values) < 2 or heavy_tailed(self.values)

    @cached_property
    def freedom(self) -> float:
        n, whole = len(self.values), standard_error(self.values) ** 2
        drawn = [
            ((s.owed / n) ** 2 * s.variance / s.seen, s.seen - 1) for part in self._parts for s in part.sources
            if s.seen > 1
        ]
        rest = max(whole - sum(part for part, _ in drawn), 0.0)
        below = sum(part**2 / nu for part, nu in [*drawn, (rest, n - 1)])
        return whole**2 / below if below > 0.0 else float(n - 1)

    @property
    def reach(self) -> float | None:
        """The most by which two influence values can differ; None where nothing is known of what was reserved."""
        reach = 0.0
        for part in self._parts:
            if part.bound is None:
                return None
            reach += part.bound * (1.0 + max((source.weight for source in part.sources), default=0.0))
        return reach

    @cached_property
    def box(self) -> Interval | None:
        """Mean of what was seen throughout, and for every other cell its weight times its mean: each a bounded mean at
        its part of a quarter of the error (two boxes make a ratio, and the Bernstein bound takes the other half)."""
        known = [0.0] * len(self._cells)
        owing: list[tuple[_Part, Pool, list[float]]] = []
        upper = 0.0
        for part in self._parts:
            if part.bound is None:
                return None
            shares: dict[int, list[float]] = {id(pool): [] for pool, _ in part.owing}
            for i, (share, cost, cell) in enumerate(zip(part.shares, part.costs, self._cells, strict=True)):
                if share and (held := shares.get(id(part.pools[cell]))) is not None:
                    held.append(share)
                elif share:
                    known[i] += share * float(cost or 0)
            owing += [(part, source, shares[id(pool)]) for pool, source in part.owing]
            upper += part.bound
        each, n = 1.0 - (1.0 - self._confidence) / 4.0 / (1 + 2 * len(owing)), len(known)
        found = _bounded(n, math.fsum(known), math.fsum(x * x for x in known), upper, each)
        low, high = found.low, found.high
        for part, source, held in owing:
            weight = _bounded(n, math.fsum(held), math.fsum(x * x for x in held), 1.0, each)
            mean = _bounded(source.seen, source.total, source.squares, part.bound or 0.0, each)
            low, high = low + weight.low * mean.low, high + weight.high * mean.high
        return Interval(low, high)


def skewness(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    n, mean = len(values), fmean(values)
    second = math.fsum((v - mean) ** 2 for v in values) / n
    if second <= 1e-12 * mean**2:
        return 0.0
    return math.fsum((v - mean) ** 3 for v in values) / n / math.sqrt(second) ** 3


def heavy_tailed(values: Sequence[float]) -> bool:
    """Is their mean too skewed for the correction of `skewed_interval`? Its third moment, over the standard error's."""
    return abs(skewness(values)) / math.sqrt(len(values)) > MOST_SKEWED


def skewed_interval(values: Sequence[float], freedom: float, confidence: float) -> Interval:
    """Of their mean: Student's, corrected for skewness."""
    limits = skewed_limits(skewness(values) / math.sqrt(len(values)), freedom, confidence)
    mean, error = fmean(values), standard_error(values)
    return Interval(mean + error * limits.low, mean + error * limits.high)


def skewed_limits(a: float, freedom: float, confidence: float) -> Interval:
    """How many standard errors the truth may lie from a mean whose skewness is `a`: Hall (1992), "On the removal of
    skewness by transformation", with Student's quantiles."""
    t = student_quantile(0.5 + confidence / 2.0, freedom)

    def corrected(x: float) -> float:
        return x if abs(a) < 1e-6 else 3.0 / a * (math.cbrt(1.0 + a * (x - a / 6.0)) - 1.0)

    return Interval(-corrected(t), -corrected(-t))


def student_quantile(p: float, freedom: float) -> float:
    """t with P(T <= t) = p: Abramowitz and Stegun 26.7.5, within 1% from 4 degrees of freedom up."""
    z, nu = normal_quantile(p), max(freedom, 4.0)
    terms = (
        (z**3 + z) / 4.0, (5 * z**5 + 16 * z**3 + 3 * z) / 96.0, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
    )
    return z + sum(term / nu ** (i + 1) for i, term in enumerate(terms))


def bernstein(values: Sequence[float], about: float, reach: float, confidence: float, box: Interval) -> Interval:
    """Maurer and Pontil (2009) at half the error, about `about`, within the box. `reach` bounds max - min of values."""
    n = len(values)
    if n < 2 or reach <= 0.0:
        return box
    variance = standard_error(values) ** 2 * n / reach**2
    half = reach * bernstein_width(n, variance, math.log(4.0 / (1.0 - confidence)))
    return Interval(max(box.low, about - half), min(box.high, about + half))


def standard_error(values: Sequence[float]) -> float:
    n, mean = len(values), fmean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(1, n - 1) / n)


def _part(kind: str, cases: Sequence[Case], shares: list[float], cells: Sequence[Hashable]) -> _Part | None:
    if not any(shares):
        return None
    costs: list[int | None] = [getattr(case, kind) for case in cases]
    pools: dict[Hashable, Pool] = {}
    for share, cost, cell in zip(shares, costs, cells, strict=True):
        if share:
            pools.setdefault(cell, Pool()).add(cost, share)
    common, borrowed = Pool(), sum(p.owed for p in pools.values() if p.owed and p.seen < 2)
    if borrowed:
        for cost in costs:
            if cost is not None:
                common.add(cost, 1.0)
        common.owed = borrowed
    bounds = [b for c in cases if (b := c.draft_bound if kind == "draft" else c.validator_bound) is not None]
    return _Part(kind, shares, costs, pools, common, float(max(bounds)) if bounds else None)


def _bounded(n: int, total: float, squares: float, upper: float, confidence: float) -> Interval:
    mean = total / n if n else 0.0
    variance = max(0.0, squares - n * mean**2) / max(1, n - 1)
    return bounded_mean(n, mean, variance, max(upper, mean), confidence)
