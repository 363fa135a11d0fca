"""What reports ask of runs: from the cells that they were counted into, and row by row only where there is no other
way. Runs never pass through Python one by one (docs/report_scale.md).

Row by row are the runs still to be counted, and those of an hour that an edge of the period cuts, or the edge of a
feedback window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select, union

from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.hours import Hours, hours_of
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.run_rows import Asked, Kinds, RunKind, RunSums, exact, merge, sums_of_rows
from orchestrator.finance.scope import OF_CONFIG, Group, ended, group_of_key, with_config
from orchestrator.finance.success import Cell, Confidences
from orchestrator.records import SERVED
from orchestrator.store.cells import cost_cell, run_cell, run_key, uncounted
from orchestrator.store.evidence import RunIds, feedback, outcome, run
from orchestrator.store.keys import HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """Runs alike in group, evidence and status. Costs of their `cell` are of one currency; its bound may be of another
    run in the same group, and is None where one of them has a cost and no bound."""

    group: Group
    source: str
    status: str
    cell: Cell
    escalated: int
    from_cache: int
    degraded: int
    maturing: int


def read_runs(
    connection: Connection, query: ReportQuery, asked: Asked, *, as_of: float | None = None
) -> list[RunRow]:
    """Runs that ended in the period; as was known before `as_of`."""
    kinds = sums_of_cells(connection, query, asked)
    if as_of is not None:
        kinds = restated(connection, query, asked, kinds, as_of)
    return [_row(kind, sums) for kind, sums in kinds.items()]


def _row(kind: RunKind, sums: RunSums) -> RunRow:
    confidences = Confidences(sums.confidences, sums.confidence_squares, sums.confidence_costs)
    cell = Cell(
        runs=sums.runs, success=kind.success, propensity=kind.propensity, unanswered=kind.unanswered, cost=sums.cost,
        cost_squares=sums.squares, cost_cubes=sums.cubes, bound=None if sums.unbounded else sums.bound,
        confidences=confidences if sums.confident == sums.runs else None, served=kind.status in SERVED,
    )
    return RunRow(
        group=kind.group, source=kind.source, status=kind.status, cell=cell, escalated=sums.escalated,
        from_cache=sums.from_cache, degraded=sums.degraded, maturing=sums.maturing,
    )


def sums_of_cells(connection: Connection, query: ReportQuery, asked: Asked) -> Kinds:
    """Of the runs that ended in the period."""
    hours = hours_of(query.period, [asked.now - window for window in asked.windows])
    kinds = sums_of_rows(connection, query, asked, among=read_row_by_row(hours))
    of_keys = _sums_of_keys(connection, asked, hours)
    for row in connection.execute(keys_in_scope(query)):
        if (sums := of_keys.get(row.key_id)) is None:
            continue
        if row.config_id not in asked.fitted.get(row.step, ()):
            sums.confident, sums.confidences, sums.confidence_squares, sums.confidence_costs = 0, 0.0, 0.0, 0.0
        group = group_of_key(query.by, _of_config(row), row.tenant, row.tags_json)
        success = None if row.success is None else bool(row.success)
        kind = RunKind(group, row.source, success, row.propensity, bool(row.unanswered), row.status)
        kinds.setdefault(kind, RunSums()).add(sums)
    return kinds


def restated(connection: Connection, query: ReportQuery, asked: Asked, now: Kinds, as_of: float) -> Kinds:
    """`now` as it was known before `as_of`: only the runs of which something was learned since are read again, and
    those served an answer by a run that ended since."""
    learned = select(feedback.c.run_id).where(feedback.c.at >= as_of)
    served = select(run.c.run_id).where(run.c.source_run_id.in_(learned))
    source = outcome.alias("source")
    early = (
        select(run.c.run_id)
        .join(source, source.c.run_id == run.c.source_run_id).join(outcome, outcome.c.run_id == run.c.run_id)
        .where(source.c.ended_at >= as_of, ended(outcome.c.ended_at, query))
    )
    both = union(learned, served, early).subquery("since")
    since = select(both.c.run_id)
    then: Kinds = {}
    merge(then, now)
    merge(then, sums_of_rows(connection, query, asked, among=since), -1)
    merge(then, sums_of_rows(connection, query, asked, among=since, as_of=as_of))
    return {kind: sums for kind, sums in then.items() if sums.runs}


def read_row_by_row(hours: Hours) -> RunIds:
    """The runs that no cell speaks for: those still to be counted, and those of cut hours."""
    queued = select(uncounted.c.run_id)
    if not hours.cut:
        return queued
    both = union(queued, select(outcome.c.run_id).where(hours.in_cut(outcome.c.ended_at))).subquery("row_by_row")
    return select(both.c.run_id)


def _sums_of_keys(connection: Connection, asked: Asked, hours: Hours) -> dict[bytes, RunSums]:
    found: dict[bytes, RunSums] = {}
    for row in _add_up(connection, run_cell, hours):
        found[row.key_id] = RunSums(
            runs=row.runs, confident=row.confident, confidences=row.confidences,
            confidence_squares=row.confidence_squares, escalated=row.escalated, from_cache=row.from_cache,
            degraded=row.degraded,
        )
    for row in _add_up(connection, cost_cell, hours, cost_cell.c.currency == asked.currency):
        sums = found[row.key_id]
        sums.cost, sums.squares, sums.cubes, sums.confidence_costs = (
            row.cost_nano, row.squares, row.cubes, row.by_confidence
        )
        sums.bound, sums.unbounded, sums.saved = row.bound_nano, row.unbounded, row.saved_nano
    for window, config_ids in asked.windows.items():
        young = run_cell.c.hour > (asked.now - window) // HOUR_S
        ours = select(run_key.c.key_id).where(run_key.c.config_id.in_(config_ids))
        for row in _add_up(connection, run_cell, hours, young, run_cell.c.key_id.in_(ours)):
            found[row.key_id].maturing += int(row.runs)
    return {key_id: exact(sums) for key_id, sums in found.items()}


def _add_up(connection: Connection, cell: Any, hours: Hours, *where: Any) -> Iterator[Any]:
    """The sums of a table of cells, by key."""
    key = {column.name for column in cell.primary_key}
    sums = [
        (func.max if column.name == "bound_nano" else func.sum)(column).label(column.name)
        for column in cell.columns if column.name not in key
    ]
    wanted = select(cell.c.key_id, *sums).where(cell.c.runs > 0, hours.whole(cell.c.hour), *where)
    return iter(connection.execute(wanted.group_by(cell.c.key_id)))


def keys_in_scope(query: ReportQuery) -> Select[Any]:
    """The keys of cells, with the columns of their configurations."""
    keys = select(run_key, *(config.c[name] for name in OF_CONFIG)).select_from(
        run_key.join(config, config.c.config_id == run_key.c.config_id)
    ).where(config.c.mode != CALIBRATION)
    return keys if query.pipeline is None else keys.where(config.c.pipeline == query.pipeline)


def _of_config(row: Any) -> Mapping[str, str]:
    return {name: getattr(row, name) for name in OF_CONFIG}


def saved_in_cells(connection: Connection, query: ReportQuery) -> dict[tuple[Group, str], int]:
    """What answers from the cache would have cost, by group and currency."""
    hours = hours_of(query.period)
    of_cells = (
        select(cost_cell.c.key_id, cost_cell.c.currency, func.sum(cost_cell.c.saved_nano).label("nano"))
        .where(cost_cell.c.saved_nano != 0, hours.whole(cost_cell.c.hour))
        .group_by(cost_cell.c.key_id, cost_cell.c.currency).subquery("of_cells")
    )
    keys = keys_in_scope(query).subquery("keys")
    counted = select(keys, of_cells.c.currency, of_cells.c.nano).join(of_cells, of_cells.c.key_id == keys.c.key_id)
    owners = (run.c.tenant, run.c.tags_json, *(config.c[name] for name in OF_CONFIG), outcome.c.saved_currency)
    by_row = (
        select(*owners, outcome.c.saved_currency.label("currency"), func.sum(outcome.c.saved_nano).label("nano"))
        .select_from(with_config(outcome.join(run, run.c.run_id == outcome.c.run_id)))
        .where(outcome.c.run_id.in_(read_row_by_row(hours)), ended(outcome.c.ended_at, query),
               outcome.c.saved_nano != 0, config.c.mode != CALIBRATION)
        .group_by(*owners)
    )
    saved: dict[tuple[Group, str], int] = {}
    for row in (*connection.execute(counted), *connection.execute(by_row)):
        group = group_of_key(query.by, _of_config(row), row.tenant, row.tags_json)
        saved[group, row.currency] = saved.get((group, row.currency), 0) + int(row.nano)
    return {place: nano for place, nano in saved.items() if nano}
