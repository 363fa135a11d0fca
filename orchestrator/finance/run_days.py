"""Runs by the UTC day they ended in: how many, and how many of known success."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, Select, cast, func, select

from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.hours import Hours, hours_of
from orchestrator.finance.run_cells import keys_in_scope, read_row_by_row
from orchestrator.finance.scope import Scope, ended, with_config
from orchestrator.store.cells import run_cell
from orchestrator.store.evidence import evidence, outcome, run
from orchestrator.store.keys import HOUR_S

_DAY_H = 24


@dataclass(slots=True)
class DayCount:
    """`right` and `wrong` are known; of the other `runs` nobody knows."""

    runs: int = 0
    right: int = 0
    wrong: int = 0

    def add(self, runs: int, success: bool | None) -> None:
        self.runs += runs
        self.right += runs if success else 0
        self.wrong += runs if success is not None and not success else 0


DayKey = tuple[int, str, str]
"""The UTC day, counted from the epoch; pipeline; cost centre."""


def count_days(connection: Connection, scope: Scope) -> dict[DayKey, DayCount]:
    """The runs that ended in the period, in order."""
    hours = hours_of(scope.period)
    days: dict[DayKey, DayCount] = {}
    for counted in (_counted(scope, hours), _waiting(connection, scope, hours)):
        for day, pipeline, cost_center, success, runs in connection.execute(counted):
            days.setdefault((int(day), pipeline, cost_center), DayCount()).add(int(runs), success)
    return dict(sorted(days.items()))


def _counted(scope: Scope, hours: Hours) -> Select[Any]:
    cell = run_cell.c
    day = (cell.hour - cell.hour % _DAY_H).label("first_hour")
    summed = (
        select(day, cell.key_id, func.sum(cell.runs).label("runs"))
        .where(cell.runs > 0, hours.whole(cell.hour)).group_by("first_hour", cell.key_id).subquery("summed")
    )
    key = keys_in_scope(scope).subquery("key")
    return select(
        summed.c.first_hour // _DAY_H, key.c.pipeline, key.c.cost_center, key.c.success, summed.c.runs
    ).join(key, key.c.key_id == summed.c.key_id)


def _waiting(connection: Connection, scope: Scope, hours: Hours) -> Select[Any]:
    known = evidence(among=read_row_by_row(hours))
    days = outcome.c.ended_at / (_DAY_H * HOUR_S)
    day = cast(days if connection.dialect.name == "sqlite" else func.floor(days), Integer)
    each = (
        select(day.label("day"), run.c.pipeline, config.c.cost_center, known.success.label("success"))
        .select_from(with_config(known.joined))
        .where(known.wanted, ended(outcome.c.ended_at, scope), config.c.mode != CALIBRATION).subquery("each")
    )
    by = (each.c.day, each.c.pipeline, each.c.cost_center, each.c.success)
    return select(*by, func.count()).group_by(*by)
