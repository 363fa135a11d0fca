"""Closed months: written once, read for good.

**What a closed month says never changes.** What is learned of its runs later is booked in the open month: it counts
from the moment it is recorded, whatever time it names, and the closed month is marked as touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from orchestrator.errors import InputError
from orchestrator.store.close_tables import Close
from orchestrator.store.statements import Row, Transaction, among, chunks, table
from orchestrator.store.tables import CallRow, OutcomeRow

_close, _outcome, _call = table(Close), table(OutcomeRow), table(CallRow)
_CLOSED_UNTIL = select(func.max(_close.c.until_at))
_ENDED = select(_outcome.c.run_id, _outcome.c.ended_at).where(among(_outcome.c.run_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A close as it is stored. `body` and `figures` are bytes of JSON, `touched` as in `Close`."""

    period: str
    tz: str
    since_at: float
    until_at: float
    created_at: float
    digest: str
    body: bytes
    figures: bytes
    touched: int


def record(transaction: Transaction, month: ClosedMonth, stated: Mapping[str, int]) -> None:
    """Close a month. `stated` is how much of what was booked of earlier ones it states. Raises InputError where it is
    closed already, is not the one that follows the last, or has calls in flight: then nothing is changed."""
    last = transaction.execute(select(_close).order_by(_close.c.until_at.desc()).limit(1)).one_or_none()
    if last is not None:
        check_follows(month.period, month.since_at, ClosedMonth(**last._mapping))
    check_ended(transaction.connection, month.period, month.until_at)
    for period, rows in stated.items():
        transaction.execute(
            _close.update().where(_close.c.period == period).values(touched=_close.c.touched - rows)
        )
    fields = {name: getattr(month, name) for name in ClosedMonth.__dataclass_fields__}
    transaction.execute(_close.insert().values(**fields))


def check_follows(period: str, since_at: float, last: ClosedMonth) -> None:
    """Months are closed once, in order and without a gap: each states what changed in those before it."""
    if period == last.period or since_at < last.until_at:
        raise InputError(
            f"{period} is closed already, or a later month is: the last one closed is {last.period}",
            hint=f"its figures stand; `orchestrator report --month {period}` shows what is known now, and what is "
                 "learned of it goes into the open month as a restatement",
        )
    if since_at != last.until_at:
        raise InputError(
            f"{period} does not follow {last.period} (time zone {last.tz}), the last month closed",
            hint=f"close the months in between first, in the time zone {last.tz}",
        )


def check_ended(connection: Connection, period: str, until_at: float) -> None:
    """No call that left before then is still under way."""
    c = _call.c
    left = connection.execute(
        select(func.count()).select_from(_call).where(c.state == "intent", c.started_at < until_at)
    ).scalar_one()
    if left:
        raise InputError(
            f"{period} can't be closed: {left:,} of its calls have no end yet",
            hint="let the runs that make them end; what a dead process left is settled within its lease (30 s)",
        )


def listed(connection: Connection) -> list[ClosedMonth]:
    """All closed months, the oldest first."""
    return [ClosedMonth(**row) for row in connection.execute(select(_close).order_by(_close.c.since_at)).mappings()]


# -- what comes after the close ----------------------------------------------------------------------------------------


def book(transaction: Transaction, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows of feedback as they are written: those on runs of closed months count from now on, not from before."""
    until = transaction.execute(_CLOSED_UNTIL).scalar_one() if rows else None
    if until is None:
        return rows
    ended: dict[str, float] = {}
    for some in chunks(sorted({row[1] for row in rows})):
        ended.update((row.run_id, row.ended_at) for row in transaction.execute(_ENDED, {"among": some}))
    late = {run_id: at for run_id, at in ended.items() if at < until}
    if not late:
        return rows
    touch(transaction, min(late.values()), len(late))
    return [(*row[:5], max(row[5], transaction.now)) if row[1] in late else row for row in rows]


def touch(transaction: Transaction, ended_at: float, rows: int = 1) -> None:
    """Mark the closed months whose figures may have moved: that of `ended_at` and later ones, whose runs may have been
    served its answers from the cache."""
    transaction.execute(
        _close.update().where(_close.c.until_at > ended_at).values(touched=_close.c.touched + rows)
    )


def settled_late(transaction: Transaction, rows: Sequence[Any]) -> None:
    """Calls that recovery had given up, and that are settled now: in the open month."""
    ended = [row.ended_at for row in rows if row.ended_at is not None]
    if ended:
        touch(transaction, min(ended), len(ended))
