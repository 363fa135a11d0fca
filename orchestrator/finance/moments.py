"""What the power sums of cells say of costs, and of costs and successes together. All in floating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.finance.rates import augmented
from orchestrator.finance.success import Cell, Confidences, Stratum, Tally
from orchestrator.intervals import Interval, bounded_mean


def heavy_tailed(cells: Sequence[Cell], of_cost: float = 1.0) -> bool:
    """Cochran's rule (Sampling Techniques, 1977, 2.15): a mean is near normal where n > 25 x skewness squared.

    Where costs make up only a part of a figure's variance, its skewness is theirs times that part to the power 3/2.
    """
    n = sum(c.runs for c in cells)
    mean = sum(c.cost for c in cells) / n
    second = sum(c.cost_squares for c in cells) / n - mean**2
    third = sum(c.cost_cubes for c in cells) / n - 3.0 * mean * second - mean**3
    if second <= 1e-12 * mean**2:
        return False
    return n <= 25.0 * third**2 / second**3 * of_cost**3


@dataclass(frozen=True, slots=True)
class Moments:
    """Of the runs' costs c and successes Z: the relative standard error of the mean of c, their correlation."""

    cost_error: float
    correlation: float


def moments(cells: Sequence[Cell], counts: Tally) -> Moments:
    """Of `cells` and what `tally` makes of them, without a run that is not estimated.

    Z is a run's success where known, else f + (y - f) xi / pi with f the rate of its stratum or, where that is
    sharper, its logged confidence, centred; and pi the share of the stratum that was checked."""
    strata = {s.propensity: s for s in counts.strata}
    sums = [_products(cell, strata.get(cell.propensity) if cell.propensity is not None else None) for cell in cells]
    n, cost = sum(c.runs for c in cells), sum(c.cost for c in cells)
    total, squares, products = (math.fsum(column) for column in zip(*sums, strict=True))
    of_cost = max(0.0, math.fsum(c.cost_squares for c in cells) - cost**2 / n)
    of_success = max(0.0, squares - total**2 / n)
    together = math.sqrt(of_cost * of_success)
    return Moments(
        cost_error=math.sqrt(of_cost / (n - 1) * n) / cost,
        correlation=max(-1.0, min(1.0, (products - total * cost / n) / together)) if together > 0.0 else 0.0,
    )


def _products(cell: Cell, stratum: Stratum | None) -> tuple[float, float, float]:
    """Sums of Z, of its square and of Z times cost over the runs of a cell."""
    right = 1.0 if cell.success else 0.0
    if stratum is None:
        return right * cell.runs, right * cell.runs, right * cell.cost
    f = _guess(cell, stratum)
    if cell.success is None:
        return f.total, f.squares, f.costs
    k = stratum.runs / stratum.checked
    return (
        (1.0 - k) * f.total + k * right * cell.runs,
        (1.0 - k) ** 2 * f.squares + 2.0 * k * right * (1.0 - k) * f.total + k**2 * right * cell.runs,
        (1.0 - k) * f.costs + k * right * cell.cost,
    )


def _guess(cell: Cell, stratum: Stratum) -> Confidences:
    """Sums of f over a cell."""
    found, f = stratum.residuals, cell.confidences
    if found is None or f is None or not augmented(stratum):
        rate = float(stratum.rate)
        return Confidences(total=rate * cell.runs, squares=rate**2 * cell.runs, costs=rate * cell.cost)
    shift = found.mean
    return Confidences(
        total=f.total + shift * cell.runs, squares=f.squares + 2.0 * shift * f.total + shift**2 * cell.runs,
        costs=f.costs + shift * cell.cost,
    )


def mean_cost(cells: Sequence[Cell], n: int, confidence: float) -> Interval | None:
    """The mean cost of a run, between 0 and the largest reserved one; None where no such bound is known."""
    bounds = [c.bound for c in cells]
    if None in bounds:
        return None
    upper = max(b for b in bounds if b is not None)
    mean = sum(c.cost for c in cells) / n
    variance = max(0.0, sum(c.cost_squares for c in cells) - n * mean**2) / max(1, n - 1)
    return bounded_mean(n, mean, variance, max(float(upper), mean), confidence)
