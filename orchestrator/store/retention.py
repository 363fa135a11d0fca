"""What was said goes when its time is over, and what was counted stays.

Content stands in rows of its own, and in answers. Erasing either leaves calls, outcomes and their sums as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, case, exists, func, or_, select, tuple_

from orchestrator.config.feature_names import ANSWER_PREFIX
from orchestrator.errors import InputError
from orchestrator.store import again, answers
from orchestrator.store.entries import OutcomeEntry, entry
from orchestrator.store.leases import RECOVERED
from orchestrator.store.statements import Transaction, among, chunks, table
from orchestrator.store.tables import (
    AnswerRow,
    Budget,
    CallRow,
    Config,
    Content,
    Feedback,
    HandOff,
    OutcomeRow,
    Run,
    SpotCheck,
    StepRow,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

SWEEP = 2000
"""Most rows of one sweep's commit: other processes wait for it."""
CLOSED_S = 35 * 86400.0
"""How long the account of an hour, a day or a month is kept after its end: recovery may still settle in it."""

ERASED = "erased"

_run, _content, _answer, _budget = table(Run), table(Content), table(AnswerRow), table(Budget)
_hand_off, _spot_check = table(HandOff), table(SpotCheck)
_OWN_ANSWERS = _answer.delete().where(among(_answer.c.run_id), answers.own_entries())
_ALL_SAID = _content.delete().where(among(_content.c.run_id))


@entry
class Forgotten:
    """What `forget` erased. `open_runs` counts runs not yet finished: what they write later is not erased."""

    runs: int
    contents: int
    answers: int
    open_runs: int


def keeps(transaction: Transaction, entry: OutcomeEntry) -> bool:
    """Is the content of a run that ends now kept at all."""
    return entry.keep_until is None or entry.keep_until > transaction.now or _is_open(entry)


def _is_open(entry: OutcomeEntry) -> bool:
    return entry.handoff is not None or bool(entry.spot_checks)


def outlives(entry: OutcomeEntry, memo_key: str) -> bool:
    """Is the answer at `memo_key` still there once `after_finish` has erased what only the run itself needed."""
    return _is_open(entry) or not memo_key.startswith(f"{entry.run_id}:")


def after_finish(transaction: Transaction, entries: Sequence[OutcomeEntry]) -> None:
    """Erase what only the run itself needed, or set its retention where something open still needs it."""
    settled = [run_id for e in entries if not _is_open(e) for run_id in (*e.again_of, e.run_id)]
    _delete_own_answers(transaction, settled)
    gone = [e.run_id for e in entries if not keeps(transaction, e)]
    for some in chunks(gone):
        transaction.execute(_ALL_SAID, {"among": some})
    over = [e for e in entries if e.keep_until is not None and e.keep_until <= transaction.now]
    waiting = [e.run_id for e in over if _is_open(e)]
    for some in chunks(waiting):
        transaction.execute(_content.update().where(_content.c.run_id.in_(some)).values(keep_until=0.0))


def after_settling(transaction: Transaction, run_id: str) -> None:
    """A hand-off or spot check was closed: if it was the last, what had only been kept for it goes."""
    waits = _waits_for_someone(_run.c.run_id).label("waits")
    row = transaction.execute(select(_run.c.again_of, waits).where(_run.c.run_id == run_id)).one_or_none()
    if row is not None and row.waits:
        return
    transaction.execute(
        _content.delete().where(_content.c.run_id == run_id, _content.c.keep_until <= transaction.now)
    )
    _delete_own_answers(transaction, [*(again.earlier(row.again_of) if row is not None else ()), run_id])


def _delete_own_answers(transaction: Transaction, run_ids: Sequence[str]) -> None:
    for some in chunks(run_ids):
        transaction.execute(_OWN_ANSWERS, {"among": some})


def _waits_for_someone(run_id: Any) -> ColumnElement[bool]:
    h = _hand_off.c
    return or_(exists().where(h.run_id == run_id, h.resolved_at.is_(None)), _waits_for_check(run_id))


def _waits_for_check(run_id: Any) -> ColumnElement[bool]:
    s = _spot_check.c
    return exists().where(s.run_id == run_id, s.state == "pending")


def sweep(transaction: Transaction) -> int:
    """Erase up to SWEEP rows each of content and answers past their time, and the accounts of budgets that are over: of
    runs that ended, and of buckets long past (the ledger has their figures).

    Content whose hand-off or spot check is still open waits for it, and so does the account that a spot check pending
    is paid from. Returns how many rows went; 0: all is clean.
    """
    c, a, b = _content.c, _answer.c, _budget.c
    over = select(c.run_id, c.kind).where(
        c.keep_until.is_not(None), c.keep_until <= transaction.now, ~_waits_for_someone(c.run_id)
    ).limit(SWEEP)
    stale = select(a.tenant, a.memo_key).where(a.expires_at.is_not(None), a.expires_at <= transaction.now).limit(SWEEP)
    run_id = func.substr(b.scope, len("task:") + 1)
    ended = select(b.scope).join(_run, and_(_run.c.run_id == run_id, _run.c.done.is_(True))).where(
        b.scope.startswith("task:"), b.reserved_nano == 0, ~_waits_for_check(_run.c.run_id)
    ).limit(SWEEP)
    closed = select(b.scope).where(b.ends_at <= transaction.now - CLOSED_S, b.reserved_nano == 0).limit(SWEEP)
    return sum(transaction.execute(statement).rowcount for statement in (
        _content.delete().where(tuple_(c.run_id, c.kind).in_(over)),
        _answer.delete().where(tuple_(a.tenant, a.memo_key).in_(stale)),
        _budget.delete().where(b.scope.in_(ended)),
        _budget.delete().where(b.scope.in_(closed)),
    ))


def forget(
    transaction: Transaction, task_keys: Sequence[str], run_ids: Sequence[str], tenant: str | None
) -> Forgotten:
    """Erase all that was said in the runs of some task keys, in given runs, or in all runs of a tenant.

    Answers go that these runs made, and those they were served: the same words. So do texts that may quote content
    (explanations, errors, reasons), and the digests of id and content: the id is free again. Accounts and decisions
    stay. Raises InputError where nothing is named.
    """
    r = _run.c
    chosen: list[ColumnElement[bool]] = [r.task_key.in_(some) for some in chunks(task_keys)]
    chosen += [r.run_id.in_(some) for some in chunks(run_ids)]
    if tenant is not None:
        chosen.append(r.tenant == tenant)
    if not chosen:
        raise InputError("nothing to forget: name task ids, run ids or a tenant")
    found = list(transaction.execute(select(r.run_id, r.done, r.source_run_id).where(or_(*chosen))))
    for some in chunks(again.earlier_of(transaction.connection, [row.run_id for row in found])):
        found += transaction.execute(select(r.run_id, r.done, r.source_run_id).where(r.run_id.in_(some)))
    runs = sorted({row.run_id for row in found})
    sources = {row.source_run_id for row in found if row.source_run_id}
    contents = _erase(transaction, _content, runs)
    erased = _erase(transaction, _answer, sorted({*runs, *sources}))
    if tenant is not None:
        erased += transaction.execute(_answer.delete().where(_answer.c.tenant == tenant)).rowcount
    _blank(transaction, runs)
    return Forgotten(runs=len(runs), contents=contents, answers=erased, open_runs=sum(not row.done for row in found))


def _erase(transaction: Transaction, target: Any, run_ids: Sequence[str]) -> int:
    return sum(
        transaction.execute(target.delete().where(target.c.run_id.in_(some))).rowcount for some in chunks(run_ids)
    )


_QUOTING = (
    (table(StepRow), "explanation"), (table(OutcomeRow), "error"), (table(CallRow), "error"),
    (table(HandOff), "reason"), (table(Feedback), "reason"),
)
_OWN_WORDS = ("", RECOVERED)
"""Quote nobody. By RECOVERED a call that was given up is known: its owner may settle it yet."""


def _blank_answers(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """What was answered, where it is kept as a place in a closed list: null, among the numbers of each draft."""
    steps, configs = table(StepRow), table(Config)
    s = steps.c
    names: dict[str, dict[str, list[str]]] = {}
    for some in chunks(run_ids):
        rows = transaction.execute(
            select(s.run_id, s.step, s.features_json, _run.c.config_id).join(_run, _run.c.run_id == s.run_id)
            .where(s.run_id.in_(some))
        ).all()
        if unknown := {row.config_id for row in rows} - names.keys():
            bodies = transaction.execute(
                select(configs.c.config_id, configs.c.body_json).where(configs.c.config_id.in_(unknown))
            )
            names |= {row.config_id: orjson.loads(row.body_json).get("features") or {} for row in bodies}
        for row in rows:
            of_step = names.get(row.config_id, {}).get(row.step, [])
            are_answers = [name.startswith(ANSWER_PREFIX) for name in of_step]
            numbers = orjson.loads(row.features_json)
            if isinstance(numbers, list) and any(are_answers):
                kept = [None if hidden else n for hidden, n in zip(are_answers, numbers, strict=False)]
                transaction.execute(steps.update().where(s.run_id == row.run_id, s.step == row.step).values(
                    features_json=orjson.dumps(kept).decode()
                ))


def _blank(transaction: Transaction, run_ids: Sequence[str]) -> None:
    for some in chunks(run_ids):
        key = case((_run.c.task_key.contains(again.APART), f"{ERASED}{again.APART}"), else_=f"{ERASED}:")
        transaction.execute(_run.update().where(_run.c.run_id.in_(some)).values(
            task_key=key.concat(_run.c.run_id), task_digest=ERASED
        ))
    _blank_answers(transaction, run_ids)
    for target, name in _QUOTING:
        column = target.c[name]
        for some in chunks(run_ids):
            transaction.execute(target.update().where(
                target.c.run_id.in_(some), column.is_not(None), column.not_in(_OWN_WORDS)
            ).values({name: ERASED}))
