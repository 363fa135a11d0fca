"""p-values of "the mean loss is at least the tolerance", for independent losses in [0, 1]: docs/certificates.md.

Each is at most delta with probability at most delta where the mean loss is at or above the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.intervals import binomial_cdf, relative_entropy

LARGEST_STAKE = 0.99
"""Of the wealth, on one loss: even a loss of 1 leaves something to bet with."""
SMALLEST_VARIANCE = 1e-4
PRIOR_VARIANCE = 0.25
"""Of one imagined loss: the largest there is, so that the first bets are small."""


def p_value_of_count(count: int, n: int, tolerance: float) -> float:
    """Exact: P(Bin(n, tolerance) <= count)."""
    return binomial_cdf(count, n, tolerance) if n else 1.0


def p_value_of_sum(total: float, n: int, tolerance: float) -> float:
    """Hoeffding-Bentkus: p of "mean loss > tolerance" for n losses in [0, 1] summing to `total` (Bates et al. 2021)."""
    if n == 0:
        return 1.0
    ceiling = math.ceil(math.nextafter(total, math.inf)) if total > 0.0 else 0
    hoeffding = math.exp(-n * relative_entropy(min(total / n, tolerance), tolerance))
    return min(1.0, hoeffding, math.e * binomial_cdf(ceiling, n, tolerance))


def p_value_of_bets(losses: Sequence[float], tolerance: float, delta: float) -> float:
    """Bets, one loss after another, that they lie below the tolerance, until the wealth is 1 / delta: one over the
    largest wealth. With a mean at or above the tolerance that is seldom large (Ville 1939).

    `losses` come in an order that their values did not choose. A bet is what brings the wealth to its target over the
    losses still to come, by their variance so far (STaR, Voracek and Orabona 2025): where losses vary little, far
    sharper than Hoeffding-Bentkus.
    """
    target, wealth, largest, squares = -math.log(delta), 0.0, 0.0, PRIOR_VARIANCE
    for i, loss in enumerate(losses):
        variance = max(squares / (i + 1), SMALLEST_VARIANCE)
        stake = math.sqrt(2.0 * (target - wealth) / ((len(losses) - i) * variance))
        gain = tolerance - loss
        wealth += math.log1p(min(stake, LARGEST_STAKE / (1.0 - tolerance)) * gain)
        squares += gain * gain
        largest = max(largest, wealth)
        if wealth >= target:
            break
    return math.exp(-largest)
