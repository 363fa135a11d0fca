"""The mean cost of a task where some of its parts were never billed: double sampling within cells.

A part that is needed and was not seen counts as the mean of those seen in its cell (same chance of being seen, same
move). The interval is normal with Student's quantile on the estimate's influence values (Cochran, Sampling Techniques,
1977, chapter 12; degrees of freedom by Satterthwaite 1946). Where these are heavy-tailed or few, two bounds that need
only the most that was ever reserved take its place, and both must hold: a box of bounded means, one a cell, and the
empirical Bernstein bound of the influence values.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from orchestrator.intervals import Interval, bounded_mean
from orchestrator.quality.what_if.groups import Group
from orchestrator.quality.what_if.mean_shape import Form, Shape, bernstein, shape_of, skewed_limits
from orchestrator.quality.what_if.pools import Need, Pool
from orchestrator.quality.what_if.power_sums import PARTS

FEW, SKEWED, MATTERS = 10, 8.0, 0.05
"""How many seen a mean needs to stand for others: FEW, and SKEWED x skewness squared; if it makes up MATTERS of all."""
TAILED = 4.0
"""Excess kurtosis over skewness squared: 1.5 of a gamma, about 2 of a log-normal; a sample shows too little of it."""
VERDICT = PARTS.index("verdict")
NOT_RESERVED = "no interval: what was reserved is not known"


@dataclass
class _Part:
    """One kind of call over all tasks: what each group needs of it and paid for it, pooled by cell. `common` is over
    all of known cost: cells in which fewer than two were seen borrow their estimate from it. Where that was by chance,
    they were to be seen, and the interval goes by what they themselves show."""

    at: int
    shares: list[float]
    groups: Sequence[Group]
    pools: dict[Hashable, Pool]
    common: Pool
    bound: float | None

    def source(self, pool: Pool) -> Pool:
        return self.common if pool.owed and pool.seen < 2 else pool

    @cached_property
    def skewness(self) -> float:
        """Of all that were seen, since of a few it does not show."""
        seen = [group.sums for group in self.groups if group.knows(self.at)]
        return shape_of(seen, [_once(self.at)] * len(seen)).skewness if seen else 0.0

    @property
    def enough(self) -> float:
        """How many a mean needs that stands for others."""
        return max(FEW, SKEWED * self.skewness**2)

    def freedom(self, seen: int) -> float:
        """Degrees of freedom of a variance that so many show: that of a variance itself grows with the kurtosis
        (Cramér 1946, 27.4)."""
        return 2.0 / (2.0 / (seen - 1) + TAILED * self.skewness**2 / seen)

    @property
    def owing(self) -> list[tuple[Pool, Pool]]:
        """Pools from which something is missing, with those it is estimated from."""
        return [(pool, self.source(pool)) for pool in self.pools.values() if pool.owed]

    @property
    def sources(self) -> list[Pool]:
        return list({id(source): source for _, source in self.owing}.values())

    @property
    def witnesses(self) -> list[tuple[Pool, Pool]]:
        """Pools from which something is missing, with those that say how sure the estimate is."""
        return [(pool, pool if pool.by_chance else source) for pool, source in self.owing]


class Costing:
    """The mean cost of what `needs` ask for, one a group. `cells` part the groups by their chance of a look, of which
    `chance_of` tells each. Costs are in billionths."""

    def __init__(
        self, groups: Sequence[Group], needs: Sequence[Need], cells: Sequence[Hashable],
        chance_of: Mapping[Hashable, float], confidence: float,
    ) -> None:
        self.groups, self._cells, self._confidence = groups, cells, confidence
        judged = any(group.knows(VERDICT) for group in groups)
        found = [
            _part(at, groups, [getattr(need, kind) for need in needs], cells,
                  {cell: _by_chance(kind, chance, judged) for cell, chance in chance_of.items()})
            for at, kind in enumerate(PARTS)
        ]
        self._parts = [part for part in found if part is not None]

    @cached_property
    def missing(self) -> str:
        """Why there is no estimate at all."""
        wanting = [PARTS[part.at] for part in self._parts if any(not source.seen for source in part.sources)]
        return f"no {'draft' if wanting == ['draft'] else 'validation'} has a known cost" if wanting else ""

    @cached_property
    def value(self) -> float | None:
        return None if self.missing else self.shape.mean

    @cached_property
    def shape(self) -> Shape:
        return shape_of([group.sums for group in self.groups], self.forms)

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
            if box is None or self.borrows:
                return box
            return bernstein(self.shape, self.reach or 0.0, self._confidence, box)
        errors = skewed_limits(self.shape.skew, self.freedom, self._confidence)
        low, high = (self.value + self.shape.error * end for end in (errors.low, errors.high))
        return Interval(max(0.0, low), high)

    @cached_property
    def forms(self) -> list[Form]:
        """Influence values, group by group, as sums of what its tasks paid: each task's cost, what was not seen at its
        mean, and for each that was seen its share in the means that stand for others."""
        forms = [Form() for _ in self.groups]
        for part in self._parts:
            for form, group, share, cell in zip(forms, self.groups, part.shares, self._cells, strict=True):
                known = group.knows(part.at)
                if share:
                    pool = part.pools[cell]
                    source = part.source(pool)
                    if not known:
                        form.constant += share * source.mean
                    else:
                        form.weights[part.at] += share
                        if pool.owed and source is pool:
                            form.lend(part.at, pool.weight, pool.mean)
                if part.common.owed and known:
                    form.lend(part.at, part.common.weight, part.common.mean)
        return forms

    @cached_property
    def few(self) -> int | None:
        """How many calls were seen that a good part of the estimate rests on, where that is too few."""
        matters = MATTERS * self.shape.mean * self.shape.n
        found = [witness.seen for part in self._parts for pool, witness in part.witnesses
                 if witness.seen < part.enough and pool.owed * part.source(pool).mean > matters]
        return min(found, default=None)

    @property
    def borrows(self) -> bool:
        """Is the estimate of a cell, that was to be seen and was not, another's?"""
        return any(pool.by_chance and source is not pool for part in self._parts for pool, source in part.owing)

    @property
    def note(self) -> str:
        if self.missing or self.few is None:
            return self.missing
        return f"rests on {self.few} calls of known cost that stand for others"

    @cached_property
    def is_rough(self) -> bool:
        """Is a normal interval out of the question?"""
        return self.few is not None or self.shape.n < 2 or self.shape.is_heavy_tailed

    @cached_property
    def freedom(self) -> float:
        n, whole = self.shape.n, self.shape.error**2
        drawn = [
            ((s.owed / n) ** 2 * s.variance / s.seen, part.freedom(s.seen))
            for part in self._parts for s in part.sources if s.seen > 1
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
        known = [Form() for _ in self.groups]
        owing: list[tuple[_Part, Pool, _Shares]] = []
        upper = 0.0
        for part in self._parts:
            if part.bound is None:
                return None
            shares = {id(pool): _Shares() for pool, _ in part.owing}
            for form, group, share, cell in zip(known, self.groups, part.shares, self._cells, strict=True):
                if share and (held := shares.get(id(part.pools[cell]))) is not None:
                    held.add(group.n, share)
                elif share:
                    form.weights[part.at] += share
            owing += [(part, witness, shares[id(pool)]) for pool, witness in part.witnesses]
            upper += part.bound
        each, sure = 1.0 - (1.0 - self._confidence) / 4.0 / (1 + 2 * len(owing)), shape_of(
            [group.sums for group in self.groups], known
        )
        found = bounded_mean(sure.n, sure.mean, sure.variance, max(upper, sure.mean), each)
        low, high = found.low, found.high
        for part, witness, held in owing:
            weight = _bounded(sure.n, held.total, held.squares, 1.0, each)
            mean = _bounded(witness.seen, witness.total, witness.squares, part.bound or 0.0, each)
            low, high = low + weight.low * mean.low, high + weight.high * mean.high
        return Interval(low, high)


@dataclass(slots=True)
class _Shares:
    """Sums of how much is needed of one kind of call, task by task."""

    total: float = 0.0
    squares: float = 0.0

    def add(self, n: int, share: float) -> None:
        self.total, self.squares = self.total + n * share, self.squares + n * share * share


def _once(part: int) -> Form:
    form = Form()
    form.weights[part] = 1.0
    return form


def _by_chance(kind: str, chance: float, judged: bool) -> bool:
    """Could the cost of such a call be seen there at all? A verdict's where all were escalated; that of a task done
    anew, where the step judges or repairs, in spot checks alone."""
    if kind == "verdict":
        return chance == 1.0
    return kind == "draft" or (0.0 < chance < 1.0 if judged else chance > 0.0)


def _part(
    at: int, groups: Sequence[Group], shares: list[float], cells: Sequence[Hashable], by_chance: Mapping[Hashable, bool]
) -> _Part | None:
    if not any(shares):
        return None
    pools: dict[Hashable, Pool] = {}
    for group, share, cell in zip(groups, shares, cells, strict=True):
        if share:
            pools.setdefault(cell, Pool(by_chance[cell])).add(group, at, share)
    common, borrowed = Pool(), sum(p.owed for p in pools.values() if p.owed and p.seen < 2)
    if borrowed:
        for group in groups:
            if group.knows(at):
                common.add(group, at, 1.0)
        common.owed = borrowed
    reserved = max(group.sums.reserved(validation=PARTS[at] != "draft") for group in groups)
    most = max(reserved, *(group.sums.most[at] for group in groups)) if reserved >= 0 else None  # some cost more
    return _Part(at, shares, groups, pools, common, most)


def _bounded(n: int, total: float, squares: float, upper: float, confidence: float) -> Interval:
    if n == 0:
        return Interval(0.0, upper)
    mean = total / n
    variance = max(0.0, squares - n * mean**2) / max(1, n - 1)
    return bounded_mean(n, mean, variance, max(upper, mean), confidence)
