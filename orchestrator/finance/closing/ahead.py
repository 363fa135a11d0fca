"""Words that are dated after a close and were known to it: of a clock that was ahead, or dated by hand.

A word counts from the time it names, save where it is a word on a closed month (`store/closes.py`). So a report of the
ledger counts a word that names a later time as soon as it is there, and a close freezes it so. What was known to a
close is told by its heads of chains, not by the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from orchestrator.finance.closing.document import CloseDocument
from orchestrator.store.evidence import feedback, outcome, run


@dataclass(frozen=True, slots=True)
class Ahead:
    """A word on a run that ended at `ended_at`; it counts from `at`."""

    run_id: str
    pipeline: str
    ended_at: float
    at: float


def words_ahead(connection: Connection, close: CloseDocument) -> list[Ahead]:
    """Of the runs that ended before the end of the month."""
    f, o = feedback.c, outcome.c
    later = (
        select(f.run_id, o.pipeline, o.ended_at, f.at, f.sealed_by, f.seal_no)
        .select_from(feedback.join(outcome, o.run_id == f.run_id))
        .where(f.at >= close.created_at, o.ended_at < close.until_at, f.seal_no.is_not(None)).order_by(f.at)
    )
    heads = {writer: number for writer, (number, _) in close.heads.items()}
    return [
        Ahead(row.run_id, row.pipeline, row.ended_at, row.at) for row in connection.execute(later)
        if row.seal_no <= heads.get(row.sealed_by, 0)
    ]


def known_by(connection: Connection, run_id: str) -> Sequence[str]:
    """The runs whose success depends on words on this one: itself, and those that were served its answers."""
    both = or_(run.c.run_id == run_id, run.c.source_run_id == run_id)
    return connection.execute(select(run.c.run_id).where(both)).scalars().all()
