"""Runs in cells: those alike in all that a report may ask of them, that ended in one UTC hour, as one row of sums.

A run that ended is queued, and counted into its cell later, with others. **What a run adds to its cell is what its rows
say at that moment**: so whatever is about to change them takes the run out first, in the same transaction, and queues
it again. A report is the cells and, run by run, the queue. See docs/report_scale.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from operator import add, sub
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Select, Text, and_, bindparam, case, cast, func, literal, or_, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.evidence import RunIds, evidence, outcome, run
from orchestrator.store.keys import HOUR_S, adding, key_id
from orchestrator.store.line_tables import CostCell, RunCell, RunKey, Uncounted
from orchestrator.store.statements import Transaction, insert, inserting_new, table
from orchestrator.store.tables import CallRow

CHUNK = 1000
"""Runs counted in one go: some ten milliseconds in which the writer does nothing else."""

LOOK_EVERY = CHUNK // 4

call = table(CallRow)
uncounted, run_key, run_cell, cost_cell = (table(model) for model in (Uncounted, RunKey, RunCell, CostCell))


class Key(NamedTuple):
    """What the runs of a cell have in common, as in `RunKey`."""

    config_id: str
    tenant: str
    tags_json: str
    status: str
    source: str
    success: bool | None
    propensity: float | None
    unanswered: bool
    step: str | None


_KEY = inserting_new(RunKey, "key_id", *Key._fields)
_RUNS, _COSTS = adding(run_cell), adding(cost_cell, largest=["bound_nano"])
_QUEUE = inserting_new(Uncounted, "run_id")
_unlooked: dict[str, int] = {}
"""Runs that each writer of this process has queued since it last looked how long the queue is: reading it costs more
than writing to it."""
_LONG_QUEUE = select(func.count()).select_from(select(uncounted.c.run_id).limit(CHUNK).subquery())


# -- the queue ---------------------------------------------------------------------------------------------------------


def queue(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """Runs whose outcomes were just written: to be counted."""
    transaction.many(_QUEUE, [(run_id,) for run_id in run_ids])
    _unlooked[transaction.owner_id] = since = _unlooked.get(transaction.owner_id, 0) + len(run_ids)
    if since < LOOK_EVERY:
        return
    _unlooked[transaction.owner_id] = 0
    if transaction.execute(_LONG_QUEUE).scalar_one() >= CHUNK:
        count(transaction)


def take_out_followers(transaction: Transaction, run_ids: Sequence[str]) -> Sequence[str]:
    """Outcomes of these runs are about to be written: what is known of runs that were served their answers changes.
    Gives those."""
    followers = transaction.execute(_FOLLOWERS[transaction.dialect], _json(run_ids)).scalars().all()
    _take_out(transaction, followers)
    return followers


def take_out(transaction: Transaction, run_ids: Sequence[str], *, followers: bool = True) -> None:
    """Something is about to change what is known of these runs, and so of those that were served their answers, or
    what they cost: take those that are counted out of their cells, and queue them."""
    if not run_ids:
        return
    dialect = transaction.dialect
    if dialect == "postgresql":
        mine = select(run.c.run_id).where(run.c.run_id.in_(_given(dialect))).order_by(run.c.run_id)
        transaction.execute(mine.with_for_update(), _json(run_ids)).all()
    also = transaction.execute(_FOLLOWERS[dialect], _json(run_ids)).scalars().all() if followers else []
    _take_out(transaction, [*run_ids, *also])


def _take_out(transaction: Transaction, run_ids: Sequence[str]) -> None:
    counted: list[str] = []
    left = list(dict.fromkeys(run_ids))
    while left:
        counted += transaction.execute(_QUEUE_ENDED[transaction.dialect], _json(left)).scalars()
        if transaction.dialect != "postgresql":
            break
        queued = set(transaction.execute(_LOCK_QUEUED, _json(left)).scalars())
        ended = set(transaction.execute(_ENDED, _json(left)).scalars())
        left = [run_id for run_id in left if run_id in ended - queued]  # another process counted them just now
    for start in range(0, len(counted), CHUNK):
        _add(transaction, counted[start : start + CHUNK], sign=-1)


def count(transaction: Transaction, limit: int = CHUNK) -> int:
    """Move up to `limit` runs from the queue into their cells; how many it were."""
    some = select(uncounted.c.run_id).limit(limit).with_for_update(skip_locked=True)
    taken = uncounted.delete().where(uncounted.c.run_id.in_(some)).returning(uncounted.c.run_id)
    run_ids = list(transaction.execute(taken).scalars())
    if run_ids:
        if transaction.dialect == "postgresql":  # wait for what is being learned of their source runs
            transaction.execute(_LOCK_SOURCES, _json(run_ids)).all()
        _add(transaction, run_ids, sign=1)
    return len(run_ids)


# -- what runs add -----------------------------------------------------------------------------------------------------


def _add(transaction: Transaction, run_ids: Sequence[str], sign: int) -> None:
    """Add runs to their cells as their rows stand, or take them out."""
    of_runs, of_costs = _statements(transaction.dialect)
    spent: dict[str, list[Any]] = {}
    for run_id, *cost in transaction.rows(of_costs, _json(run_ids)):
        spent.setdefault(run_id, []).append(cost)
    cells: dict[tuple[int, Key], list[Any]] = {}
    costs: dict[tuple[int, Key, str, int], list[Any]] = {}
    for row in transaction.rows(of_runs, _json(run_ids)):
        run_id, ended_at, f, escalated, from_cache, degraded, saved, saved_in, *known = row
        hour, key = int(ended_at // HOUR_S), _key(*known)
        confident = f is not None and 0.0 <= f <= 1.0
        f = f if confident else 0.0
        _sum(cells, (hour, key), [1, int(confident), f, f**2, escalated, from_cache, degraded], sign)
        for code, sums in _costs(f, spent.get(run_id, ()), saved, saved_in).items():
            _sum_costs(costs, (hour, key, code, len(str(sums[1]))), sums, sign)
    keys = {key: key_id(key) for _, key in cells}
    transaction.many(_KEY, sorted(((id_, *key) for key, id_ in keys.items()), key=lambda row: row[0]))
    transaction.many(_RUNS, sorted((hour, keys[key], *sums) for (hour, key), sums in cells.items()))
    transaction.many(_COSTS, sorted((hour, keys[key], *at, *sums) for (hour, key, *at), sums in costs.items()))


@lru_cache(maxsize=4096)
def _key(
    config_id: str, tenant: str, tags_json: str, status: str, source: str, success: Any, propensity: float | None,
    unanswered: Any, step: str | None,
) -> Key:
    """As both databases say it: a truth is 1 or True."""
    true = None if success is None else bool(success)
    return Key(config_id, tenant, tags_json, status, source, true, propensity, bool(unanswered), step)


def _costs(f: float, spent: Sequence[Any], saved_nano: int | None, saved_currency: str) -> dict[str, list[Any]]:
    """What one run of confidence `f` cost in each currency, in the order of the columns of `CostCell`."""
    found: dict[str, list[Any]] = {}
    for currency, nano, bound, unbounded in spent:
        cost, real = int(nano), float(nano)
        most = 0 if unbounded else int(bound)
        found[currency] = [1, cost, real * real, real * real * real, f * real, most, int(unbounded > 0), 0]
    if saved_nano is not None:
        found.setdefault(saved_currency, [1, 0, 0.0, 0.0, 0.0, 0, 0, 0])[-1] = saved_nano
    return found


def _sum(there: dict[Any, list[Any]], place: Any, more: Sequence[Any], sign: int) -> None:
    there[place] = list(map(add if sign > 0 else sub, there.get(place) or [0] * len(more), more))


def _sum_costs(there: dict[Any, list[Any]], place: Any, more: Sequence[Any], sign: int) -> None:
    """The same, but the largest bound of all that ever were."""
    bound = max(there[place][_BOUND], more[_BOUND]) if place in there else more[_BOUND]
    _sum(there, place, more, sign)
    there[place][_BOUND] = bound


_BOUND = 5


# -- statements, built once: each is given its run ids as one JSON list ------------------------------------------------


def _json(run_ids: Sequence[str]) -> dict[str, str]:
    return {"run_ids": orjson.dumps(list(run_ids)).decode()}


def _given(dialect: str) -> RunIds:
    run_ids = bindparam("run_ids", type_=Text())
    if dialect == "postgresql":
        return select(func.jsonb_array_elements_text(cast(run_ids, JSONB)))
    return select(func.json_each(run_ids).table_valued("value").c.value)


def _followers(dialect: str) -> RunIds:
    return select(run.c.run_id).where(run.c.source_run_id.in_(_given(dialect)))


def _queue_ended(dialect: str) -> Any:
    ended = select(outcome.c.run_id).where(outcome.c.run_id.in_(_given(dialect)))
    fresh = insert(uncounted, dialect).from_select(["run_id"], ended)
    return fresh.on_conflict_do_nothing().returning(uncounted.c.run_id)


_DIALECTS = ("sqlite", "postgresql")
_FOLLOWERS = {dialect: _followers(dialect) for dialect in _DIALECTS}
_QUEUE_ENDED = {dialect: _queue_ended(dialect) for dialect in _DIALECTS}
_ENDED = select(outcome.c.run_id).where(outcome.c.run_id.in_(_given("postgresql")))
_LOCK_QUEUED = (
    select(uncounted.c.run_id).where(uncounted.c.run_id.in_(_given("postgresql")))
    .order_by(uncounted.c.run_id).with_for_update()
)
_LOCK_SOURCES = (
    select(run.c.run_id)
    .where(run.c.run_id.in_(select(run.c.source_run_id).where(run.c.run_id.in_(_given("postgresql")))))
    .order_by(run.c.run_id).with_for_update(read=True)
)


@cache
def _statements(dialect: str) -> tuple[Select[Any], Select[Any]]:
    """Of each run what is known of it, and what it cost in each currency."""
    known = evidence(among=_given(dialect))
    of_runs = select(
        outcome.c.run_id, outcome.c.ended_at, known.confidence.label("confidence"),
        outcome.c.escalated, outcome.c.from_cache, outcome.c.degraded, outcome.c.saved_nano, outcome.c.saved_currency,
        run.c.config_id, run.c.tenant, run.c.tags_json, outcome.c.status,  # from here on: what `_key` is made of
        known.source.label("source"), known.success.label("success"), known.propensity.label("propensity"),
        case((known.unanswered, 1), else_=0).label("unanswered"), known.step.label("step"),
    ).select_from(known.joined).where(known.wanted)
    return of_runs, costs_by_currency(call.c.run_id.in_(_given(dialect)))


def costs_by_currency(wanted: Any) -> Select[Any]:
    """What each run of the calls `wanted` cost and could have cost, in each currency, by the calls that have ended; the
    baseline's calls are no cost of the run. `unbounded` are calls that cost something without a bound in it."""
    c = call.c
    own = and_(wanted, c.role != "baseline", c.ended_at.is_not(None))
    no_bound = and_(c.cost_nano > 0, or_(c.bound_nano.is_(None), c.bound_currency.is_distinct_from(c.currency)))
    each = union_all(
        select(c.run_id, c.currency, c.cost_nano.label("cost"), literal(0).label("bound"),
               case((no_bound, 1), else_=0).label("unbounded")).where(own, c.currency.is_not(None)),
        select(c.run_id, c.bound_currency, literal(0), c.bound_nano, literal(0))
        .where(own, c.bound_currency.is_not(None)),
    ).subquery("each")
    return select(
        each.c.run_id, each.c.currency, func.coalesce(func.sum(each.c.cost), 0).label("cost"),
        func.coalesce(func.sum(each.c.bound), 0).label("bound"), func.sum(each.c.unbounded).label("unbounded"),
    ).group_by(each.c.run_id, each.c.currency)
