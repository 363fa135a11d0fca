"""What reports ask of the ledger. Calls and runs never pass through Python one by one: they stand in sums by the hour,
kept as they end (docs/report_scale.md).

Money is summed as integers; the squares and cubes of costs, needed only for the width of intervals, as floats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.finance.configured import CALIBRATION, Fitted
from orchestrator.finance.lines import CallLine
from orchestrator.finance.run_cells import restated, saved_in_cells, sums_of_cells
from orchestrator.finance.run_rows import Asked, Kind, Sums
from orchestrator.finance.scope import COLUMNS, Group, Scope
from orchestrator.finance.success import Confidences
from orchestrator.store.evidence import feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """Runs alike in group, evidence and status. Costs are of one currency, in billionths; `bound` is the largest
    reserved cost of one of them (or of one in the same group), None where one has a cost and no bound. `confidences`
    as in a `Cell`."""

    group: Group
    source: str
    success: bool | None
    propensity: float | None
    unanswered: bool
    status: str
    runs: int
    cost: int
    cost_squares: float
    cost_cubes: float
    bound: int | None
    confidences: Confidences | None
    escalated: int
    from_cache: int
    degraded: int
    maturing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSum:
    """Calls of one role and currency. `unpriced` have used tokens and no price; `unsettled` have no answer, and cost
    `bound` at most, save for the `unbounded` among them; `in_flight` have not ended."""

    group: Group
    role: str
    currency: str | None
    calls: int = 0
    priced: int = 0
    cost: int = 0
    bound: int = 0
    unpriced: int = 0
    unsettled: int = 0
    in_flight: int = 0
    unbounded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    group: Group
    currency: str
    nano: int


def feedback_since(connection: Connection, at: float) -> bool:
    """May anything known at that time have been restated?"""
    return connection.execute(select(feedback.c.run_id).where(feedback.c.at >= at).limit(1)).first() is not None


def read_runs(
    connection: Connection, scope: Scope, *, currency: str, windows: Mapping[float, Sequence[str]],
    fitted: Fitted, now: float, as_of: float | None = None,
) -> list[RunRow]:
    """Runs that ended in the period, in cells. `windows` are feedback windows in seconds, with their config ids."""
    asked = Asked(currency=currency, windows=windows, fitted=fitted, now=now)
    kinds = sums_of_cells(connection, scope, asked)
    if as_of is not None:
        kinds = restated(connection, scope, asked, kinds, as_of)
    return [run_row(kind, sums) for kind, sums in kinds.items()]


def run_row(kind: Kind, sums: Sums) -> RunRow:
    confidences = Confidences(sums.confidences, sums.confidence_squares, sums.confidence_costs)
    return RunRow(
        **kind._asdict(), runs=sums.runs, cost=sums.cost, cost_squares=sums.squares, cost_cubes=sums.cubes,
        bound=None if sums.unbounded else sums.bound,
        confidences=confidences if sums.confident == sums.runs else None,
        escalated=sums.escalated, from_cache=sums.from_cache, degraded=sums.degraded, maturing=sums.maturing,
    )


def sum_calls(lines: Iterable[CallLine], by: Sequence[str]) -> list[CallSum]:
    """The lines' calls by group, role and currency."""
    merged: dict[tuple[Group, str, str | None], list[int]] = {}
    for line in lines:
        role = CALIBRATION if line.mode == CALIBRATION else line.role
        sums = merged.setdefault((group_of_line(by, line), role, line.currency), [0] * 8)
        for i, amount in enumerate((
            line.calls, line.priced, line.cost or 0, line.bound, line.unpriced, line.unsettled, line.in_flight,
            line.unbounded,
        )):
            sums[i] += amount
    names = ("calls", "priced", "cost", "bound", "unpriced", "unsettled", "in_flight", "unbounded")
    return [
        CallSum(group=group, role=role, currency=currency, **dict(zip(names, sums, strict=True)))
        for (group, role, currency), sums in merged.items()
    ]


def group_of_line(by: Sequence[str], line: CallLine) -> Group:
    return tuple(str(getattr(line, name)) if name in COLUMNS else line.tags.get(name, "") for name in by)


def read_savings(connection: Connection, scope: Scope) -> list[Saved]:
    """What answers from the cache would have cost, by the price of the call that made them."""
    saved = saved_in_cells(connection, scope)
    return [Saved(group=group, currency=currency, nano=nano) for (group, currency), nano in saved.items()]
