"""What was learned of closed months since they were stated: it stands in the open month, the closed ones as they were.

**What a closed month comes to is stated once by each later close**: a restatement is the difference to what was stated
last, so that over the months they add up to what is known now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, func, select

from orchestrator.finance.closing.ahead import words_ahead
from orchestrator.finance.closing.document import of_month
from orchestrator.finance.closing.figures import figures_of, nothing
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import MonthFigures, Report, ReportQuery, RestatedMonth
from orchestrator.finance.report import build_report
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.evidence import feedback, outcome
from orchestrator.store.statements import Readable


def restated(store: Readable, report: Report, closed: Sequence[ClosedMonth]) -> Report:
    """The report of the open month that follows the last closed one, with the restatements of those; any other report
    as it is."""
    period = report.query.period
    if not closed or period.since_at != closed[-1].until_at:
        return report
    found: list[RestatedMonth] = []
    stated = _stated(closed)
    for month in closed:
        if month.touched:
            found += _differences(store, month, stated[month.period], closed[-1], report.created_at)
    wanted = report.query.pipeline
    return replace(report, restatements=tuple(one for one in found if wanted in (None, one.then.pipeline)))


def figures_now(store: Readable, closed: Sequence[ClosedMonth], now: float) -> dict[str, Sequence[MonthFigures]]:
    """What each closed month comes to by now: what the next close states of it."""
    stated = _stated(closed)
    return {
        month.period: _now(store, month, now) if month.touched else stated[month.period] for month in closed
    }


def period_of(month: ClosedMonth) -> Period:
    return parse_period(month=month.period, tz=month.tz)


def _stated(closed: Sequence[ClosedMonth]) -> Mapping[str, tuple[MonthFigures, ...]]:
    """What was stated of each month last."""
    if not closed:
        return {}
    last = of_month(closed[-1])
    return {**last.stated, last.period: last.figures}


def _now(store: Readable, month: ClosedMonth, now: float) -> tuple[MonthFigures, ...]:
    return figures_of(build_report(store, ReportQuery(period=period_of(month)), now=now))


def _differences(
    store: Readable, month: ClosedMonth, stated: Sequence[MonthFigures], last: ClosedMonth, now: float
) -> list[RestatedMonth]:
    then = {one.pipeline: one for one in stated}
    known = {one.pipeline: one for one in _now(store, month, now)}
    with store.read() as connection:
        late = _late(connection, month, last)
    found = []
    for name in sorted({*then, *known}):
        one = RestatedMonth(
            month=month.period, then=then.get(name, nothing(name)), now=known.get(name, nothing(name)),
            late=late.get(name, 0),
        )
        if one.late or one.then != one.now:
            found.append(one)
    return found


def _late(connection: Connection, month: ClosedMonth, last: ClosedMonth) -> dict[str, int]:
    """Words on the month's runs that were booked since the last close, by pipeline."""
    rows = connection.execute(
        select(outcome.c.pipeline, func.count())
        .select_from(feedback.join(outcome, outcome.c.run_id == feedback.c.run_id))
        .where(feedback.c.at >= last.created_at, outcome.c.ended_at >= month.since_at,
               outcome.c.ended_at < month.until_at)
        .group_by(outcome.c.pipeline)
    )
    late = Counter({row[0]: int(row[1]) for row in rows})
    known = words_ahead(connection, of_month(last))
    late.subtract(word.pipeline for word in known if month.since_at <= word.ended_at < month.until_at)
    return dict(late)
