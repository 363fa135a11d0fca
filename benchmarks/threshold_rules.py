"""The rules that `certify` is measured against, written from their definitions: nothing here imports ours.

Each takes the scores and losses of n labelled tasks, a tolerance and delta, and returns a threshold or None. Losses
that are all 0 or 1 are tested by the binomial, graded ones by Hoeffding-Bentkus.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from pools import Floats
from scipy.stats import binom

QUANTILES = 50


def textbook(
    scores: Floats, losses: Floats, tolerance: float, delta: float, draw: np.random.Generator
) -> float | None:
    """Learn then Test as written (arXiv 2110.01052): a fifth of the records fixes 50 quantiles, the rest tests them."""
    order = draw.permutation(len(scores))
    aside, rest = order[: len(order) // 5], order[len(order) // 5 :]
    return sequence(scores[rest], losses[rest], scores[aside], tolerance, delta)


def textbook_free(scores: Floats, losses: Floats, tolerance: float, delta: float) -> float | None:
    """The same with the quantiles of the records it tests, at no cost: on a regret, the dense rule made coarse."""
    return sequence(scores, losses, scores, tolerance, delta)


def textbook_selective(
    scores: Floats, errors: Floats, tolerance: float, delta: float, draw: np.random.Generator
) -> float | None:
    """The textbook sequence for the error among accepted drafts: each quantile is tested on what it accepts.

    It starts where ln(delta) / ln(1 - tolerance) accepted drafts are expected: fewer can't pass, even without an error.
    """
    order = draw.permutation(len(scores))
    aside, rest = order[: len(order) // 5], order[len(order) // 5 :]
    needed, found = math.log(delta) / math.log1p(-tolerance), None
    for candidate in _quantiles(scores[aside]):
        if float(np.mean(scores[aside] >= candidate)) * len(rest) < needed:
            continue
        accepted = errors[rest][scores[rest] >= candidate]
        if p_value(float(accepted.sum()), len(accepted), tolerance, _binary(errors)) > delta:
            break
        found = candidate
    return found


def sequence(scores: Floats, losses: Floats, fixed_by: Floats, tolerance: float, delta: float) -> float | None:
    found = None
    for candidate in _quantiles(fixed_by):
        total = float(losses[scores >= candidate].sum())
        if p_value(total, len(scores), tolerance, _binary(losses)) > delta:
            break
        found = candidate
    return found


def dense(scores: Floats, losses: Floats, tolerance: float, delta: float) -> float | None:
    """Every distinct score, walked down until the exact test fails."""
    return _walk(scores, losses, lambda total: p_value(total, len(scores), tolerance, _binary(losses)) <= delta)


def randomised(
    scores: Floats, losses: Floats, tolerance: float, delta: float, draw: np.random.Generator
) -> float | None:
    """Dense, with a coin that spends delta exactly: the ceiling of any test of these counts. Binary losses only."""
    n = len(scores)
    most = most_losses(n, tolerance, delta)
    spent, following = float(binom.cdf(most, n, tolerance)), float(binom.pmf(most + 1, n, tolerance))
    allowed = most + (draw.random() < (delta - spent) / following)
    return _walk(scores, losses, lambda total: total <= allowed)


def power(error: float, accepted: int, tolerance: float, delta: float) -> float:
    """How often the most powerful test of "the error is above the tolerance" passes, on so many accepted drafts with
    this true error: the binomial one, randomised to spend delta exactly (Neyman and Pearson). 0/1 losses."""
    most = most_losses(accepted, tolerance, delta)
    spent, following = float(binom.cdf(most, accepted, tolerance)), float(binom.pmf(most + 1, accepted, tolerance))
    coin = (delta - spent) / following if following > 0.0 else 0.0
    return float(binom.cdf(most, accepted, error) + coin * binom.pmf(most + 1, accepted, error))


@lru_cache
def most_losses(n: int, tolerance: float, delta: float) -> int:
    """The largest k with P(Bin(n, tolerance) <= k) <= delta; -1 where there is none."""
    return int(np.searchsorted(binom.cdf(np.arange(n + 1), n, tolerance), delta, side="right")) - 1


@lru_cache(maxsize=100_000)
def p_value(total: float, n: int, tolerance: float, binary: bool) -> float:
    if n == 0:
        return 1.0
    if binary:
        return float(binom.cdf(round(total), n, tolerance))
    a = min(total / n, tolerance)
    h1 = (a * math.log(a / tolerance) if a else 0.0) + (1.0 - a) * math.log((1.0 - a) / (1.0 - tolerance))
    return min(math.exp(-n * h1), math.e * float(binom.cdf(math.ceil(total + 1e-9), n, tolerance)))


def _walk(scores: Floats, losses: Floats, passes: Callable[[float], bool]) -> float | None:
    known = ~np.isnan(scores)
    order = np.argsort(-scores[known], kind="stable")
    descending, totals = scores[known][order], np.cumsum(losses[known][order])
    ends = np.flatnonzero(np.diff(descending, append=-np.inf))
    low, high = 0, len(ends)
    while low < high:  # totals only grow: the last candidate that passes is found by bisection
        middle = (low + high) // 2
        low, high = (middle + 1, high) if passes(float(totals[ends[middle]])) else (low, middle)
    return float(descending[ends[low - 1]]) if low else None


def _quantiles(scores: Floats) -> list[float]:
    """50 of them, from safe to permissive, the lowest score included."""
    descending = np.sort(scores[~np.isnan(scores)])[::-1]
    ranks = np.ceil(len(descending) * np.arange(1, QUANTILES + 1) / QUANTILES).astype(int)
    return [float(level) for level in dict.fromkeys(descending[np.maximum(ranks, 1) - 1].tolist())]


def _binary(losses: Floats) -> bool:
    return bool(np.isin(losses, (0.0, 1.0)).all())
