"""One line's money of one currency: what was spent, split by what calls have, and what a success cost of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.finance.configured import APART, BASELINE, CALIBRATION
from orchestrator.finance.cost import Missing, cost_per_success
from orchestrator.finance.error_price import Answered, error_priced
from orchestrator.finance.idle import Beyond, counts
from orchestrator.finance.lines import CallLine
from orchestrator.finance.read import CallSum, RunRow, Saved
from orchestrator.finance.records import ReportQuery, Spend, WholeBill
from orchestrator.finance.success import Cell
from orchestrator.records import SERVED, Money


def spend_of(
    query: ReportQuery, code: str, calls: Sequence[CallSum], split: Sequence[CallLine], savings: Sequence[Saved],
    rows: Sequence[RunRow], missing: Missing, beyond: Beyond | None = None,
) -> Spend:
    own = [c for c in calls if c.role not in APART]
    known = sum(c.priced for c in own) > 0 or (not own and not missing.calls)
    total = sum(c.cost for c in own)
    unsettled = [c for c in calls if c.unsettled > c.unbounded]
    cells = cells_of(rows)
    asked: dict[str, Any] = {"missing": missing, "confidence": query.confidence}
    price = query.error_price if query.error_price is not None and query.error_price.currency == code else None
    answered = [Answered(cell, row.status in SERVED) for cell, row in zip(cells, rows, strict=True)]
    return Spend(
        currency=code,
        total=Money(nano=total, currency=code) if known else None,
        by_role=_sums(code, ((c.role, c.cost) for c in own if c.priced)),
        by_step=_sums(code, ((one.step, one.cost or 0) for one in split if counts(one))),
        by_model=_sums(code, ((one.model, one.cost or 0) for one in split if counts(one))),
        baseline=_apart(calls, BASELINE, code), calibration=_apart(calls, CALIBRATION, code),
        waste=Money(nano=sum(r.cost for r in rows if r.success is False), currency=code),
        saved=Money(nano=sum(s.nano for s in savings if s.currency == code), currency=code),
        unsettled_bound=Money(nano=sum(c.bound for c in unsettled), currency=code) if unsettled else None,
        per_success=cost_per_success(total if known else None, cells, **asked),
        with_errors=None if price is None else error_priced(price, total if known else None, answered, **asked),
        whole_bill=None if beyond is None or not known else _whole_bill(code, total, beyond, cells, asked),
    )


def missing_of(calls: Sequence[CallSum], code: str) -> Missing:
    """Of a group's calls: those whose cost its sums in this currency lack. Those without an answer are bounded in one
    currency, and missing from no other; what has neither price nor bound may be of any."""
    own = [c for c in calls if c.role not in APART and c.currency in (code, None)]
    lost = sum(c.unsettled - c.unbounded for c in own)
    return Missing(
        calls=sum(c.unpriced + c.unsettled for c in own), lost=lost,
        bound=sum(c.bound for c in own),
    )


def _whole_bill(code: str, total: int, beyond: Beyond, cells: Sequence[Cell], asked: dict[str, Any]) -> WholeBill:
    whole = total + beyond.nano
    unit = replace(cost_per_success(whole, cells, **asked), low=None, high=None, method=None)
    return WholeBill(
        idle=Money(nano=beyond.nano, currency=code), total=Money(nano=whole, currency=code), pending=beyond.pending,
        per_success=unit,
    )


def _sums(code: str, amounts: Iterable[tuple[str, int]]) -> dict[str, Money]:
    sums: dict[str, int] = {}
    for name, nano in amounts:
        sums[name] = sums.get(name, 0) + nano
    return {name: Money(nano=nano, currency=code) for name, nano in sorted(sums.items())}


def _apart(calls: Iterable[CallSum], role: str, code: str) -> Money | None:
    priced = [c.cost for c in calls if c.role == role and c.priced]
    return Money(nano=sum(priced), currency=code) if priced else None


def cells_of(rows: Iterable[RunRow]) -> list[Cell]:
    return [
        Cell(runs=r.runs, success=r.success, propensity=r.propensity, unanswered=r.unanswered, cost=r.cost,
             cost_squares=r.cost_squares, cost_cubes=r.cost_cubes, bound=r.bound, confidences=r.confidences)
        for r in rows
    ]


