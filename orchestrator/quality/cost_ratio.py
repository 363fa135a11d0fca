"""One mean cost over another, both of the same tasks, so that what is common to the two cancels.

The interval holds every ratio r for which the mean of cost - r x always may be 0 (Fieller 1954), skewness corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

from orchestrator.intervals import Interval
from orchestrator.quality.linear_costs import (
    NOT_RESERVED,
    Costing,
    bernstein,
    heavy_tailed,
    skewed_limits,
)


@dataclass(frozen=True, slots=True)
class Ratio:
    value: float | None
    interval: Interval | None = None
    note: str = ""


def cost_ratio(cost: Costing, always: Costing, confidence: float) -> Ratio:
    """`cost` over `always`. Where the normal interval of either is out of the question: the quotient of their boxes and
    the Bernstein bound of the ratio's influence values, which both must hold."""
    if cost.value is None or always.value is None:
        return Ratio(None, note=cost.missing or always.missing)
    if always.value <= 0.0:
        return Ratio(None, note="always validating costs nothing")
    ratio = cost.value / always.value
    values = [(a - ratio * b) / always.value for a, b in zip(cost.values, always.values, strict=True)]
    if cost.is_rough or always.is_rough or heavy_tailed(values):
        return _rough(cost, always, ratio, values, confidence)
    found = _fieller(_Moments.of(cost.values, always.values), ratio, min(cost.freedom, always.freedom), confidence)
    return Ratio(ratio, found) if found is not None else _rough(cost, always, ratio, values, confidence)


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
        x, y = fmean(xs), fmean(ys)
        pairs = [(a - x, b - y) for a, b in zip(xs, ys, strict=True)]
        second = (fmean(a * a for a, _ in pairs), fmean(a * b for a, b in pairs), fmean(b * b for _, b in pairs))
        third = (
            fmean(a * a * a for a, _ in pairs), fmean(a * a * b for a, b in pairs), fmean(a * b * b for a, b in pairs),
            fmean(b * b * b for _, b in pairs),
        )
        return cls(len(xs), x, y, second, third)

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


def _rough(cost: Costing, always: Costing, ratio: float, values: list[float], confidence: float) -> Ratio:
    if cost.box is None or always.box is None or cost.reach is None or always.reach is None:
        return Ratio(ratio, note=NOT_RESERVED)
    assert always.value is not None
    high = cost.box.high / always.box.low if always.box.low > 0.0 else math.inf
    box = Interval(cost.box.low / always.box.high, high)
    reach = (cost.reach + ratio * always.reach) / always.value
    return Ratio(ratio, bernstein(values, ratio, reach, confidence, box))
