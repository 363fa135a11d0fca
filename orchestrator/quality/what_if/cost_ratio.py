"""One mean cost over another, both of the same tasks, so that what is common to the two cancels.

The interval holds every ratio r for which the mean of cost - r x always may be 0 (Fieller 1954), skewness corrected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.intervals import Interval
from orchestrator.quality.what_if.linear_costs import NOT_RESERVED, Costing
from orchestrator.quality.what_if.mean_shape import Form, Shape, bernstein, shape_of, skewed_limits
from orchestrator.quality.what_if.power_sums import Sums


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
    forms = [_less(a, ratio, b, over=always.value) for a, b in zip(cost.forms, always.forms, strict=True)]
    tasks = [group.sums for group in cost.groups]
    shape = shape_of(tasks, forms)
    if _is_nothing(tasks, forms):
        return Ratio(ratio, Interval(ratio, ratio))
    shape = replace(shape, mean=ratio)
    found = None
    if not (cost.is_rough or always.is_rough or shape.is_heavy_tailed):
        freedom = min(cost.freedom, always.freedom)
        found = _fieller(_Moments.of(cost, always), ratio, freedom, confidence)
    return Ratio(ratio, found) if found is not None else _rough(cost, always, ratio, shape, confidence)


def _less(a: Form, ratio: float, b: Form, *, over: float) -> Form:
    """(a - ratio b) / over."""
    weights = [(u - ratio * v) / over for u, v in zip(a.weights, b.weights, strict=True)]
    return Form((a.constant - ratio * b.constant) / over, weights)


def _is_nothing(tasks: Sequence[Sums], forms: Sequence[Form]) -> bool:
    """Is each of the numbers 0, but for rounding?"""
    return all(
        abs(one.mean(form.constant, form.weights)) <= 1e-12
        and one.second(form.weights, form.weights) <= 1e-24 * one.n for one, form in zip(tasks, forms, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Moments:
    """Central power sums of pairs (x, y), over n: enough for the first three moments of any x - r y."""

    n: int
    x: float
    y: float
    second: tuple[float, float, float]
    third: tuple[float, float, float, float]

    @classmethod
    def of(cls, cost: Costing, always: Costing) -> _Moments:
        n, x, y = cost.shape.n, cost.shape.mean, always.shape.mean
        sums: list[list[float]] = [[] for _ in range(7)]
        for group, a, b in zip(cost.groups, cost.forms, always.forms, strict=True):
            for kept, terms in zip(sums, _joint(group.sums, a, b, x, y), strict=True):
                kept.extend(terms)
        xx, xy, yy, xxx, xxy, xyy, yyy = (math.fsum(terms) / n for terms in sums)
        return cls(n, x, y, (xx, xy, yy), (xxx, xxy, xyy, yyy))

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


def _joint(tasks: Sums, a: Form, b: Form, x: float, y: float) -> Iterator[tuple[float, ...]]:
    """Terms of the sums of xx, xy, yy, xxx, xxy, xyy and yyy about (x, y): what they differ within the group, and the
    group from the whole."""
    u, v, n = a.weights, b.weights, tasks.n
    dx, dy = tasks.mean(a.constant, u) - x, tasks.mean(b.constant, v) - y
    xx, xy, yy = tasks.second(u, u), tasks.second(u, v), tasks.second(v, v)
    yield xx, n * dx * dx
    yield xy, n * dx * dy
    yield yy, n * dy * dy
    yield tasks.third(u, u, u), 3.0 * dx * xx, n * dx**3
    yield tasks.third(u, u, v), 2.0 * dx * xy, dy * xx, n * dx * dx * dy
    yield tasks.third(u, v, v), 2.0 * dy * xy, dx * yy, n * dx * dy * dy
    yield tasks.third(v, v, v), 3.0 * dy * yy, n * dy**3


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
