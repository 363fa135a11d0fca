"""The tasks that were answered twice, by the cascade and by the validator alone: what the ledger says of both.

Who judges a pair is settled by what the task or the pipeline has, never by how it went: a label; a proof; or feedback
on the value that was served, which speaks for the baseline's too where `compare` finds them the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    Subquery,
    and_,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
)

from orchestrator.finance.records import ReportQuery
from orchestrator.finance.scope import Group, call, ended, group_of, with_config
from orchestrator.finance.scope import keys_of as group_keys
from orchestrator.finance.success import Cell
from orchestrator.records import SERVED, TOKEN_CLASSES
from orchestrator.store.baseline_tables import BaselineRow
from orchestrator.store.evidence import Evidence, evidence, outcome, run
from orchestrator.store.statements import table

baseline = table(BaselineRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Pairs alike in group, judge, and how both sides did. `judge` None: nobody but the validator could say.

    Both sides' costs are of one currency; `d2` and `d3` are sums of powers of what the baseline cost more, in
    billionths.
    """

    group: Group
    judge: str | None
    cascade: Cell
    alone: Cell
    d2: float
    d3: float

    @property
    def pairs(self) -> int:
        return self.cascade.runs


def read_pairs(connection: Connection, query: ReportQuery, currency: str) -> list[PairRow]:
    """The pairs of the query's runs whose every cost is known and of this currency."""
    known = evidence(None, _measured(query))
    costs = _costs(query, currency)
    judge = _judge(known)
    keys = group_keys(connection, query.by)
    c, b = cast(costs.c.c, Float), cast(costs.c.b, Float)
    each = (
        select(
            *keys, judge.label("judge"), case((judge.is_not(None), known.success)).label("right"),
            case((outcome.c.status.in_(SERVED), 1), else_=0).label("served"),
            case((judge.is_not(None), _alone_right(known))).label("alone_right"),
            case((baseline.c.served, 1), else_=0).label("alone_served"), costs.c.c, costs.c.b,
            c.label("real_c"), b.label("real_b"), (b - c).label("d"),
            case((costs.c.unbounded == 0, costs.c.bound_c)).label("bound_c"),
            case((costs.c.unbounded == 0, costs.c.bound_b)).label("bound_b"),
        )
        .select_from(
            with_config(known.joined).join(baseline, baseline.c.run_id == outcome.c.run_id)
            .join(costs, costs.c.run_id == outcome.c.run_id)
        )
        .where(known.wanted, costs.c.odd == 0, costs.c.own > 0)
        .subquery("each")
    )
    e = each.c
    by = [*(e[key.name] for key in keys), e.judge, e.right, e.served, e.alone_right, e.alone_served]
    summed = select(
        *by, func.count(), func.sum(e.c), func.sum(e.b),
        *(func.sum(power) for x in (e.real_c, e.real_b, e.d) for power in (x * x, x * x * x)),
        func.max(e.bound_c), func.count(e.bound_c), func.max(e.bound_b), func.count(e.bound_b),
    ).group_by(*by)
    return [_row(row, len(keys)) for row in connection.execute(summed)]


def count_pairs(connection: Connection, query: ReportQuery) -> dict[Group, int]:
    """All pairs of the query's runs, those of unknown cost included."""
    keys = group_keys(connection, query.by)
    each = (
        select(*keys)
        .select_from(
            with_config(outcome.join(run, run.c.run_id == outcome.c.run_id))
            .join(baseline, baseline.c.run_id == outcome.c.run_id)
        )
        .where(outcome.c.run_id.in_(select(baseline.c.run_id)), *_comparable(query))  # few of many runs
        .subquery("each")
    )
    by = [each.c[key.name] for key in keys]
    return {group_of(row[:-1]): int(row[-1]) for row in connection.execute(select(*by, func.count()).group_by(*by))}


def _comparable(query: ReportQuery) -> list[ColumnElement[bool]]:
    """Not from the cache: without a drafter there would be a cache, too."""
    return [ended(outcome.c.ended_at, query), outcome.c.from_cache.is_(False), outcome.c.saved_nano.is_(None)]


def _measured(query: ReportQuery) -> Select[tuple[str]]:
    return (
        select(outcome.c.run_id).join(run, run.c.run_id == outcome.c.run_id)
        .where(outcome.c.run_id.in_(select(baseline.c.run_id)), *_comparable(query))  # few of many runs
    )


def _judge(known: Evidence) -> ColumnElement[Any]:
    by_proof = or_(
        known.source == "proof", and_(baseline.c.judge == "proof", known.source.in_(("require", "status")))
    )
    return case(
        (known.source == "feedback", "feedback"), (baseline.c.judge == "label", "label"), (by_proof, "proof"),
        else_=null(),
    )


def _alone_right(known: Evidence) -> ColumnElement[Any]:
    """Is the baseline's answer a success, by the precedence that holds for runs."""
    said = known.source == "feedback"
    same: ColumnElement[Any] = baseline.c.same
    return case(
        (baseline.c.served.is_(False), literal(False)), (baseline.c.required.is_(False), literal(False)),
        (and_(said, same.is_(True)), known.success),
        (baseline.c.judge.is_not(None), baseline.c.right),
        (and_(said, known.success.is_(True), same.is_(False)), literal(False)),  # another one was called right
        else_=null(),
    )


def _costs(query: ReportQuery, currency: str) -> Subquery:
    """What each measured run and its baseline cost; `odd` calls are of unknown cost or another currency."""
    tokens = sum((func.coalesce(call.c[f"{name}_tokens"], 0) for name in TOKEN_CLASSES), literal(0))
    ours = call.c.currency == currency
    unknown = or_(
        call.c.state != "settled",
        and_(call.c.cost_nano.is_(None), or_(tokens > 0, call.c.input_tokens.is_(None))),
    )
    elsewhere = and_(call.c.cost_nano > 0, ~ours)
    bounded = call.c.bound_currency == currency
    unbounded = and_(ours, call.c.cost_nano > 0, or_(call.c.bound_nano.is_(None), ~bounded))
    alone = call.c.role == "baseline"

    def total(when: ColumnElement[bool], what: Any) -> ColumnElement[Any]:
        return func.sum(case((when, what), else_=0))

    return (
        select(
            call.c.run_id, total(and_(ours, ~alone), call.c.cost_nano).label("c"),
            total(and_(ours, alone), call.c.cost_nano).label("b"),
            total(and_(bounded, ~alone), call.c.bound_nano).label("bound_c"),
            total(and_(bounded, alone), call.c.bound_nano).label("bound_b"),
            total(unbounded, 1).label("unbounded"), total(or_(unknown, elsewhere), 1).label("odd"),
            total(ours, 1).label("own"),
        )
        .where(call.c.run_id.in_(_measured(query)))
        .group_by(call.c.run_id)
        .subquery("costs")
    )


def _row(row: Any, keys: int) -> PairRow:
    judge, right, served, alone_right, alone_served, pairs, c, b, *powers = row[keys:-4]
    c2, c3, b2, b3, d2, d3 = map(float, powers)
    bound, bounded, alone_bound, alone_bounded = row[-4:]

    def side(right: Any, served: Any, cost: Any, squares: float, cubes: float, bound: Any, bounded: int) -> Cell:
        return Cell(
            runs=int(pairs), success=None if right is None else bool(right), served=bool(served), cost=int(cost),
            cost_squares=squares, cost_cubes=cubes, bound=int(bound) if bounded == pairs else None,
        )

    return PairRow(
        group=group_of(row[:keys]), judge=judge, cascade=side(right, served, c, c2, c3, bound, bounded),
        alone=side(alone_right, alone_served, b, b2, b3, alone_bound, alone_bounded), d2=d2, d3=d3,
    )
