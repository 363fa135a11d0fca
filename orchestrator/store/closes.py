"""Closed months: written once, read for good.

**What a closed month says never changes.** What is learned of its runs later is booked in the open month: it counts
from the moment it is recorded, whatever time it names, and the closed month is marked as touched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text

from orchestrator.errors import InputError
from orchestrator.store.close_tables import Close
from orchestrator.store.statements import Row, Transaction, among, chunks, table
from orchestrator.store.tables import CallRow, Feedback, OutcomeRow, Run

APART_S = 1e-6
"""Between two words on one run that count from the same moment: the later one is the last."""

_close, _outcome, _call = table(Close), table(OutcomeRow), table(CallRow)
_run, _feedback = table(Run), table(Feedback)
_LAST = select(func.max(_close.c.until_at), func.max(_close.c.created_at))
_ENDED = select(_outcome.c.run_id, _outcome.c.ended_at).where(among(_outcome.c.run_id))
_FOLLOWERS_ENDED = (
    select(_run.c.source_run_id, func.min(_outcome.c.ended_at))
    .select_from(_run.join(_outcome, _outcome.c.run_id == _run.c.run_id))
    .where(among(_run.c.source_run_id)).group_by(_run.c.source_run_id)
)


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


class MonthChanged(InputError):
    """Something became known of a month between reading its figures and closing it: they are to be read again."""


@dataclass(frozen=True, slots=True)
class Counted:
    """How much is known by a view of the ledger: runs of a month, words on those that ended by its end (rows are only
    ever added), and when the last of these was said."""

    runs: int
    words: int
    latest: float | None


def known(connection: Connection, since_at: float, until_at: float) -> Counted:
    ended = _outcome.c.ended_at
    of_runs = select(func.count()).select_from(_outcome).where(ended >= since_at, ended < until_at)
    said = _feedback.join(_outcome, _outcome.c.run_id == _feedback.c.run_id)
    words = select(func.count(), func.max(_feedback.c.at)).select_from(said).where(ended < until_at)
    count, latest = connection.execute(words).one()
    return Counted(connection.execute(of_runs).scalar_one(), count, latest)


def record(transaction: Transaction, month: ClosedMonth, stated: Mapping[str, int], by: Counted | None = None) -> None:
    """Close a month. `stated` is how much of what was booked of earlier ones it states, `by` what was known as its
    figures were read. Raises InputError where it is closed already, is not the one that follows the last, or has calls
    in flight, and MonthChanged where more is known by now: then nothing is changed."""
    _lock(transaction, "EXCLUSIVE")
    last = transaction.execute(select(_close).order_by(_close.c.until_at.desc()).limit(1)).one_or_none()
    if last is not None:
        check_follows(month.period, month.since_at, ClosedMonth(**last._mapping))
    check_ended(transaction.connection, month.period, month.until_at)
    if by is not None and known(transaction.connection, month.since_at, month.until_at) != by:
        raise MonthChanged(f"{month.period} can't be closed: something became known of its runs while it was read",
                           hint="close it again")
    for period, rows in stated.items():
        transaction.execute(
            _close.update().where(_close.c.period == period).values(touched=_close.c.touched - rows)
        )
    fields = {name: getattr(month, name) for name in ClosedMonth.__dataclass_fields__}
    transaction.execute(_close.insert().values(**fields))


def _lock(transaction: Transaction, mode: str) -> None:
    """What is booked while a month is closed waits for it, and the other way round. SQLite has one writer anyway."""
    if transaction.dialect == "postgresql":
        transaction.execute(text(f'LOCK TABLE "close" IN {mode} MODE'))


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
    """Rows of feedback as they are written: those on runs of closed months, or on runs whose answers those were served,
    count from now on, not from before; the words on one run stay in the order of their times."""
    if not rows:
        return rows
    _lock(transaction, "ROW EXCLUSIVE")
    last: Any = transaction.execute(_LAST).one()
    until, closed_at = last
    if until is None:
        return rows
    late = _ended_before(transaction, {row[1] for row in rows}, until)
    if not late:
        return rows
    touch(transaction, min(late.values()), len(late))
    return _from_now_on(rows, late, max(transaction.now, closed_at))


def _ended_before(transaction: Transaction, run_ids: Collection[str], until: float) -> dict[str, float]:
    """Those of the runs that ended before then, or that one was served from which did: when the first of them did."""
    ended: dict[str, float] = {}
    for some in chunks(sorted(run_ids)):
        for wanted in (_ENDED, _FOLLOWERS_ENDED):
            found: Any = transaction.execute(wanted, {"among": some})
            ended_then = ((run_id, at) for run_id, at in found if at < until)
            for run_id, at in ended_then:
                ended[run_id] = min(at, ended.get(run_id, at))
    return ended


def followers_learned(transaction: Transaction, run_ids: Sequence[str]) -> None:
    """The outcome of the run they were served from is about to be written: their months may be closed."""
    until = transaction.execute(_LAST).one()[0] if run_ids else None
    if until is not None and (late := _ended_before(transaction, run_ids, until)):
        touch(transaction, min(late.values()), len(late))


def _from_now_on(rows: Sequence[Row], late: Collection[str], now: float) -> Sequence[Row]:
    booked, last = list(rows), dict[str, float]()
    for place in sorted(range(len(rows)), key=lambda place: rows[place][5]):
        run_id, at = rows[place][1], rows[place][5]
        if run_id in late:
            last[run_id] = max(at, last[run_id] + APART_S if run_id in last else now)
            booked[place] = (*rows[place][:5], last[run_id])
    return booked


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
