"""How a mean lies about the truth: by its standard error where its skewness can be corrected for, else by a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.intervals import Interval, bernstein_width, normal_quantile
from orchestrator.quality.what_if.power_sums import Sums

MOST_SKEWED = 0.5
"""Skewness of a mean up to which it is corrected for."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Mean of n numbers, its standard error, and the skewness of the numbers."""

    n: int
    mean: float
    error: float
    skewness: float

    @property
    def variance(self) -> float:
        """Of the numbers, with divisor n - 1."""
        return self.error**2 * self.n

    @property
    def skew(self) -> float:
        """Skewness of the mean."""
        return self.skewness / math.sqrt(self.n)

    @property
    def is_heavy_tailed(self) -> bool:
        return abs(self.skew) > MOST_SKEWED


@dataclass(slots=True)
class Form:
    """A number for each task of a group: `constant` and `weights` of its draft, verdict and validation alone."""

    constant: float = 0.0
    weights: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])

    def lend(self, part: int, weight: float, mean: float) -> None:
        """What one that was seen adds to the mean that stands for others."""
        self.weights[part] += weight
        self.constant -= weight * mean


def shape_of(tasks: Sequence[Sums], forms: Sequence[Form]) -> Shape:
    """Of one number a task, one form a group."""
    n = sum(one.n for one in tasks)
    means = [one.mean(form.constant, form.weights) for one, form in zip(tasks, forms, strict=True)]
    mean = math.fsum(one.n * value for one, value in zip(tasks, means, strict=True)) / n
    second, third = [], []
    for one, form, value in zip(tasks, forms, means, strict=True):
        w, apart = form.weights, value - mean
        within = one.second(w, w)
        second += [within, one.n * apart**2]
        third += [one.third(w, w, w), 3.0 * apart * within, one.n * apart**3]
    squares, cubes = math.fsum(second) / n, math.fsum(third) / n
    if squares <= 1e-24 * mean**2:
        return Shape(n, mean, 0.0, 0.0)
    return Shape(n, mean, math.sqrt(squares / max(1, n - 1)), cubes / math.sqrt(squares) ** 3)


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


def bernstein(shape: Shape, reach: float, confidence: float, box: Interval) -> Interval:
    """Maurer and Pontil (2009) at half the error, within the box. `reach`: the most by which two numbers differ."""
    if shape.n < 2 or reach <= 0.0:
        return box
    half = reach * bernstein_width(shape.n, shape.variance / reach**2, math.log(4.0 / (1.0 - confidence)))
    return Interval(max(box.low, shape.mean - half), min(box.high, shape.mean + half))
