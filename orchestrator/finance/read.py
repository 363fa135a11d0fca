"""What reports ask of the ledger. Everything is summed in SQL: calls and runs never pass through Python one by one.

Money is summed as integers; the squares and cubes of costs, needed only for the width of intervals, as floats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    String,
    Subquery,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.finance.evidence import Evidence, evidence, outcome, run
from orchestrator.finance.period import Period
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow, Config

call = table(CallRow)
config = table(Config)
Group = tuple[str, ...]

COLUMNS: Mapping[str, ColumnElement[Any]] = {
    "pipeline": run.c.pipeline,
    "version": config.c.version,
    "owner": config.c.owner,
    "cost_center": config.c.cost_center,
    "mode": config.c.mode,
    "tenant": run.c.tenant,
}


class Readable(Protocol):
    """A store, as far as reports need one: `read()` is a context manager giving a SQLAlchemy connection."""

    def read(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which rows, and how they are grouped: `by` names columns of COLUMNS or allow-listed tags."""

    pipeline: str | None
    by: tuple[str, ...]
    period: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """Runs alike in group and evidence. Costs are of one currency, billionths; `unknown_costs` counts runs with a
    call of unknown cost. `wasted` is what runs that are known failures cost."""

    group: Group
    source: str
    success: bool | None
    propensity: float | None
    status: str
    runs: int
    escalated: int
    from_cache: int
    degraded: int
    maturing: int
    cost: int
    cost_squares: float
    cost_cubes: float
    bound: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSum:
    """Calls of one role and currency. `unpriced` have used tokens and no price; `unsettled` have no answer."""

    group: Group
    role: str
    currency: str | None
    calls: int
    priced: int
    cost: int
    unpriced: int
    unsettled: int
    unbounded: int
    bound: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    group: Group
    currency: str
    hits: int
    nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a pipeline's configurations say of success, and which tags they let into reports."""

    config_id: str
    pipeline: str
    require: str | None
    feedback_window_s: float
    tags: tuple[str, ...]


def read_configs(connection: Connection, pipeline: str | None) -> list[Configured]:
    """Oldest first: the last of a pipeline is the present one."""
    rows = select(config.c.config_id, config.c.pipeline, config.c.body_json).order_by(config.c.created_at)
    if pipeline is not None:
        rows = rows.where(config.c.pipeline == pipeline)
    return [_configured(*row) for row in connection.execute(rows)]


def read_runs(
    connection: Connection, scope: Scope, *, currency: str, windows: Mapping[float, Sequence[str]], now: float,
    as_of: float | None = None,
) -> list[RunRow]:
    """Runs that ended in the period, in cells. `windows` are feedback windows in seconds, with their config ids."""
    known = evidence(as_of)
    keys = _keys(connection, scope.by)
    costs = _run_costs(scope, currency)
    cost = func.coalesce(costs.c.cost, 0)
    real = cast(cost, Float)
    flags = (outcome.c.escalated, outcome.c.from_cache, outcome.c.degraded, _maturing(windows, now))
    cells = [known.source.label("source"), known.success.label("success"), known.propensity.label("propensity")]
    per_run = (
        select(
            *(key.label(f"key{i}") for i, key in enumerate(keys)), *cells, outcome.c.status.label("status"),
            *(case((flag, 1), else_=0).label(f"flag{i}") for i, flag in enumerate(flags)),
            cost.label("cost"), real.label("real"),
            case((costs.c.unbounded > 0, None), else_=func.coalesce(costs.c.bound, 0)).label("bound"),
        )
        .select_from(_with_costs(known, costs))
        .where(_ended(outcome.c.ended_at, scope))
        .subquery("per_run")
    )
    names = [*(f"key{i}" for i in range(len(keys))), "source", "success", "propensity", "status"]
    grouped = select(
        *(per_run.c[name] for name in names), func.count(),
        *(func.sum(per_run.c[f"flag{i}"]) for i in range(len(flags))),
        func.sum(per_run.c.cost), func.sum(per_run.c.real * per_run.c.real),
        func.sum(per_run.c.real * per_run.c.real * per_run.c.real), func.max(per_run.c.bound),
        func.count(per_run.c.bound),
    ).group_by(*(per_run.c[name] for name in names))
    return [_run_row(row, len(keys)) for row in connection.execute(grouped)]


def read_calls(connection: Connection, scope: Scope) -> list[CallSum]:
    """Calls that ended in the period (that started in it, where they have no end)."""
    keys = _keys(connection, scope.by)
    tokens = sum((func.coalesce(call.c[f"{c}_tokens"], 0) for c in ("input", "cache_read", "cache_write", "output",
                                                                    "reasoning")), literal(0))
    unsettled = call.c.state != "settled"
    # a request that was refused or never left used no tokens: nothing is unknown about its cost
    unpriced = and_(call.c.state == "settled", call.c.cost_nano.is_(None),
                    or_(tokens > 0, call.c.input_tokens.is_(None)))
    currency = func.coalesce(call.c.currency, call.c.bound_currency)
    summed = (
        select(
            *keys, call.c.role, currency, func.count(), func.count(call.c.cost_nano), func.sum(call.c.cost_nano),
            func.sum(case((unpriced, 1), else_=0)), func.sum(case((unsettled, 1), else_=0)),
            func.sum(case((and_(unsettled, call.c.bound_nano.is_(None)), 1), else_=0)),
            func.sum(case((unsettled, call.c.bound_nano), else_=0)),
        )
        .select_from(call.join(run, run.c.run_id == call.c.run_id).join(config, config.c.config_id == run.c.config_id))
        .where(_ended(func.coalesce(call.c.ended_at, call.c.started_at), scope))
        .group_by(*keys, call.c.role, currency)
    )
    rows = []
    for row in connection.execute(summed):
        group, (role, code, *numbers) = _group(row[: len(keys)]), row[len(keys):]
        calls, priced, cost, unpriced_calls, unsettled_calls, unbounded, bound = (int(n or 0) for n in numbers)
        rows.append(CallSum(
            group=group, role=role, currency=code, calls=calls, priced=priced, cost=cost, unpriced=unpriced_calls,
            unsettled=unsettled_calls, unbounded=unbounded, bound=bound,
        ))
    return rows


def read_savings(connection: Connection, scope: Scope) -> list[Saved]:
    """What answers from the cache would have cost, by the price of the call that made them."""
    keys = _keys(connection, scope.by)
    saved = (
        select(*keys, outcome.c.saved_currency, func.count(), func.sum(outcome.c.saved_nano))
        .select_from(_with_config(outcome.join(run, run.c.run_id == outcome.c.run_id)))
        .where(_ended(outcome.c.ended_at, scope), outcome.c.saved_nano.is_not(None))
        .group_by(*keys, outcome.c.saved_currency)
    )
    n = len(keys)
    return [Saved(group=_group(row[:n]), currency=row[n], hits=int(row[n + 1]), nano=int(row[n + 2]))
            for row in connection.execute(saved)]


def _run_costs(scope: Scope, currency: str) -> Subquery:
    """What each run cost and could have cost, in one currency; the baseline's calls are no cost of the run."""
    ours = or_(call.c.currency == currency, call.c.bound_currency == currency)
    costs = select(
        call.c.run_id,
        func.sum(case((call.c.currency == currency, call.c.cost_nano), else_=0)).label("cost"),
        func.sum(case((ours, call.c.bound_nano), else_=0)).label("bound"),
        func.sum(case((and_(call.c.bound_nano.is_(None), call.c.cost_nano > 0), 1), else_=0)).label("unbounded"),
    ).where(call.c.role != "baseline")
    if scope.period.since_at is not None:
        # a call is never older than its run's start; an index on run_id does the rest
        costs = costs.where(call.c.run_id.in_(select(outcome.c.run_id).where(_ended(outcome.c.ended_at, scope))))
    return costs.group_by(call.c.run_id).subquery("costs")


def _with_costs(known: Evidence, costs: Subquery) -> Any:
    return _with_config(known.joined).outerjoin(costs, costs.c.run_id == outcome.c.run_id)


def _with_config(joined: Any) -> Any:
    return joined.join(config, config.c.config_id == run.c.config_id)


def _maturing(windows: Mapping[float, Sequence[str]], now: float) -> ColumnElement[bool]:
    """Feedback may still come: the run ended less than its pipeline's feedback window ago."""
    young = [
        and_(run.c.config_id.in_(ids), outcome.c.ended_at > now - window) for window, ids in sorted(windows.items())
    ]
    return or_(literal(False), *young)


def _ended(moment: ColumnElement[Any], scope: Scope) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = [literal(True)]
    if scope.pipeline is not None:
        wanted.append(run.c.pipeline == scope.pipeline)
    if scope.period.since_at is not None:
        wanted.append(moment >= scope.period.since_at)
    if scope.period.until_at is not None:
        wanted.append(moment < scope.period.until_at)
    return and_(*wanted)


def _keys(connection: Connection, by: Sequence[str]) -> list[ColumnElement[Any]]:
    return [COLUMNS[name] if name in COLUMNS else _tag(connection, name) for name in by]


def _tag(connection: Connection, name: str) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return cast(run.c.tags_json, JSONB)[name].astext
    path = '$."' + name.replace('"', '\\"') + '"'
    return cast(func.json_extract(run.c.tags_json, path), Text)


def _group(values: Sequence[Any]) -> Group:
    return tuple("" if value is None else str(value) for value in values)


def _run_row(row: Any, keys: int) -> RunRow:
    source, success, propensity, status, *numbers = row[keys:]
    runs, escalated, from_cache, degraded, maturing, cost = (int(n or 0) for n in numbers[:6])
    squares, cubes, bound, bounded = numbers[6:]
    return RunRow(
        group=_group(row[:keys]), source=source, success=None if success is None else bool(success),
        propensity=propensity, status=status, runs=runs, escalated=escalated, from_cache=from_cache,
        degraded=degraded, maturing=maturing, cost=cost, cost_squares=float(squares or 0.0),
        cost_cubes=float(cubes or 0.0), bound=int(bound) if bounded == runs else None,
    )


def _configured(config_id: str, pipeline: str, body_json: str) -> Configured:
    body = json.loads(body_json)
    success = body.get("success") or {}
    return Configured(
        config_id=config_id, pipeline=pipeline, require=success.get("require"),
        feedback_window_s=float(success.get("feedback_window", 7 * 86400.0)), tags=tuple(body.get("tags") or ()),
    )
