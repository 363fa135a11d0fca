"""Cost per success with a price on every wrong answer: what a mistake costs whoever gets it, beside what was spent.

(spent + errors x price) / successes. An error is an answer that was served and is no success; a task handed off,
declined or failed gave no answer. With N answers served, or put right by people, and S successes the errors are
N - S, so that the figure is (spent + N x price) / S - price: **N is counted, never estimated, so its interval is that
of a cost per success** whose costs are raised by the price.

The idea of one price for a mistake, which lets models be compared by one figure: arXiv 2507.03834.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from orchestrator.finance.cost import NOTHING, CostPerSuccess, Missing, cost_per_success
from orchestrator.finance.rates import estimated_right
from orchestrator.finance.records import ErrorPriced
from orchestrator.finance.success import Cell, assume, tally
from orchestrator.records import Money


def error_priced(
    price: Money, spent: int | None, cells: Sequence[Cell], *, missing: Missing = NOTHING, confidence: float = 0.95
) -> ErrorPriced:
    """`spent` billionths, and `price` of the same currency. Arguments else as of `cost_per_success`."""
    given = sum(cell.runs for cell in cells if _answered(cell))
    raised = None if spent is None else spent + price.nano * given
    found = cost_per_success(
        raised, [_raised(cell, price.nano) for cell in cells], missing=missing, confidence=confidence
    )
    counts = tally(cells)
    return ErrorPriced(
        price=price, known=sum(cell.runs for cell in cells if cell.served and cell.success is False),
        expected=float(counts.unchecked - estimated_right(tally(assume(cells, False)))),
        unknown=counts.not_estimated, per_success=_lowered(found, price.amount),
    )


def _answered(cell: Cell) -> bool:
    """Served, or put right by people."""
    return cell.served or cell.success is True


def _raised(cell: Cell, price: int) -> Cell:
    """The cell with the price added to each run's cost."""
    if not _answered(cell):
        return cell
    p, known = float(price), cell.confidences
    return replace(
        cell, cost=cell.cost + price * cell.runs,
        cost_squares=cell.cost_squares + 2 * p * cell.cost + p**2 * cell.runs,
        cost_cubes=cell.cost_cubes + 3 * p * cell.cost_squares + 3 * p**2 * cell.cost + p**3 * cell.runs,
        bound=None if cell.bound is None else cell.bound + price,
        confidences=None if known is None else replace(known, costs=known.costs + p * known.total),
    )


def _lowered(found: CostPerSuccess, price: Decimal) -> CostPerSuccess:
    def less(value: Decimal | None) -> Decimal | None:
        return None if value is None else max(Decimal(0), value - price)

    return replace(
        found, value=less(found.value), low=less(found.low), high=less(found.high), own_low=less(found.own_low),
        own_high=less(found.own_high),
    )
