"""Spot checks: pending from the commit of the outcome that drew them, until one process has settled them.

One that was refused for want of money, or of a model, is pending as well: it waits for whoever comes next, as long as
what was said is kept.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func, select

from orchestrator.records import Json
from orchestrator.store import cells, feedback, leases, retention
from orchestrator.store.entries import SpotCheckState, entry
from orchestrator.store.outcomes import contents_of
from orchestrator.store.statements import Transaction, among, chunks, table
from orchestrator.store.tables import Content, OutcomeRow, SpotCheck

Keys = Collection[tuple[str, str]]
"""(run id, step) of some spot checks."""

_spot_check, _outcome, _content = table(SpotCheck), table(OutcomeRow), table(Content)
_ENDS = (  # of what is said of a run, the first to go
    select(_content.c.run_id, func.min(_content.c.keep_until).label("ends"))
    .where(among(_content.c.run_id)).group_by(_content.c.run_id)
)


@entry
class PendingSpotCheck:
    """A spot check taken up by this process, with the task and draft it looks at: these are kept until `keep_until`
    (None: for ever), and while it is pending."""

    run_id: str
    step: str
    pipeline: str
    tenant: str
    propensity: float
    created_at: float
    contents: Mapping[str, Json]
    keep_until: float | None


def take(transaction: Transaction, pipeline: str, limit: int, without: Keys) -> list[PendingSpotCheck]:
    """Pending spot checks of this owner and of lapsed ones, oldest first; they are this owner's now. None of those
    `without`. Of more than `limit`, any: the oldest may be the very ones that no budget has room for."""
    s = _spot_check.c
    ours = [row for row in _to_be_made(transaction, pipeline) if (row.run_id, row.step) not in without]
    if len(ours) > limit:
        ours = [ours[place] for place in sorted(random.sample(range(len(ours)), limit))]
    for row in ours:
        if row.owner_id != transaction.owner_id:
            transaction.execute(_spot_check.update().where(s.run_id == row.run_id, s.step == row.step)
                                .values(owner_id=transaction.owner_id))
    run_ids = [row.run_id for row in ours]
    contents = contents_of(transaction.connection, run_ids)
    ends = {row.run_id: row.ends for some in chunks(run_ids) for row in transaction.execute(_ENDS, {"among": some})}
    return [
        PendingSpotCheck(
            run_id=row.run_id, step=row.step, pipeline=pipeline, tenant=row.tenant, propensity=row.propensity,
            created_at=row.created_at, contents=contents.get(row.run_id, {}), keep_until=ends.get(row.run_id),
        )
        for row in ours
    ]


def count(transaction: Transaction, pipeline: str) -> int:
    """How many there are to be taken."""
    return len(_to_be_made(transaction, pipeline))


def _to_be_made(transaction: Transaction, pipeline: str) -> list[Any]:
    s, o = _spot_check.c, _outcome.c
    rows = transaction.execute(
        select(_spot_check, o.tenant).join(_outcome, o.run_id == s.run_id)
        .where(s.state == "pending", o.pipeline == pipeline).order_by(s.created_at, s.run_id)
        .with_for_update(of=_spot_check)
    ).all()
    gone = leases.lapsed(transaction, {row.owner_id for row in rows})
    return [row for row in rows if row.owner_id == transaction.owner_id or row.owner_id in gone]


def settle(
    transaction: Transaction, run_id: str, step: str, state: SpotCheckState, draft_ok: bool | None
) -> None:
    """Close a pending spot check; what it found counts as feedback of source `spot_check`. Twice changes nothing."""
    cells.take_out(transaction, [run_id])
    s = _spot_check.c
    closed = transaction.execute(
        _spot_check.update().where(s.run_id == run_id, s.step == step, s.state == "pending")
        .values(state=state, draft_ok=draft_ok, ended_at=transaction.now)
    )
    if closed.rowcount != 1:
        return
    if draft_ok is not None:
        feedback.append_said(transaction, [(run_id, "spot_check", draft_ok, "")], transaction.now)
    retention.after_settling(transaction, run_id)


def expire(transaction: Transaction) -> int:
    """Give up those whose content is past its time; returns how many. Content that is not kept beyond its run (its end
    is 0) is not waited with: who can't make the check gives it up."""
    s, c = _spot_check.c, _content.c
    over = select(s.run_id, s.step).distinct().join(_content, c.run_id == s.run_id).where(
        s.state == "pending", c.keep_until > 0.0, c.keep_until <= transaction.now
    ).limit(retention.SWEEP)
    rows = transaction.execute(over).all()
    for row in rows:
        settle(transaction, row.run_id, row.step, "unanswered", None)
    return len(rows)
