"""Runs by the UTC day they ended in: how many, and how many of known success."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import Connection, Integer, Select, cast, func, select

from orchestrator.finance.breakdown import RunCount
from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.convert import utc_day
from orchestrator.finance.hours import Hours, hours_of
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.run_cells import keys_in_scope, read_row_by_row
from orchestrator.finance.scope import ended, with_config
from orchestrator.store.cells import run_cell
from orchestrator.store.evidence import evidence, outcome, run
from orchestrator.store.keys import HOUR_S

_DAY_H = 24


def count_days(connection: Connection, query: ReportQuery) -> tuple[RunCount, ...]:
    """The runs that ended in the period, in order of days."""
    hours = hours_of(query.period)
    counts: dict[tuple[int, str, str], Counter[bool | None]] = {}
    for counted in (_counted(query, hours), _waiting(connection, query, hours)):
        for day, pipeline, cost_center, success, runs in connection.execute(counted):
            known = counts.setdefault((int(day), pipeline, cost_center), Counter())
            known[None if success is None else bool(success)] += int(runs)
    return tuple(
        RunCount(day=utc_day(day * _DAY_H * HOUR_S), pipeline=pipeline, cost_center=cost_center, runs=known.total(),
                 successes=known[True], failures=known[False], unknown=known[None])
        for (day, pipeline, cost_center), known in sorted(counts.items())
    )


def _counted(query: ReportQuery, hours: Hours) -> Select[Any]:
    cell = run_cell.c
    day = (cell.hour - cell.hour % _DAY_H).label("first_hour")
    summed = (
        select(day, cell.key_id, func.sum(cell.runs).label("runs"))
        .where(cell.runs > 0, hours.whole(cell.hour)).group_by("first_hour", cell.key_id).subquery("summed")
    )
    key = keys_in_scope(query).subquery("key")
    return select(
        summed.c.first_hour // _DAY_H, key.c.pipeline, key.c.cost_center, key.c.success, summed.c.runs
    ).join(key, key.c.key_id == summed.c.key_id)


def _waiting(connection: Connection, query: ReportQuery, hours: Hours) -> Select[Any]:
    known = evidence(among=read_row_by_row(hours))
    days = outcome.c.ended_at / (_DAY_H * HOUR_S)
    day = cast(days if connection.dialect.name == "sqlite" else func.floor(days), Integer)
    each = (
        select(day.label("day"), run.c.pipeline, config.c.cost_center, known.success.label("success"))
        .select_from(with_config(known.joined))
        .where(known.wanted, ended(outcome.c.ended_at, query), config.c.mode != CALIBRATION).subquery("each")
    )
    by = (each.c.day, each.c.pipeline, each.c.cost_center, each.c.success)
    return select(*by, func.count()).group_by(*by)
