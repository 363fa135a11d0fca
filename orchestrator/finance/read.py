"""What reports ask of the ledger. Everything is summed in SQL: calls and runs never pass through Python one by one.

Money is summed as integers; the squares and cubes of costs, needed only for the width of intervals, as floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Label,
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

from orchestrator.finance.configured import CALIBRATION, Fitted, config
from orchestrator.finance.evidence import Evidence, evidence, feedback, outcome, run
from orchestrator.finance.period import Period
from orchestrator.finance.success import Confidences
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow

call = table(CallRow)
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
    """Runs alike in group, evidence and status. Costs are of one currency, in billionths; `bound` is the largest
    reserved cost of one of them, None where one has a cost and no bound. `confidences` as in a `Cell`."""

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
    calls: int
    priced: int
    cost: int
    bound: int
    unpriced: int
    unsettled: int
    in_flight: int
    unbounded: int


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
    known = evidence(as_of)
    keys = _keys(connection, scope.by)
    costs = _run_costs(scope, currency)
    cost = func.coalesce(costs.c.cost, 0)
    flags: dict[str, ColumnElement[Any]] = {
        "escalated": outcome.c.escalated, "from_cache": outcome.c.from_cache, "degraded": outcome.c.degraded,
        "maturing": _maturing(windows, now),
    }
    each = (
        select(
            *keys, known.source.label("source"), known.success.label("success"),
            known.propensity.label("propensity"), case((known.unanswered, 1), else_=0).label("unanswered"),
            outcome.c.status, _confidence(known, fitted).label("f"), cost.label("cost"),
            cast(cost, Float).label("real"),
            case((costs.c.unbounded > 0, None), else_=func.coalesce(costs.c.bound, 0)).label("bound"),
            *(case((flag, 1), else_=0).label(name) for name, flag in flags.items()),
        )
        .select_from(_with_config(known.joined).outerjoin(costs, costs.c.run_id == outcome.c.run_id))
        .where(_ended(outcome.c.ended_at, scope), config.c.mode != CALIBRATION)
        .subquery("each")
    )
    c = each.c
    by = [*(c[key.name] for key in keys), c.source, c.success, c.propensity, c.unanswered, c.status]
    cells = select(*by, func.count(), func.sum(c.cost), func.sum(c.real * c.real), func.sum(c.real * c.real * c.real),
                   func.max(c.bound), func.count(c.bound), func.count(c.f), func.sum(c.f), func.sum(c.f * c.f),
                   func.sum(c.f * c.real), *(func.sum(c[name]) for name in flags)).group_by(*by)
    return [_run_row(row, len(keys), list(flags)) for row in connection.execute(cells)]


def read_calls(connection: Connection, scope: Scope) -> list[CallSum]:
    """Calls that ended in the period (that started in it, where they have no end)."""
    keys = _keys(connection, scope.by)
    tokens = sum((func.coalesce(call.c[f"{name}_tokens"], 0) for name in TOKEN_CLASSES), literal(0))
    # a request that was refused or never left used no tokens: nothing is unknown about its cost
    unpriced = and_(call.c.state == "settled", call.c.cost_nano.is_(None),
                    or_(tokens > 0, call.c.input_tokens.is_(None)))
    unsettled = call.c.state == "unsettled"
    flags = {"unpriced": unpriced, "unsettled": unsettled, "in_flight": call.c.state == "intent",
             "unbounded": and_(unsettled, call.c.bound_nano.is_(None))}
    each = (
        select(
            *keys, case((config.c.mode == CALIBRATION, CALIBRATION), else_=call.c.role).label("role"),
            func.coalesce(call.c.currency, call.c.bound_currency).label("currency"),
            call.c.cost_nano, case((unsettled, call.c.bound_nano)).label("bound"),
            *(case((flag, 1), else_=0).label(name) for name, flag in flags.items()),
        )
        .select_from(call.join(run, run.c.run_id == call.c.run_id).join(config, config.c.config_id == run.c.config_id))
        .where(_ended(func.coalesce(call.c.ended_at, call.c.started_at), scope))
        .subquery("each")
    )
    by = [*(each.c[key.name] for key in keys), each.c.role, each.c.currency]
    summed = select(*by, func.count(), func.count(each.c.cost_nano), func.sum(each.c.cost_nano), func.sum(each.c.bound),
                    *(func.sum(each.c[name]) for name in flags)).group_by(*by)
    rows = []
    for row in connection.execute(summed):
        role, currency, *numbers = row[len(keys):]
        calls, priced, cost, bound, *counts = (int(n or 0) for n in numbers)
        rows.append(CallSum(group=_group(row[: len(keys)]), role=role, currency=currency, calls=calls, priced=priced,
                            cost=cost, bound=bound, **dict(zip(flags, counts, strict=True))))
    return rows


def read_savings(connection: Connection, scope: Scope) -> list[Saved]:
    """What answers from the cache would have cost, by the price of the call that made them."""
    keys = _keys(connection, scope.by)
    each = (
        select(*keys, outcome.c.saved_currency, outcome.c.saved_nano)
        .select_from(_with_config(outcome.join(run, run.c.run_id == outcome.c.run_id)))
        .where(_ended(outcome.c.ended_at, scope), outcome.c.saved_nano.is_not(None), config.c.mode != CALIBRATION)
        .subquery("each")
    )
    by = [*(each.c[key.name] for key in keys), each.c.saved_currency]
    saved = select(*by, func.sum(each.c.saved_nano)).group_by(*by)
    return [Saved(group=_group(row[:-2]), currency=row[-2], nano=int(row[-1])) for row in connection.execute(saved)]


def _run_costs(scope: Scope, currency: str) -> Subquery:
    """What each run cost and could have cost, in one currency; the baseline's calls are no cost of the run."""
    bounded = call.c.bound_currency == currency
    unbounded = and_(call.c.currency == currency, call.c.cost_nano > 0, or_(call.c.bound_nano.is_(None), ~bounded))
    costs = select(
        call.c.run_id,
        func.sum(case((call.c.currency == currency, call.c.cost_nano), else_=0)).label("cost"),
        func.sum(case((bounded, call.c.bound_nano), else_=0)).label("bound"),
        func.sum(case((unbounded, 1), else_=0)).label("unbounded"),
    ).where(call.c.role != "baseline")
    if scope.period.since_at is not None:
        costs = costs.where(call.c.run_id.in_(select(outcome.c.run_id).where(_ended(outcome.c.ended_at, scope))))
    return costs.group_by(call.c.run_id).subquery("costs")


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


def _keys(connection: Connection, by: Sequence[str]) -> list[Label[Any]]:
    found = (COLUMNS[name] if name in COLUMNS else _tag(connection, name) for name in by)
    return [key.label(f"key{i}") for i, key in enumerate(found)]


def _tag(connection: Connection, name: str) -> ColumnElement[Any]:
    """A tag's value as text; of a run without it, NULL."""
    if connection.dialect.name == "postgresql":
        return func.jsonb_extract_path_text(cast(run.c.tags_json, JSONB), name)
    path = f'$."{name}"'
    truth = func.json_type(run.c.tags_json, path)
    value = cast(func.json_extract(run.c.tags_json, path), Text)
    return case((truth.in_(("true", "false")), truth), else_=value)


def _group(values: Sequence[Any]) -> Group:
    return tuple("" if value is None else str(value) for value in values)


def _confidence(known: Evidence, fitted: Fitted) -> ColumnElement[float]:
    """The logged confidence where it is a fitted probability; a raw signal is none."""
    ours = [and_(known.step == step, run.c.config_id.in_(ids)) for step, ids in sorted(fitted.items())]
    return case((and_(or_(literal(False), *ours), known.confidence.between(0.0, 1.0)), known.confidence))


def _run_row(row: Any, keys: int, flags: Sequence[str]) -> RunRow:
    source, success, propensity, unanswered, status, runs, cost, squares, cubes, bound, bounded, *more = row[keys:]
    known, *sums = more[:4]
    return RunRow(
        group=_group(row[:keys]), source=source, success=None if success is None else bool(success),
        propensity=propensity, unanswered=bool(unanswered), status=status, runs=runs, cost=int(cost),
        cost_squares=float(squares), cost_cubes=float(cubes), bound=int(bound) if bounded == runs else None,
        confidences=Confidences(*map(float, sums)) if known == runs else None,
        **{name: int(n) for name, n in zip(flags, more[4:], strict=True)},
    )
