"""Runs: a task is claimed before anything is done for it, so that it has one run, however often it is handed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from orchestrator.store import again, leases, line_rows, outcomes
from orchestrator.store.entries import Claimed, ClaimKind, ConfigEntry, PriceRecord, RunClaim, StoredOutcome
from orchestrator.store.statements import Raced, Transaction, among, chunks, insert, inserting_new, table, upserting
from orchestrator.store.tables import Config, Content, Price, Run

_run, _config = table(Run), table(Config)
_NEW = inserting_new(
    Run, "run_id", "pipeline", "tenant", "task_key", "task_digest", "config_id", "owner_id", "done", "created_at",
    "tags_json", "again_of",
)
_PRICE = inserting_new(Price, "version", "model", "body_json", "created_at")
_HOLDING = select(_run).where(
    _run.c.pipeline == bindparam("of_pipeline"), _run.c.tenant == bindparam("of_tenant"), among(_run.c.task_key)
)
_HOLDING_LOCKED = _HOLDING.order_by(_run.c.run_id).with_for_update()
_CONTENT = upserting(Content, "run_id", "kind", "tenant", "body", "keep_until")

TaskKey = tuple[str, str, str]


def record_config(transaction: Transaction, configs: Sequence[ConfigEntry]) -> list[None]:
    """Insert the configurations that are not there yet."""
    for c in configs:
        transaction.execute(insert(_config, transaction.dialect).on_conflict_do_nothing().values(
            config_id=c.config_id, pipeline=c.pipeline, version=c.version, owner=c.owner, cost_center=c.cost_center,
            mode=c.mode, body_json=c.body_json, created_at=c.created_at,
        ))
    return [None] * len(configs)


def record_price(transaction: Transaction, prices: Sequence[PriceRecord]) -> list[None]:
    """Insert the prices that are not there yet."""
    transaction.many(_PRICE, [(p.version, p.model, p.body_json, p.created_at) for p in prices])
    return [None] * len(prices)


def claim(transaction: Transaction, groups: Sequence[Sequence[RunClaim]]) -> list[list[Claimed]]:
    """Claim the tasks of several groups: new ones are inserted, open ones taken over where their owner is gone; where
    the last run of a task is to be done again, it makes room for a new one."""
    claims = [one for group in groups for one in group]
    known = _known(transaction, claims)
    done = outcomes.load(transaction.connection, [row.run_id for row in known.values() if row.done])
    earlier = _step_aside(transaction, claims, known, done)
    fresh: dict[TaskKey, RunClaim] = {}
    for one in claims:
        if _key(one) not in known:
            fresh.setdefault(_key(one), one)
    _insert(transaction, list(fresh.values()), earlier)
    found = [(one, known[_key(one)]) for one in claims if _key(one) in known]
    judged = _judge(transaction, found, done)
    return [[_place(one, fresh, judged, earlier) for one in group] for group in groups]


def _step_aside(
    transaction: Transaction, claims: Sequence[RunClaim], known: dict[TaskKey, Any], done: Mapping[str, StoredOutcome]
) -> dict[TaskKey, tuple[str, ...]]:
    """The runs that step aside leave `known`; gives what the new ones do again."""
    earlier: dict[TaskKey, tuple[str, ...]] = {}
    for one in claims:
        row = known.get(_key(one)) if one.again is not None else None
        if row is None or row.run_id not in done:
            continue
        if (of := again.step_aside(transaction, one, row, done[row.run_id])) is not None:
            earlier[_key(one)] = of
            del known[_key(one)]
    return earlier


def _place(
    one: RunClaim, fresh: Mapping[TaskKey, RunClaim], judged: Mapping[int, Claimed],
    earlier: Mapping[TaskKey, tuple[str, ...]],
) -> Claimed:
    first = fresh.get(_key(one))
    if first is None:
        return judged[id(one)]
    same = first.task_digest == one.task_digest
    kind: ClaimKind = "new" if first is one else "resumed" if same else "conflict"
    return Claimed(run_id=first.run_id, kind=kind, again_of=earlier.get(_key(one), ()))


def _key(one: RunClaim) -> TaskKey:
    return one.pipeline, one.tenant, one.task_key


def _known(transaction: Transaction, claims: Sequence[RunClaim]) -> dict[TaskKey, Any]:
    """The runs that hold the claims' task keys already."""
    holding = _HOLDING_LOCKED if any(one.again is not None for one in claims) else _HOLDING
    keys: dict[tuple[str, str], list[str]] = {}
    for one in claims:
        keys.setdefault((one.pipeline, one.tenant), []).append(one.task_key)
    return {
        (row.pipeline, row.tenant, row.task_key): row
        for (pipeline, tenant), task_keys in keys.items()
        for some in chunks(task_keys)
        for row in transaction.execute(holding, {"of_pipeline": pipeline, "of_tenant": tenant, "among": some})
    }


def _insert(
    transaction: Transaction, fresh: Sequence[RunClaim], earlier: Mapping[TaskKey, tuple[str, ...]]
) -> None:
    owner_id, now = transaction.owner_id, transaction.now
    inserted = transaction.many(_NEW, [
        (c.run_id, c.pipeline, c.tenant, c.task_key, c.task_digest, c.config_id, owner_id, False, now,
         outcomes.plain_json(c.tags), " ".join(earlier[_key(c)]) if earlier and _key(c) in earlier else None)
        for c in fresh
    ])
    if inserted != len(fresh):
        raise Raced
    transaction.many(_CONTENT, [
        (c.run_id, "task", c.tenant, c.content, c.keep_until) for c in fresh if c.content is not None
    ])


def _judge(
    transaction: Transaction, found: Sequence[tuple[RunClaim, Any]], done: Mapping[str, StoredOutcome]
) -> dict[int, Claimed]:
    """What each claim on an existing run comes to, by the claim's identity."""
    gone = leases.lapsed(transaction, {row.owner_id for _, row in found if not row.done})
    return {id(one): _judge_one(transaction, one, row, done, gone) for one, row in found}


def _judge_one(
    transaction: Transaction, one: RunClaim, row: Any, done: Mapping[str, Any], gone: set[str]
) -> Claimed:
    if row.task_digest != one.task_digest:
        return Claimed(run_id=row.run_id, kind="conflict")
    if row.done:
        return Claimed(run_id=row.run_id, kind="done", outcome=done[row.run_id])
    if row.owner_id != transaction.owner_id and row.owner_id not in gone:
        return Claimed(run_id=row.run_id, kind="busy")
    if one.config_strict and row.config_id != one.config_id:
        return Claimed(run_id=row.run_id, kind="config_changed")
    if not _take(transaction, one, row):
        return Claimed(run_id=row.run_id, kind="busy")
    return Claimed(run_id=row.run_id, kind="resumed", again_of=again.earlier(row.again_of))


def _take(transaction: Transaction, one: RunClaim, row: Any) -> bool:
    """Make the open run ours, unless another process was faster."""
    mine = _run.update().where(
        _run.c.run_id == row.run_id, _run.c.owner_id == row.owner_id, _run.c.done.is_(False)
    ).values(owner_id=transaction.owner_id, config_id=one.config_id, tags_json=outcomes.plain_json(one.tags))
    if transaction.execute(mine).rowcount != 1:
        return False
    if (row.config_id, row.tags_json) != (one.config_id, outcomes.plain_json(one.tags)):
        line_rows.move(transaction, row.run_id, row.config_id, row.tags_json)
    return True
