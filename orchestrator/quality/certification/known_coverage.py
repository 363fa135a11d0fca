"""Regret of right-or-wrong records, tested with the coverage known from unlabelled traffic. Needs numpy.

The plain rule bounds regret R = P(accepted and regretted) by the count K of regretted records, whose variance at
R = alpha is n alpha (1 - alpha). Where the coverage c is known, the number A of accepted records tells how lucky the
draw was, and the count less what A explains of it,

    D = K - alpha / max(C, 1/2) (A - n C),      C = (A + M) / (n + N),      M of the N unlabelled tasks accepted,

has a smaller variance, n alpha (1 - alpha / c) where c >= 1/2, and, being finer than a count, spends delta nearly
whole. Without traffic D is K: the plain rule.

p is the largest P_c(D <= d) over the coverages c in a confidence interval of error gamma, plus gamma (Berger and Boos
1994), where P_c has R = alpha: K ~ Bin(n, alpha), A - K ~ Bin(n - K, (c - alpha) / (1 - alpha)), M ~ Bin(N, c).
A larger R only raises K, so that p holds for every R >= alpha. Every distinct score, labelled or not, is a candidate;
the walk down ends before the first that fails. It is wrong only if a true null passed at one place, which the data do
not choose: the highest threshold with R >= alpha, whose counts are those of the lowest candidate above it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from orchestrator.intervals import relative_entropy
from orchestrator.quality.certification.sample import SHOWN_EACH_SIDE, Found, Sample
from orchestrator.quality.certification.traffic import Traffic, steps_of
from orchestrator.quality.certification.walks import first_failure
from orchestrator.quality.records import Tested

NUISANCE_SHARE = 1e-3
"""gamma / delta: what the confidence interval of the coverage may cost."""
COVERAGES = (0.5, 0.0, 1.0, 0.25, 0.75, 0.125, 0.875)
"""Places in that interval where P_c is taken, the likeliest to be large first: it hardly moves in between."""
TAIL = 1e-7
"""At least the probability outside the windows of A and M that are summed over; part of every p."""
FLOOR = 0.5
"""The coverage below which the slope grows no more. At low coverage there is little to gain from A and its noise ends
the walk early; with few records, or losses far down, that costs more than the smaller variance saves."""


def known_coverage(sample: Sample, traffic: Traffic, tolerance: float, delta: float) -> Found:
    """Walk down through every score of right-or-wrong records and of traffic that is not empty."""
    return _Walk(sample, traffic, tolerance, delta).found()


class _Walk:
    def __init__(self, sample: Sample, traffic: Traffic, tolerance: float, delta: float) -> None:
        self.sample, self.traffic, self.tolerance, self.delta = sample, traffic, tolerance, delta
        self.steps = steps_of(sample, traffic)
        self.p_value = cache(self._p_value)

    def found(self) -> Found:
        end = first_failure(len(self.steps), lambda first, last: self._pass(first, last, self.steps[last].most))
        if end < len(self.steps) and self._pass(end, end, self.steps[end].least):
            step, accepted = end, self._last_passing(end)
        else:
            step, accepted = end - 1, self.steps[end - 1].most if end else 0
        step = max(step, 0)  # nothing passed: above every score
        threshold = self._threshold(step, accepted)
        return Found(
            threshold=threshold, p_value=None if threshold is None else self.p_value(step, accepted),
            method="exact trinomial with coverage known from traffic, every score",
            tested=self._around(step, accepted),
        )

    def _p_value(self, step: int, most: int) -> float:
        """Of the threshold that accepts `most` of the traffic, within the step."""
        draws = self._draws(step, step, most)
        return min(1.0, max((of.probability() for of in draws), default=0.0) + NUISANCE_SHARE * self.delta)

    def _pass(self, first: int, last: int, most: int) -> bool:
        """Every threshold from step `first` to the one of step `last` that accepts `most`: exact for a single one."""
        enough = self.delta - NUISANCE_SHARE * self.delta
        return all(of.is_at_most(enough) for of in self._draws(first, last, most))

    def _last_passing(self, step: int) -> int:
        """How many of the traffic the lowest passing threshold of a step accepts, where its first one passes."""
        low, high = self.steps[step].least, self.steps[step].most
        while high - low > 1:
            middle = (low + high) // 2
            if self._pass(step, step, middle):
                low = middle
            else:
                high = middle
        levels, least = self.traffic.levels, self.steps[step].least
        while low > least and low < len(levels) and levels[low - 1] == levels[low]:
            low -= 1  # equal scores are accepted together or not at all
        return low

    def _draws(self, first: int, last: int, most: int) -> Iterator[_Draws]:
        """At the coverages that traffic and records leave open; none where fewer than alpha are accepted at all.

        D is largest with the fewest records accepted, and the most regretted and the most traffic accepted.
        """
        n, others, alpha = self.sample.n, self.traffic.n, self.tolerance
        top, bottom = self.steps[first], self.steps[last]
        lost = int(self.sample.lost(bottom.accepted))
        d = lost - _explained(n, others, alpha, top.accepted, most)
        error, total = math.log(2.0 / (NUISANCE_SHARE * self.delta)), n + others
        low = max(_end(top.accepted + top.least, total, error, -1.0), alpha + 1e-12)
        high = min(_end(bottom.accepted + most, total, error, 1.0), 1.0 - 1e-12)
        if high > alpha:
            yield from (_Draws(n, others, alpha, d, low + place * (high - low)) for place in COVERAGES)

    def _threshold(self, step: int, most: int) -> float | None:
        """The lowest threshold of a step that accepts `most` of the traffic; None above every score."""
        if most > self.steps[step].least:
            return self.traffic.levels[most - 1]
        return self.steps[step].level if step else None

    def _around(self, step: int, most: int) -> tuple[Tested, ...]:
        """Labelled scores above the threshold, the threshold itself, what failed first, labelled scores below it."""
        above = [(i, self.steps[i].least) for i in range(max(1, step - SHOWN_EACH_SIDE + 1), step + 1)]
        places = [place for place in above if place < (step, most)]
        if self._threshold(step, most) is not None:
            places.append((step, most))
        below = [(i, self.steps[i].least) for i in range(max(1, step + 1), len(self.steps))[:SHOWN_EACH_SIDE]]
        if most < self.steps[step].most:
            below.insert(0, (step, self._following(most)))
        return tuple(self._tested(*place, passed=place <= (step, most)) for place in places + below[:SHOWN_EACH_SIDE])

    def _following(self, most: int) -> int:
        """How many of the traffic the next lower score of it accepts."""
        levels = self.traffic.levels
        return next((i for i in range(most + 1, len(levels)) if levels[i] != levels[most]), len(levels))

    def _tested(self, step: int, most: int, *, passed: bool) -> Tested:
        accepted = self.steps[step].accepted
        threshold = self._threshold(step, most)
        assert threshold is not None, "only scores are shown"
        return Tested(
            threshold=threshold, accepted=accepted, loss=self.sample.lost(accepted),
            p_value=self.p_value(step, most), passed=passed,
        )


class _Draws:
    """All draws of n records and `others` unlabelled tasks at a coverage and R = alpha: how likely is D <= d?

    Row by row of K: up to `sure` the event holds for every likely A and M, above `last` for none.
    """

    def __init__(self, n: int, others: int, alpha: float, d: float, coverage: float) -> None:
        self.n, self.others, self.alpha, self.d, self.coverage = n, others, alpha, d, coverage
        self.a, self.m = _window(n, coverage), _window(others, coverage)
        self.sure = self._most_regretted(self.a[0], self.m[1])
        self.last = self._most_regretted(self.a[1], self.m[0])

    def is_at_most(self, enough: float) -> bool:
        """`probability() <= enough`, by bounds where they tell."""
        at_most = _cumulative(self.n, self.alpha)
        if at_most[self.last + 1] + TAIL <= enough:
            return True
        return bool(at_most[self.sure + 1] <= enough) and self.probability() <= enough

    def probability(self) -> float:
        """At least P(D <= d), at most TAIL above it."""
        n, (a_low, a_high), (m_low, m_high) = self.n, self.a, self.m
        k, a = np.arange(self.sure + 1, self.last + 1), np.arange(a_low, a_high + 1)
        at_most = _most_traffic(n, self.others, self.alpha, a, k - self.d)
        cumulative = _binomial_cumulative(self.others, self.coverage, m_low, m_high)
        holds = cumulative[np.clip(at_most - (m_low - 1), 0, m_high - m_low + 1).astype(np.intp)]
        likely = _trinomial(n, self.alpha, self.coverage, k, a)
        return float(_cumulative(n, self.alpha)[self.sure + 1] + np.vdot(likely, holds)) + TAIL

    def _most_regretted(self, accepted: int, of_traffic: int) -> int:
        """The largest K with D <= d; -1 where there is none."""
        explained = _explained(self.n, self.others, self.alpha, accepted, of_traffic)
        return max(-1, min(self.n, math.floor(self.d + explained + 1e-9)))


def _explained(n: int, others: int, alpha: float, accepted: int, of_traffic: int) -> float:
    """What an A above its expectation explains of K: the slope times A - n (A + M) / (n + N)."""
    share = (accepted + of_traffic) / (n + others)
    return alpha / max(share, FLOOR) * (accepted - n * share)


def _most_traffic(
    n: int, others: int, alpha: float, a: NDArray[np.int_], least: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """The largest M with which each `a` (columns) explains at least `least` (rows, ascending): the slope is the smaller
    of two, and what is explained falls as M grows with either."""
    total, explained = n + others, least / alpha
    most: NDArray[np.float64] = np.subtract.outer(-explained * (total * FLOOR / n), -a * (others / n))
    with np.errstate(divide="ignore", invalid="ignore"):
        per_share = np.multiply.outer(total / (n + explained) - 1.0, a)
    per_share[n + explained <= 0.0] = others
    positive = int(np.searchsorted(least, 0.0, side="right"))
    np.maximum(most[:positive], per_share[:positive], out=most[:positive])
    np.minimum(most[positive:], per_share[positive:], out=most[positive:])
    return np.floor(most + 1e-6)


def _window(n: int, p: float) -> tuple[int, int]:
    """Counts outside have a probability of at most TAIL / 4 on each side: Bernstein's inequality."""
    error, variance = math.log(4.0 / TAIL), n * p * (1.0 - p)
    reach = error / 3.0 + math.sqrt(error * error / 9.0 + 2.0 * error * variance)
    return max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach))


def _trinomial(n: int, alpha: float, coverage: float, k: NDArray[np.int_], a: NDArray[np.int_]) -> NDArray[np.float64]:
    """P(K = k, A = a), k in rows, a in columns: a product of three terms, in k, in a and in a - k."""
    logs, rows = _log_factorials(n), len(k)
    fine = np.arange(a[0] - k[-1], a[-1] - k[0] + 1) if rows else a
    of_fine = np.where(fine >= 0, fine * math.log(coverage - alpha) - logs[np.maximum(fine, 0)], -np.inf)
    of_a = (n - a) * math.log1p(-coverage) - logs[n - a]
    of_k = logs[n] - logs[k] + k * math.log(alpha)
    exponent: NDArray[np.float64] = sliding_window_view(of_fine, len(a))[::-1][:rows] + of_a
    exponent += of_k[:, None]
    return np.exp(exponent, out=exponent)


@lru_cache(maxsize=8)
def _cumulative(n: int, p: float) -> NDArray[np.float64]:
    return _binomial_cumulative(n, p, 0, n)


def _binomial_cumulative(n: int, p: float, low: int, high: int) -> NDArray[np.float64]:
    """[0, P(X <= low), ..., P(X <= high)] for X ~ Bin(n, p) known to lie between low and high."""
    counts = np.arange(low, high)
    steps = np.log((n - counts) / (counts + 1.0)) + math.log(p) - math.log1p(-p)
    logs = np.concatenate(([0.0], np.cumsum(steps)))
    cumulative = np.cumsum(np.exp(logs - logs.max()))
    return np.concatenate(([0.0], cumulative / cumulative[-1]))


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, n + 1.0)))))


def _end(count: int, n: int, error: float, side: float) -> float:
    """An end of a confidence interval for a rate, `side` -1 or 1, each wrong with probability exp(-error) at most:
    the Chernoff bound n h1(count / n, p) <= error, bisected outwards."""
    share = count / n
    inside, outside = share, 0.0 if side < 0.0 else 1.0
    for _ in range(40):
        middle = (inside + outside) / 2.0
        if n * relative_entropy(share, middle) <= error:
            inside = middle
        else:
            outside = middle
    return outside
