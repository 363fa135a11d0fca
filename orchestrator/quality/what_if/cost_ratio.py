"""One mean cost over another, both of the same tasks, so that what is common to the two cancels.

The interval holds every ratio r for which the mean of cost - r x always may be 0 (Fieller 1954), skewness corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from orchestrator.intervals import Interval
from orchestrator.quality.what_if.linear_costs import NOT_RESERVED, Costing
from orchestrator.quality.what_if.mean_shape import Shape, bernstein, shape_of, skewed_limits


@dataclass(frozen=True, slots=True)
class Ratio:
    value: float | None
    interval: Interval | None = None
    note: str = ""


def cost_ratio(cost: Costing, always: Costing, confidence: float) -> Ratio:
    """`cost` over `always`. Where the normal interval of either is out of the question: the quotient of their boxes and
    the Bernstein bound of the ratio's influence values, which both must hold."""
    if cost.value is None or always.value is None:
        return Ratio(None, note=cost.note or always.note)
    if always.value <= 0.0:
        return Ratio(None, note="always validating costs nothing")
    ratio = cost.value / always.value
    values = [(a - ratio * b) / always.value for a, b in zip(cost.values, always.values, strict=True)]
    if all(abs(value) <= 1e-12 for value in values):
        return Ratio(ratio, Interval(ratio, ratio))
    shape = replace(shape_of(values), mean=ratio)
    found = None
    if not (cost.is_rough or always.is_rough or shape.is_heavy_tailed):
        freedom = min(cost.freedom, always.freedom)
        found = _fieller(_Moments.of(cost.values, always.values), ratio, freedom, confidence)
    return Ratio(ratio, found) if found is not None else _rough(cost, always, ratio, shape, confidence)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Central power sums of pairs (x, y), over n: enough for the first three moments of any x - r y."""

    n: int
    x: float
    y: float
    second: tuple[float, float, float]
    third: tuple[float, float, float, float]

    @classmethod
    def of(cls, xs: list[float], ys: list[float]) -> _Moments:
        n = len(xs)
        x, y = math.fsum(xs) / n, math.fsum(ys) / n
        dx, dy = [a - x for a in xs], [b - y for b in ys]

        def product(*columns: list[float]) -> float:
            return math.fsum(map(math.prod, zip(*columns, strict=True))) / n

        second = (product(dx, dx), product(dx, dy), product(dy, dy))
        third = (product(dx, dx, dx), product(dx, dx, dy), product(dx, dy, dy), product(dy, dy, dy))
        return cls(n, x, y, second, third)

    def limits(self, r: float, freedom: float, confidence: float) -> Interval:
        """Of the mean of x - r y."""
        (xx, xy, yy), (xxx, xxy, xyy, yyy) = self.second, self.third
        mean, variance = self.x - r * self.y, max(0.0, xx - 2.0 * r * xy + r * r * yy)
        if variance <= 1e-18 * (self.x**2 + (r * self.y) ** 2):
            return Interval(mean, mean)
        third = xxx - 3.0 * r * xxy + 3.0 * r * r * xyy - r**3 * yyy
        errors = skewed_limits(third / math.sqrt(variance) ** 3 / math.sqrt(self.n), freedom, confidence)
        error = math.sqrt(variance / (self.n - 1))
        return Interval(mean + error * errors.low, mean + error * errors.high)


def _fieller(moments: _Moments, ratio: float, freedom: float, confidence: float) -> Interval | None:
    """None where the denominator is not clearly above 0, so that no ratio is too high."""
    def limits(r: float) -> Interval:
        return moments.limits(r, freedom, confidence)

    top = 2.0 * ratio + 1.0
    while limits(top).high >= 0.0:
        top *= 2.0
        if top > 1e6 * (ratio + 1.0):
            return None
    low = 0.0 if limits(0.0).low <= 0.0 else _between(lambda r: limits(r).low <= 0.0, 0.0, ratio)
    return Interval(low, _between(lambda r: limits(r).high < 0.0, ratio, top))


def _between(holds: Callable[[float], bool], without: float, having: float) -> float:
    """Where `holds` begins to, to a part in a million million."""
    for _ in range(60):
        middle = (without + having) / 2.0
        if holds(middle):
            having = middle
        else:
            without = middle
        if having - without <= 1e-12 * having:
            break
    return (without + having) / 2.0


def _rough(cost: Costing, always: Costing, ratio: float, shape: Shape, confidence: float) -> Ratio:
    if cost.box is None or always.box is None or cost.reach is None or always.reach is None:
        return Ratio(ratio, note=NOT_RESERVED)
    assert always.value is not None
    high = cost.box.high / always.box.low if always.box.low > 0.0 else math.inf
    box = Interval(cost.box.low / always.box.high, high)
    if cost.borrows or always.borrows:
        return Ratio(ratio, box, cost.note or always.note)
    reach = (cost.reach + ratio * always.reach) / always.value
    return Ratio(ratio, bernstein(shape, reach, confidence, box), cost.note or always.note)
