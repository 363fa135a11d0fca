"""The end of a call, written and sealed: by what came back of it, or by recovery."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import select

from orchestrator.store import closes, seals
from orchestrator.store.statements import Row, Transaction, table, updating
from orchestrator.store.tables import CallRow

_call = table(CallRow)
_END = updating(CallRow, *seals.SETTLEMENT, "error", "sealed_by", "seal_no", "seal", by=["call_id"])
_OPEN = select(_call).where(_call.c.state == "intent").order_by(_call.c.call_id).with_for_update()
_COLUMNS = [column.name for column in _call.columns]
_intent = itemgetter(*(_COLUMNS.index(name) for name in seals.INTENT))
_Whole = namedtuple("_Whole", _COLUMNS)  # type: ignore[misc]  # its names are known when this runs


def end(transaction: Transaction, ended: Sequence[tuple[Any, Row, str | None]]) -> None:
    """Write what (open row, values of SETTLEMENT, error) came to, each sealed by this writer. A call that was sealed
    as lost gets another seal; the first one is kept, for the chain it stands in."""
    given_up = [row for row, _, _ in ended if row.seal_no is not None]
    if given_up:
        seals.supersede(transaction, given_up)
        closes.settled_late(transaction, given_up)
    places = seals.seal(transaction, "call", [(*_intent(row), *values) for row, values, _ in ended])
    transaction.many(_END, [
        (*values, error, None if place.writer == row.owner_id else place.writer, place.number, place.link, row.call_id)
        for (row, values, error), place in zip(ended, places, strict=True)
    ])


def whole(rows: Sequence[Any]) -> list[Any]:
    """Whole rows of `call`, to be read by name many times: SQLAlchemy's own take ten times as long for that."""
    return [_Whole._make(row) for row in rows]


def open_calls(transaction: Transaction, owner_id: str) -> Sequence[Any]:
    """The calls of `owner_id` that have not ended, locked."""
    return transaction.execute(_OPEN.where(_call.c.owner_id == owner_id)).all()


def lost(ended_at: float) -> Row:
    """The values of SETTLEMENT of a call whose answer is not known."""
    values: dict[str, Any] = {"state": "unsettled", "provenance": "unsettled", "ended_at": ended_at}
    return tuple(values.get(name) for name in seals.SETTLEMENT)
