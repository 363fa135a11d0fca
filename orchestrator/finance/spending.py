"""One line's money of one currency: what was spent, split by what calls have, and what a success cost of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.finance.breakdown import Charge
from orchestrator.finance.configured import APART, BASELINE, CALIBRATION
from orchestrator.finance.cost import Missing, cost_per_success
from orchestrator.finance.error_price import error_priced
from orchestrator.finance.idle import Beyond
from orchestrator.finance.money_sums import total
from orchestrator.finance.records import ReportQuery, Spend, WholeBill
from orchestrator.finance.run_cells import RunRow
from orchestrator.finance.success import Cell
from orchestrator.records import Money


def spend_of(
    query: ReportQuery, code: str, calls: Sequence[Charge], rows: Sequence[RunRow], missing: Missing, saved: int,
    beyond: Beyond | None,
) -> Spend:
    """`calls` are those with a price, or a bound, in this currency; `saved` is billionths of it."""
    own = [c for c in calls if c.role not in APART]
    spent = total(c.cost for c in own)
    if spent is None and not own and not missing.calls:
        spent = Money(nano=0, currency=code)
    nano = None if spent is None else spent.nano
    cells = [row.cell for row in rows]
    asked: dict[str, Any] = {"missing": missing, "confidence": query.confidence}
    price = query.error_price if query.error_price is not None and query.error_price.currency == code else None
    return Spend(
        currency=code, total=spent, by_role=_split(own, "role"), by_step=_split(own, "step"),
        by_model=_split(own, "model"), baseline=total(c.cost for c in calls if c.role == BASELINE),
        calibration=total(c.cost for c in calls if c.role == CALIBRATION),
        waste=Money(nano=sum(cell.cost for cell in cells if cell.success is False), currency=code),
        saved=Money(nano=saved, currency=code),
        unsettled_bound=total(c.bound for c in calls), per_success=cost_per_success(nano, cells, **asked),
        with_errors=None if price is None else error_priced(price, nano, cells, **asked),
        whole_bill=None if beyond is None or spent is None else _whole_bill(spent, beyond, cells, asked),
    )


def missing_of(calls: Sequence[Charge], code: str) -> Missing:
    """Of a group's calls: those whose cost its sums in this currency lack. Those without an answer are bounded in one
    currency, and missing from no other; what has neither price nor bound may be of any."""
    own = [c for c in calls if c.role not in APART and c.currency in (code, None)]
    return Missing(
        calls=sum(c.unpriced + c.unsettled for c in own), lost=sum(c.unsettled - c.unbounded for c in own),
        bound=sum(c.bound.nano for c in own if c.bound is not None),
    )


def _whole_bill(spent: Money, beyond: Beyond, cells: Sequence[Cell], asked: dict[str, Any]) -> WholeBill:
    whole = replace(spent, nano=spent.nano + beyond.nano)
    unit = replace(cost_per_success(whole.nano, cells, **asked), low=None, high=None, method=None)
    return WholeBill(idle=replace(spent, nano=beyond.nano), total=whole, pending=beyond.pending, per_success=unit)


def _split(charges: Iterable[Charge], by: str) -> dict[str, Money]:
    """What is known of their cost, by one of their fields."""
    alike: dict[str, list[Charge]] = {}
    for one in charges:
        alike.setdefault(getattr(one, by), []).append(one)
    sums = {name: total(c.cost for c in alike[name]) for name in sorted(alike)}
    return {name: money for name, money in sums.items() if money is not None}
