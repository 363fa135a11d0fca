"""The cells that reports read runs and their costs from, held against the runs and calls they are sums of.

Runs still queued are in no cell, and are left out on both sides (`store/cells.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Any

from sqlalchemy import BigInteger, Connection, Float, Subquery, Text, case, cast, func, literal, select, union_all

from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.finance.verify.by_hour import Placed, Values, hour_by_hour, hour_column, hour_in_words, whole_hours
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import call, outcome, run, stream
from orchestrator.store.cells import Key, cost_cell, costs_by_currency, run_cell, run_key, uncounted
from orchestrator.store.evidence import evidence
from orchestrator.store.keys import HOUR_S

CLOSE = 1e-6
"""Relative: powers are sums of floats, added and taken out in another order than here."""

COUNTS = ("runs", "confident", "escalated", "from_cache", "degraded")
POWERS = ("confidences", "confidence_squares")
AMOUNTS = ("runs", "cost_nano", "unbounded", "saved_nano")
COST_POWERS = ("squares", "cubes", "by_confidence")


@dataclass(frozen=True, slots=True)
class _CellTable:
    """One of the two tables of cells, by the names of its sums: `exact` ones are equal, `powers` close, and the
    `largest` no smaller than its rows say (a run that left a cell leaves its bound behind)."""

    table: str
    exact: tuple[str, ...]
    powers: tuple[str, ...]
    largest: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.exact, *self.powers, *self.largest)


_RUNS = _CellTable("run_cell", COUNTS, POWERS)
_COSTS = _CellTable("cost_cell", AMOUNTS, COST_POWERS, ("bound_nano",))


def run_cells(connection: Connection, period: Period) -> Iterator[Discrepancy]:
    """Of each whole hour in the period: how many runs of a kind ended in it."""
    kept = _kept(connection, _RUNS, run_cell, (), period)
    yield from _findings(_RUNS, kept, _summed_runs(connection, period))


def cost_cells(connection: Connection, period: Period) -> Iterator[Discrepancy]:
    """Of each whole hour in the period: what its runs cost in each currency, by their calls."""
    kept = _kept(connection, _COSTS, cost_cell, ("currency", "digits"), period)
    yield from _findings(_COSTS, kept, _summed_costs(connection, period))


# -- what is kept, and what the rows say -------------------------------------------------------------------------------


def _kept(
    connection: Connection, kind: _CellTable, cell: Any, more: tuple[str, ...], period: Period
) -> Iterator[Placed]:
    """A cell whose key is gone stands under a key of NULLs."""
    columns = (*(run_key.c[name] for name in Key._fields), *(cell.c[name] for name in more))
    rows = (
        select(cell.c.hour, *columns, *(cell.c[name] for name in kind.names))
        .select_from(cell.outerjoin(run_key, run_key.c.key_id == cell.c.key_id))
        .where(within(cell.c.hour * HOUR_S, whole_hours(period))).order_by(cell.c.hour)
    )
    return _placed(stream(connection, rows), len(more))


def _summed_runs(connection: Connection, period: Period) -> Iterator[Placed]:
    c = _counted(connection, period).c
    keys = [c[name] for name in ("hour", *Key._fields)]
    sums = (func.count(), func.count(c.f), *(func.sum(c[name]) for name in COUNTS[2:]),
            func.coalesce(func.sum(c.f), 0.0), func.coalesce(func.sum(c.f * c.f), 0.0))
    return _placed(stream(connection, select(*keys, *sums).group_by(*keys).order_by(c.hour)), 0)


def _summed_costs(connection: Connection, period: Period) -> Iterator[Placed]:
    counted = _counted(connection, period)
    spent = _spent(period)
    c, s = counted.c, spent.c
    real, f = cast(s.cost, Float), func.coalesce(c.f, 0.0)
    keys = [*(c[name] for name in ("hour", *Key._fields)), s.currency, func.length(cast(s.cost, Text)).label("digits")]
    sums = (
        func.count(), func.sum(s.cost), func.sum(case((s.unbounded > 0, 1), else_=0)), func.sum(s.saved),
        func.sum(real * real), func.sum(real * real * real), func.sum(f * real),
        func.max(case((s.unbounded > 0, 0), else_=s.bound)),
    )
    rows = select(*keys, *sums).select_from(counted.join(spent, s.run_id == c.run_id)).group_by(*keys)
    return _placed(stream(connection, rows.order_by(c.hour)), 2)


def _counted(connection: Connection, period: Period) -> Subquery:
    """Of each run that a cell counts: its hour, its key, and what it adds."""
    known = evidence()
    flags = ("escalated", "from_cache", "degraded")
    own = {
        "config_id": run.c.config_id, "tenant": run.c.tenant, "tags_json": run.c.tags_json,
        "status": outcome.c.status, "source": known.source, "success": known.success, "propensity": known.propensity,
        "unanswered": case((known.unanswered, 1), else_=0), "step": known.step,
    }
    return (
        select(
            outcome.c.run_id, hour_column(connection, outcome.c.ended_at).label("hour"),
            *(own[name].label(name) for name in Key._fields),
            *(case((outcome.c[name], 1), else_=0).label(name) for name in flags),
            case((known.confidence.between(0.0, 1.0), known.confidence)).label("f"),
        ).select_from(known.joined).where(*_of_cells(period)).subquery("counted")
    )


def _spent(period: Period) -> Subquery:
    """What each of these runs cost in each currency, and what answers from the cache saved it."""
    ours = select(outcome.c.run_id).where(*_of_cells(period))
    costs = costs_by_currency(call.c.run_id.in_(ours)).subquery("costs")
    each = union_all(
        select(costs, literal(0).label("saved")),
        select(outcome.c.run_id, outcome.c.saved_currency, literal(0), literal(0), literal(0), outcome.c.saved_nano)
        .where(outcome.c.saved_nano.is_not(None), *_of_cells(period)),
    ).subquery("each")
    sums = (cast(func.sum(each.c[name]), BigInteger).label(name) for name in ("cost", "bound", "unbounded", "saved"))
    return select(each.c.run_id, each.c.currency, *sums).group_by(each.c.run_id, each.c.currency).subquery("spent")


def _of_cells(period: Period) -> tuple[Any, Any]:
    return (
        within(outcome.c.ended_at, whole_hours(period)), outcome.c.run_id.not_in(select(uncounted.c.run_id)),
    )


def _placed(rows: Iterator[Any], more: int) -> Iterator[Placed]:
    size = 1 + len(Key._fields)
    for hour, *values in rows:
        of = Key(*values[: size - 1])
        success = None if of.success is None else bool(of.success)
        key = of._replace(success=success, unanswered=bool(of.unanswered))
        yield hour, (*key, *values[size - 1 : size - 1 + more]), tuple(values[size - 1 + more :])


# -- where they differ -------------------------------------------------------------------------------------------------


def _findings(kind: _CellTable, kept: Iterator[Placed], summed: Iterator[Placed]) -> Iterator[Discrepancy]:
    for hour, key, here, there in hour_by_hour(kept, summed, (0,) * len(kind.names)):
        differs = _difference(kind, here, there)
        if differs is not None:
            name, says, due = differs
            yield Discrepancy(
                kind="total", table=kind.table,
                words=f"the {kind.table} of {hour_in_words(hour)}, {_named(key)}: {name} {says:,}, its rows say "
                      f"{due:,}",
            )


def _difference(kind: _CellTable, here: Values, there: Values) -> tuple[str, Any, Any] | None:
    """The first sum in which a cell and its rows differ, with both figures."""
    kept, rows = (dict(zip(kind.names, sums, strict=True)) for sums in (here, there))
    for name in kind.exact:
        if int(kept[name]) != int(rows[name]):
            return name, int(kept[name]), int(rows[name])
    if not rows["runs"]:  # a cell that all have left keeps the rest of a float, and its largest bound
        return None
    for name in kind.powers:
        scale = float(rows.get("cost_nano", rows["runs"]))
        if not isclose(kept[name], rows[name], rel_tol=CLOSE, abs_tol=CLOSE * scale):
            return name, kept[name], rows[name]
    return next(((n, int(kept[n]), int(rows[n])) for n in kind.largest if kept[n] < rows[n]), None)


def _named(key: tuple[Any, ...]) -> str:
    of, more = Key(*key[: len(Key._fields)]), key[len(Key._fields) :]
    success = {None: "unknown", True: "success", False: "failure"}[of.success]
    currency = f"{more[0]} (costs of {more[1]} digits), " if more else ""
    return f"{currency}{of.status} runs of {of.config_id!r}, tenant {of.tenant!r}, {success} by {of.source!r}"
