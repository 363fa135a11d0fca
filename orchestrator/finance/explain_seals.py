"""Where a run's rows stand in the chains of their writers, and in which closed month."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.finance.verify.rows import SealedRow, call, feedback, link_before, outcome, sealed_of_run
from orchestrator.store import seals
from orchestrator.store.close_tables import Close
from orchestrator.store.statements import table

_close = table(Close)


@dataclass(slots=True)
class Seals:
    """The seals of one run's rows. `state`: ok; changed; unchecked (the row before it was not found)."""

    places: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: Connection, run_id: str) -> Seals:
        found = cls()
        for row in sealed_of_run(connection, run_id):
            found.places[row.table, row.row] = {
                "writer": row.writer, "number": row.number, "seal": row.link.hex(), "state": _state(connection, row),
            }
        return found

    def of(self, name: str, row_id: str) -> dict[str, Any] | None:
        """None for a row that is not final, or from before the chains."""
        return self.places.get((name, row_id))


def _state(connection: Connection, row: SealedRow) -> str:
    rows, moment = {
        "call": (call, call.c.ended_at), "outcome": (outcome, outcome.c.ended_at), "feedback": (feedback, feedback.c.at)
    }[row.table]
    key = next(iter(rows.primary_key.columns))
    at = connection.execute(select(moment).where(key == row.row)).scalar_one()
    before = link_before(connection, row, at)
    if before is None:
        return "unchecked"
    return "ok" if seals.link(before, row.canonical()) == row.link else "changed"


def closed_in(connection: Connection, at: float | None) -> dict[str, str] | None:
    """The closed month that a moment lies in."""
    if at is None:
        return None
    c = _close.c
    row = connection.execute(select(c.period, c.digest).where(c.since_at <= at, c.until_at > at)).one_or_none()
    return None if row is None else {"period": row.period, "sha256": row.digest}
