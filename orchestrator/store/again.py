"""A task that is done again: its last run, which ended without an answer, steps aside for a new one.

**A task's key is held by one run, its latest. The earlier ones keep their calls, costs and outcomes, and can never
become a success.** All of it is part of the commit that claims the task: before it nothing has changed, and after it
the new run is resumed as any other is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from orchestrator.errors import InputError
from orchestrator.store.entries import RunClaim, StoredOutcome
from orchestrator.store.statements import Raced, Transaction, among, chunks, table
from orchestrator.store.tables import HandOff, Run

APART = "#"
"""Parts a task's key from the run that held it, in a run that stepped aside. It stands in no digest."""

_run, _hand_off = table(Run), table(HandOff)
_KEYS = (  # locked, so that none steps aside before what is about to be said of it is written
    select(_run.c.run_id, _run.c.pipeline, _run.c.tenant, _run.c.task_key).where(among(_run.c.run_id))
    .order_by(_run.c.run_id).with_for_update()
)


def earlier(again_of: str | None) -> tuple[str, ...]:
    """The runs that a run does again, the oldest first: as `run.again_of` holds them."""
    return tuple(again_of.split(" ")) if again_of else ()


def is_aside(task_key: str) -> bool:
    """Did the run of this key step aside for another."""
    return APART in task_key


def step_aside(transaction: Transaction, one: RunClaim, row: Any, outcome: StoredOutcome) -> tuple[str, ...] | None:
    """Make room for a new run of the claim's task, if it asks to do again what ended as the run `row` did; gives the
    runs that the new one does again. None: the run stands. What this process did itself, it does not do again; nor what
    a person has closed, or called a success."""
    if not _wanted(one, outcome) or row.owner_id == transaction.owner_id or row.task_digest != one.task_digest:
        return None
    if outcome.status == "handed_off" and not _close_handoff(transaction, row.run_id):
        return None
    moved = _run.update().where(_run.c.run_id == row.run_id, _run.c.task_key == row.task_key).values(
        task_key=f"{row.task_key}{APART}{row.run_id}"
    )
    if transaction.execute(moved).rowcount != 1:
        raise Raced
    return (*earlier(row.again_of), row.run_id)


def _wanted(one: RunClaim, outcome: StoredOutcome) -> bool:
    if one.again is None or outcome.status not in ("handed_off", "failed") or outcome.success:
        return False
    rule = outcome.steps[-1].rule if outcome.steps else None
    return outcome.status in one.again.statuses or rule in one.again.rules


def _close_handoff(transaction: Transaction, run_id: str) -> bool:
    """Take the task from the queue of those that wait for a person; False where it does not stand there."""
    h = _hand_off.c
    close = _hand_off.update().where(h.run_id == run_id, h.resolved_at.is_(None)).values(resolved_at=transaction.now)
    return transaction.execute(close).rowcount == 1


def refuse_success(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """Raises InputError where one of these runs stepped aside: its task would be a success twice."""
    for some in chunks(run_ids):
        for run_id, *task in transaction.rows(_KEYS, {"among": sorted(some)}):
            if is_aside(task[-1]):
                latest = latest_of(transaction.connection, *task)
                raise InputError(
                    f"the task of run {run_id!r} was done again" + (f", as run {latest!r}" if latest else ""),
                    hint="say it of the task's latest run",
                )


def latest_of(connection: Connection, pipeline: str, tenant: str, task_key: str) -> str | None:
    """The run that holds the task now, which a run of this key once held; None once that is forgotten."""
    r = _run.c
    holding = select(r.run_id).where(
        r.pipeline == pipeline, r.tenant == tenant, r.task_key == task_key.partition(APART)[0]
    )
    return connection.execute(holding).scalar()


def earlier_of(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """The runs that these do again."""
    wanted = select(_run.c.again_of).where(among(_run.c.run_id), _run.c.again_of.is_not(None))
    found = (connection.execute(wanted, {"among": some}).scalars() for some in chunks(run_ids))
    return [run_id for rows in found for again_of in rows for run_id in earlier(again_of)]


def count(connection: Connection, since: float, until: float, pipeline: str | None = None) -> Mapping[str, int]:
    """How many runs of [since, until) did a task again, by pipeline."""
    r = _run.c
    wanted = select(r.pipeline, func.count()).where(
        r.again_of.is_not(None), r.created_at >= since, r.created_at < until
    ).group_by(r.pipeline)
    if pipeline is not None:
        wanted = wanted.where(r.pipeline == pipeline)
    return {row[0]: row[1] for row in connection.execute(wanted)}
