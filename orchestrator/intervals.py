"""Exact binomial tails and the intervals built on them, in plain floats: no numpy, no scipy.

Quality certifies thresholds with these, finance reports success rates and costs with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def normal_quantile(p: float) -> float:
    """z with P(Z <= z) = p for a standard normal Z; 0 < p < 1."""
    return NormalDist().inv_cdf(p)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) <= k), accurate to about 1e-11 relative in the smaller tail, for n up to millions.

    The largest term of the tail is Loader's saddle-point form; the others follow by their ratio.
    """
    if n < 0 or not 0.0 <= p <= 1.0:
        raise ValueError(f"a binomial needs n >= 0 and 0 <= p <= 1, not n={n!r}, p={p!r}")
    if k < 0:
        return 0.0
    if k >= n or p == 0.0:
        return 1.0
    if p == 1.0:
        return 0.0
    if k <= n * p:
        return min(1.0, _lower_tail(k, n, p))
    return max(0.0, 1.0 - _lower_tail(n - k - 1, n, 1.0 - p))


def binomial_sf(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) >= k): the upper tail, k itself included."""
    return binomial_cdf(n - k, n, 1.0 - p)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a rate: `k` of `n` (Clopper and Pearson 1934), equal tails. No trials: [0, 1]."""
    if not 0 <= k <= n:
        raise ValueError(f"{k!r} of {n!r} is not a count of successes")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if k == 0 else _root(lambda p: binomial_sf(k, n, p) - tail)
    high = 1.0 if k == n else _root(lambda p: tail - binomial_cdf(k, n, p))
    return Interval(low, high)


def bounded_mean(n: int, mean: float, variance: float, upper: float, confidence: float = 0.95) -> Interval:
    """An interval for the mean of n independent values in [0, upper], whatever their distribution.

    On each side the better of Hoeffding's relative-entropy bound (1963, theorem 1) and the empirical Bernstein
    bound of Maurer and Pontil (2009, theorem 4), each at half of that side's error. `variance` has divisor n - 1.
    """
    if upper <= 0.0 or n == 0:
        return Interval(0.0, max(upper, 0.0))
    scaled = min(max(mean / upper, 0.0), 1.0)
    error = math.log(4.0 / (1.0 - confidence))
    low = _root(lambda p: error - n * relative_entropy(scaled, p), 0.0, scaled)
    high = _root(lambda p: n * relative_entropy(scaled, p) - error, scaled, 1.0)
    if n > 1:
        half = bernstein_width(n, variance / upper**2, error)
        low, high = max(low, scaled - half), min(high, scaled + half)
    return Interval(max(low, 0.0) * upper, min(high, 1.0) * upper)


def bernstein_width(n: int, variance: float, error: float) -> float:
    """Half-width of the one-sided bound at probability exp(-error), for values in [0, 1]."""
    doubled = error + math.log(2.0)
    return math.sqrt(2.0 * variance * doubled / n) + 7.0 * doubled / (3.0 * (n - 1))


def relative_entropy(a: float, b: float) -> float:
    """h1(a, b) = a ln(a/b) + (1-a) ln((1-a)/(1-b)), with 0 ln 0 = 0: Kullback-Leibler of two coins."""
    first = a * math.log(a / b) if a > 0.0 and b > 0.0 else math.inf if a > 0.0 else 0.0
    second = (1.0 - a) * math.log((1.0 - a) / (1.0 - b)) if a < 1.0 and b < 1.0 else math.inf if a < 1.0 else 0.0
    return max(0.0, first + second)


def _lower_tail(k: int, n: int, p: float) -> float:
    """Sum of the terms 0..k, for k at or below the mean: each is smaller than the one above it."""
    term = _binomial_term(k, n, p)
    odds = (1.0 - p) / p
    terms = [term]
    for i in range(k, 0, -1):
        term *= i / (n - i + 1) * odds
        terms.append(term)
        if term < terms[0] * 1e-18:
            break
    return math.fsum(terms)


def _binomial_term(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) = k) by Loader (2000), 'Fast and accurate computation of binomial probabilities'."""
    if k == 0:
        return math.exp(n * math.log1p(-p))
    if k == n:
        return math.exp(n * math.log(p))
    log_term = (
        _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
        - _deviance(k, n * p) - _deviance(n - k, n * (1.0 - p))
    )
    return math.exp(log_term) * math.sqrt(n / (2.0 * math.pi * k * (n - k)))


def _stirling_error(n: int) -> float:
    """ln n! minus Stirling's approximation of it."""
    if n <= 15:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi)
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / square) / square) / square) / square) / n


def _deviance(x: float, mean: float) -> float:
    """x ln(x/mean) + mean - x, by its series where the two are close and the plain form would cancel."""
    difference, total = x - mean, x + mean
    if abs(difference) >= 0.1 * total:
        return x * math.log(x / mean) + mean - x
    ratio = difference / total
    result, power = difference * ratio, 2.0 * x * ratio
    for j in range(3, 2000, 2):
        power *= ratio * ratio
        following = result + power / j
        if following == result:
            break
        result = following
    return result


def _root(rising: Callable[[float], float], low: float = 0.0, high: float = 1.0) -> float:
    """Where a rising function of p crosses zero, bisected to the last float."""
    for _ in range(1100):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if rising(middle) < 0.0:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
