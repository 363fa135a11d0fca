"""Exact binomial tails and the intervals built on them, in plain floats: no numpy, no scipy.

Quality certifies thresholds with these, finance reports success rates and costs with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
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


@lru_cache(maxsize=4096)
def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact interval of a rate: `k` of `n` (Clopper and Pearson 1934), equal tails. No trials: [0, 1]."""
    if not 0 <= k <= n:
        raise ValueError(f"{k!r} of {n!r} is not a count of successes")
    tail = (1.0 - confidence) / 2.0
    return Interval(beta_quantile(tail, k, n - k + 1), beta_quantile(1.0 - tail, k + 1, n - k))


@lru_cache(maxsize=4096)
def hypergeometric_limits(right: int, checked: int, total: int, confidence: float = 0.95) -> Interval:
    """How many of `total` are right, where `right` of `checked` drawn at random without replacement are. Exact.

    Equal tails, as Clopper and Pearson's for a rate: an end is the last count whose tail is above half the error
    (Buonaccorsi 1987). Narrower than `total` times theirs where much was checked: what was seen is known.
    """
    if not 0 <= right <= checked <= total:
        raise ValueError(f"{right!r} right of {checked!r} checked of {total!r} are not counts of a sample")
    tail, wrong = (1.0 - confidence) / 2.0, checked - right
    most = total - wrong
    high = _last(lambda k: hypergeometric_cdf(right, total, k, checked) > tail, right, most)
    fewest_wrong = total - right
    most_wrong = _last(lambda k: hypergeometric_cdf(wrong, total, k, checked) > tail, wrong, fewest_wrong)
    return Interval(float(total - most_wrong), float(high))


def hypergeometric_cdf(x: int, total: int, right: int, drawn: int) -> float:
    """P(X <= x), with X the right ones among `drawn` of `total` of which `right` are right."""
    lowest, highest = max(0, drawn - (total - right)), min(drawn, right)
    if x < lowest:
        return 0.0
    if x >= highest:
        return 1.0
    if x * total > drawn * right:  # the upper tail is the smaller one
        return max(0.0, 1.0 - hypergeometric_cdf(drawn - x - 1, total, total - right, drawn))
    term = math.exp(_log_choose(right, x) + _log_choose(total - right, drawn - x) - _log_choose(total, drawn))
    terms = [term]
    for i in range(x, lowest, -1):
        term *= i * (total - right - drawn + i) / ((right - i + 1) * (drawn - i + 1))
        terms.append(term)
        if term < terms[0] * 1e-18:
            break
    return min(1.0, math.fsum(terms))


def beta_cdf(x: float, a: float, b: float) -> float:
    """P(Beta(a, b) <= x), the regularised incomplete beta function, by its continued fraction (Lentz's method)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - beta_cdf(1.0 - x, b, a)
    fraction, above, below = 1.0, 1.0, 0.0
    for i in range(5000):
        m = i // 2
        if i == 0:
            step = 1.0
        elif i % 2:
            step = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            step = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below = 1.0 / ((1.0 + step * below) or 1e-300)
        above = (1.0 + step / above) or 1e-300
        fraction *= above * below
        if abs(above * below - 1.0) < 1e-14:
            break
    return beta_density(x, a, b) * x * (1.0 - x) / a * (fraction - 1.0)


def beta_density(x: float, a: float, b: float) -> float:
    """Of Beta(a, b) at x between 0 and 1."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(scale + (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x))


@lru_cache(maxsize=4096)
def beta_quantile(p: float, a: float, b: float) -> float:
    """x with P(Beta(a, b) <= x) = p; all at 0 where a is 0, at 1 where b is. Newton's steps, kept in a bracket."""
    if a <= 0.0 or b <= 0.0:
        return 0.0 if a <= 0.0 else 1.0
    low, high = 0.0, 1.0
    spread = math.sqrt(1.0 / a + 1.0 / b)  # of the logit, roughly
    x = 1.0 / (1.0 + b / a * math.exp(-max(-9.0, min(9.0, spread * normal_quantile(p)))))
    for _ in range(200):
        error = beta_cdf(x, a, b) - p
        low, high = (x, high) if error < 0.0 else (low, x)
        density = beta_density(x, a, b)
        following = x - error / density if density > 0.0 else low
        if not low < following < high:
            following = (low + high) / 2.0
        if abs(following - x) <= 1e-13 * x:
            break
        x = following
    return x


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


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)


def _last(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The last integer from `low` to `high` for which a falling condition holds; it holds for `low`."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _root(rising: Callable[[float], float], low: float = 0.0, high: float = 1.0) -> float:
    """Where a rising function of p crosses zero, to the last floats: false position (Illinois), every third step a
    bisection, so that neither a jump nor an infinite value can hold it up."""
    below, above, last = -math.inf, math.inf, 0
    for turn in range(1100):
        middle = (low + high) / 2.0
        if middle in (low, high) or high - low <= 1e-15 * high:
            break
        if turn % 3 and math.isfinite(below) and math.isfinite(above):
            crossing = low - below * (high - low) / (above - below)
            middle = crossing if low < crossing < high else middle
        value = rising(middle)
        if value < 0.0:
            low, below, above, last = middle, value, above / 2.0 if last < 0 else above, -1
        else:
            high, above, below, last = middle, value, below / 2.0 if last > 0 else below, 1
    return (low + high) / 2.0
