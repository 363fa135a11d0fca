"""`orchestrator verify`: everything a ledger says of money and success, derived again from its rows.

Rows are streamed; memory holds a few thousand of them, the sums by hour, and the first thousand findings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, or_, select

from orchestrator.finance.closing.document import CloseDocument
from orchestrator.finance.period import Period
from orchestrator.finance.verify import accounts, cells, chains, closed, costs, rows, totals
from orchestrator.finance.verify.as_closed import check_figures
from orchestrator.finance.verify.chains import Head
from orchestrator.finance.verify.classes import class_costs
from orchestrator.finance.verify.closed_prices import closed_prices
from orchestrator.finance.verify.costs import CallCosts, StoredPrices
from orchestrator.finance.verify.findings import Discrepancies, Discrepancy
from orchestrator.store import closes, seals
from orchestrator.store.own_tables import Owner, Setting
from orchestrator.store.statements import Readable, table

NAMED = 20
"""Rows without a seal that are named."""

owner, setting = table(Owner), table(Setting)
Advance = Callable[[], object]


@dataclass(slots=True)
class Verified:
    """What was looked at, and what was found. `unsealed` are rows from before the chains, by table."""

    writers: int = 0
    sealed: int = 0
    unsealed: dict[str, int] = field(default_factory=dict)
    calls: CallCosts = field(default_factory=CallCosts)
    closes: tuple[str, ...] = ()
    findings: Discrepancies = field(default_factory=Discrepancies)

    @property
    def clean(self) -> bool:
        return not self.findings.count


def verify(
    store: Readable, period: Period, *, file: CloseDocument | None = None, advance: Advance = lambda: None,
    now: float | None = None,
) -> Verified:
    """Verify a ledger in one consistent view. Chains are walked whole; costs, runs and totals are those of the period;
    `file` is a close file to hold against it. `advance` is called for each sealed row."""
    done = Verified()
    with store.read() as connection:
        if connection.dialect.name == "postgresql":  # its default sees what is committed meanwhile
            connection.execution_options(isolation_level="REPEATABLE READ")
        months = closes.listed(connection)
        documents, found = closed.read_closes(months)
        done.findings.add(found)
        done.closes = tuple(one.period for one in documents)
        anchored = [*documents, *([file] if file is not None else [])]
        _walk(connection, done, anchored, advance)
        prices = StoredPrices.read(connection)
        for discrepancies in (
            prices.findings,
            closed_prices(connection, anchored),
            costs.call_costs(connection, prices, period, done.calls),
            costs.run_costs(connection, period),
            costs.runs_as_ended(connection, period),
            totals.lines(connection, period),
            class_costs(connection, prices, period),
            cells.run_cells(connection, period),
            cells.cost_cells(connection, period),
            totals.gpu_hours(connection, period),
            totals.report_totals(connection, period, time.time() if now is None else now),
            accounts.shared_accounts(connection),
            accounts.task_accounts(connection),
            closed.check_file(file, months) if file is not None else (),
            *(check_figures(connection, one) for one in documents if _within(one, period)),
        ):
            done.findings.add(discrepancies)
    return done


def count_rows(store: Readable) -> int:
    with store.read() as connection:
        return rows.count_rows(connection)


def chain_findings(connection: Connection, anchored: Sequence[CloseDocument]) -> Iterator[Discrepancy]:
    """What the chains alone tell: rows that were changed, removed, moved or put in."""
    yield from chains.walk(rows.sealed_rows(connection), _heads(connection), closed.anchors_of(anchored))
    yield from _superseded_alone(connection)


def _walk(connection: Connection, done: Verified, anchored: list[CloseDocument], advance: Advance) -> None:
    heads = _heads(connection)
    done.writers = len(heads)
    sealed = _counted(rows.sealed_rows(connection), done, advance)
    done.findings.add(chains.walk(sealed, heads, closed.anchors_of(anchored)))
    done.findings.add(_superseded_alone(connection))
    done.unsealed = seals.unsealed(connection)
    done.findings.add(_unsealed(connection, done.unsealed))


def _counted(found: Iterable[Any], done: Verified, advance: Advance) -> Iterator[Any]:
    for one in found:
        done.sealed += 1
        advance()
        yield one


def _heads(connection: Connection) -> dict[str, Head]:
    found = select(owner.c.owner_id, owner.c.sealed, owner.c.seal).where(owner.c.sealed > 0)
    return {
        row.owner_id: Head(row.sealed, bytes(row.seal or b""), "its head in `owner`")
        for row in connection.execute(found)
    }


def _superseded_alone(connection: Connection) -> Iterator[Discrepancy]:
    """A seal is superseded by another of the same call: without one, the call was taken away."""
    s, c = rows.superseded.c, rows.call.c
    joined = rows.superseded.outerjoin(rows.call, c.call_id == s.row_id)
    for row in connection.execute(select(s.row_id, s.sealed_by, s.seal_no).select_from(joined).where(
        or_(c.call_id.is_(None), c.seal_no.is_(None))
    )):
        yield Discrepancy(kind="removed", table="call", row=row.row_id, writer=row.sealed_by, number=row.seal_no,
                          words=f"call {row.row_id} was sealed anew, and is gone")


def _unsealed(connection: Connection, counts: dict[str, int]) -> Iterator[Discrepancy]:
    """Rows without a seal, where there are more, or fewer, than when the chains began."""
    value = connection.execute(select(setting.c.value).where(setting.c.name == seals.UNSEALED)).scalar_one_or_none()
    before: dict[str, int] = orjson.loads(value) if value else {}
    for name, count in counts.items():
        there = before.get(name, 0)
        if count < there:
            yield Discrepancy(kind="removed", table=name, words=f"{there - count:,} rows of `{name}` from before the "
                              "chains are gone (which, nothing tells)")
        elif count > there:
            named = ", ".join(_newest_unsealed(connection, name, min(count - there, NAMED)))
            yield Discrepancy(kind="inserted", table=name, words=f"{count - there:,} rows of `{name}` have no seal and "
                              f"came after the chains began: {named}")


def _newest_unsealed(connection: Connection, name: str, count: int) -> Iterator[str]:
    of = {"call": rows.call, "outcome": rows.outcome, "feedback": rows.feedback}[name]
    key = next(iter(of.primary_key.columns))
    moment = of.c.at if name == "feedback" else of.c.ended_at
    wanted = select(key).where(of.c.seal_no.is_(None), moment.is_not(None)).order_by(moment.desc()).limit(count)
    return iter(connection.execute(wanted).scalars().all())


def _within(document: CloseDocument, period: Period) -> bool:
    return period.since is None or period == Period(since=period.since, until=period.until, tz=document.tz)
