"""Events for the people on call, and the share of tasks that escalate."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, func, select

from orchestrator.store.entries import entry
from orchestrator.store.statements import Transaction, table
from orchestrator.store.tables import Event, OutcomeRow

_event, _outcome = table(Event), table(OutcomeRow)


@entry
class StoredEvent:
    pipeline: str
    kind: str
    detail: str
    at: float


def record(transaction: Transaction, pipeline: str, kind: str, detail: str) -> None:
    transaction.execute(_event.insert().values(
        event_id=f"e_{secrets.token_hex(8)}", pipeline=pipeline, kind=kind, detail=detail, at=transaction.now
    ))


def listed(connection: Connection, pipeline: str | None, since: float, limit: int) -> list[StoredEvent]:
    """The latest events first."""
    wanted = select(_event).where(_event.c.at >= since).order_by(_event.c.at.desc(), _event.c.event_id).limit(limit)
    if pipeline is not None:
        wanted = wanted.where(_event.c.pipeline == pipeline)
    return [
        StoredEvent(pipeline=row.pipeline, kind=row.kind, detail=row.detail, at=row.at)
        for row in connection.execute(wanted)
    ]


def escalation_share(connection: Connection, pipeline: str, since: float) -> tuple[int, int]:
    """How many outcomes a pipeline has had since then, and how many of them escalated. Read from an index alone."""
    o = _outcome.c
    row = connection.execute(
        select(func.count(), func.count().filter(o.escalated.is_(True)))
        .where(o.ended_at >= since, o.pipeline == pipeline)
    ).one()
    return row[0], row[1]
