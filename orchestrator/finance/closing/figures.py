"""A month in the few figures that everything of it comes to: from its report, and once more from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, case, func, select

from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.money_sums import by_currency
from orchestrator.finance.period import Period
from orchestrator.finance.records import MonthFigures, Report
from orchestrator.finance.scope import call, within
from orchestrator.records import Money
from orchestrator.store.evidence import RunIds, evidence, outcome, run


def figures_of(report: Report) -> tuple[MonthFigures, ...]:
    """Of a report by pipeline."""
    return tuple(
        MonthFigures(
            pipeline=line.group["pipeline"], runs=line.runs, successes=line.successes, failures=line.failures,
            calls=line.calls, unsettled=line.unsettled_calls,
            spent=_spent(money for s in line.spend for money in (s.total, s.baseline, s.calibration)),
        )
        for line in report.lines
    )


def _spent(amounts: Iterable[Money | None]) -> tuple[Money, ...]:
    """By currency, without what comes to nothing."""
    return tuple(money for money in by_currency(amounts) if money.nano)


def read_figures(connection: Connection, period: Period, *, as_of: float | None = None) -> tuple[MonthFigures, ...]:
    """The same from the rows of runs, calls and feedback, one by one in SQL. `as_of`: without later feedback."""
    runs = {row.pipeline: row for row in connection.execute(_runs(period, as_of))}
    calls: dict[str, list[Any]] = {}
    for row in connection.execute(_calls(period)):
        calls.setdefault(row.pipeline, []).append(row)
    return tuple(_figures(name, runs.get(name), calls.get(name, [])) for name in sorted({*runs, *calls}))


def read_successes(
    connection: Connection, period: Period, *, as_of: float, among: RunIds
) -> dict[str, tuple[int, int]]:
    """How many of the runs `among` that ended in the period are known to be right, and wrong, by pipeline."""
    rows = connection.execute(_runs(period, as_of, among))
    return {row.pipeline: (int(row.right), int(row.wrong)) for row in rows}


def _runs(period: Period, as_of: float | None, among: RunIds | None = None) -> Any:
    known = evidence(as_of, among)
    each = (
        select(run.c.pipeline, known.success.label("success"))
        .select_from(known.joined.join(config, config.c.config_id == run.c.config_id))
        .where(known.wanted, within(outcome.c.ended_at, period), config.c.mode != CALIBRATION).subquery("each")
    )
    success = each.c.success
    return select(
        each.c.pipeline, func.count().label("runs"), func.sum(case((success.is_(True), 1), else_=0)).label("right"),
        func.sum(case((success.is_(False), 1), else_=0)).label("wrong"),
    ).group_by(each.c.pipeline)


def _calls(period: Period) -> Any:
    c = call.c
    return (
        select(run.c.pipeline, c.currency, func.count().label("calls"),
               func.sum(case((c.state == "unsettled", 1), else_=0)).label("unsettled"),
               func.sum(c.cost_nano).label("cost"))
        .select_from(call.join(run, run.c.run_id == c.run_id))
        .where(within(func.coalesce(c.ended_at, c.started_at), period)).group_by(run.c.pipeline, c.currency)
    )


def _figures(pipeline: str, runs: Any, calls: list[Any]) -> MonthFigures:
    return MonthFigures(
        pipeline=pipeline, runs=runs.runs if runs else 0, successes=int(runs.right) if runs else 0,
        failures=int(runs.wrong) if runs else 0, calls=sum(row.calls for row in calls),
        unsettled=sum(int(row.unsettled) for row in calls),
        spent=_spent(Money(nano=int(row.cost), currency=row.currency) for row in calls if row.cost is not None),
    )


def differences(stated: Iterable[MonthFigures], found: Iterable[MonthFigures]) -> list[str]:
    """What two readings of one month disagree in, in words."""
    before, after = _by_pipeline(stated), _by_pipeline(found)
    said = []
    for name in sorted({*before, *after}):
        one, other = before.get(name, nothing(name)), after.get(name, nothing(name))
        for figure in ("runs", "successes", "failures", "calls", "unsettled"):
            if getattr(one, figure) != getattr(other, figure):
                said.append(f"{name}: {figure} {getattr(one, figure):,}, the rows say {getattr(other, figure):,}")
        if one.spent != other.spent:
            said.append(f"{name}: cost {_money(one)}, the rows say {_money(other)}")
    return said


def nothing(pipeline: str) -> MonthFigures:
    return MonthFigures(pipeline=pipeline, runs=0, successes=0, failures=0, calls=0, unsettled=0, spent=())


def _by_pipeline(figures: Iterable[MonthFigures]) -> Mapping[str, MonthFigures]:
    return {one.pipeline: one for one in figures}


def _money(figures: MonthFigures) -> str:
    return ", ".join(map(str, figures.spent)) or "0"
