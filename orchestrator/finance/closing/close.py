"""`report close MONTH`: freeze the figures of a month that is over."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import Connection, select

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.closing.checks import check_chains, check_month, check_runs, check_sums
from orchestrator.finance.closing.document import body_of, digest_of
from orchestrator.finance.closing.figures import figures_of
from orchestrator.finance.closing.reported import with_note
from orchestrator.finance.closing.restated import figures_now, restated
from orchestrator.finance.closing.view import Snapshot
from orchestrator.finance.export.frozen import to_json
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.store import closes, seals
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.own_tables import Owner, Setting
from orchestrator.store.statements import table
from orchestrator.store.tables import Price

if TYPE_CHECKING:
    from orchestrator.store.engine import Store

READINGS = 5
"""Of a month of which something becomes known while it is read."""
SKEW_S = 60.0
"""By how much the clocks of hosts may differ."""

owner, price, setting = table(Owner), table(Price), table(Setting)


async def close_month(
    store: Store, month: str, *, tz: str = "UTC", now: float | None = None, anyway: bool = False
) -> ClosedMonth:
    """Freeze a month's figures in the ledger, with the restatements of those closed before.

    Raises InputError, and changes nothing, for a month that is not over, is before the ledger's first call, is closed
    already, does not follow the last one, has calls in flight or hours of a rented GPU that are not closed, or whose
    sums are not those of its rows; without `anyway`, also for one without runs and for a ledger with a broken chain.
    """
    period = parse_period(month=month, tz=tz)
    await store.close_hours()
    for last in (*(False,) * (READINGS - 1), True):
        frozen, stated, by = await asyncio.to_thread(_freeze, store, month, period, now, anyway)
        try:
            await store.close_month(frozen, stated, by)
            break
        except closes.MonthChanged:
            if last:
                raise
    return frozen


def _freeze(
    store: Store, month: str, period: Period, now: float | None, anyway: bool
) -> tuple[ClosedMonth, dict[str, int], closes.Counted]:
    """The month as one view of the ledger has it."""
    since_at, until_at = period.since_at, period.until_at
    assert since_at is not None
    assert until_at is not None
    with store.read() as connection:
        view = Snapshot(connection)
        by = closes.known(connection, since_at, until_at)
        now = _moment(time.time() if now is None else now, by)
        before = closes.listed(connection)
        check_month(connection, month, period, before, now)
        report = build_report(view, ReportQuery(period=period), now=now)
        check_sums(connection, report, month)
        if not anyway:
            check_runs(report, month)
            check_chains(connection, before, month)
        report = restated(view, report, before)
        figures = to_json(report, _said_closed(build_breakdown(view, report), now))
        body = body_of(
            period=month, tz=period.tz, since_at=since_at, until_at=until_at, created_at=now,
            figures=figures_of(report), stated=figures_now(view, before, now), heads=_heads(connection),
            unsealed=_unsealed(connection), prices=_prices(connection),
            previous=before[-1].digest if before else None, report=figures,
        )
    closed = ClosedMonth(
        period=month, tz=period.tz, since_at=since_at, until_at=until_at, created_at=now, digest=digest_of(body),
        body=body, figures=figures, touched=0,
    )
    return closed, {one.period: one.touched for one in before if one.touched}, by


def _moment(now: float, by: closes.Counted) -> float:
    """When the view was taken: after all that it holds, also what was said by a host whose clock is ahead."""
    latest = by.latest
    return latest + closes.APART_S if latest is not None and now <= latest < now + SKEW_S else now


def _said_closed(breakdown: Breakdown, now: float) -> Breakdown:
    """Every format of the month says that it is closed."""
    words = (f"closed on {datetime.fromtimestamp(now, UTC):%Y-%m-%d} (UTC): these figures stand. What was learned "
             "since is restated in the report of the open month")
    return with_note(breakdown, "closed", words)


def _heads(connection: Connection) -> dict[str, tuple[int, bytes]]:
    rows = connection.execute(select(owner.c.owner_id, owner.c.sealed, owner.c.seal).where(owner.c.sealed > 0))
    return {row.owner_id: (row.sealed, bytes(row.seal)) for row in rows}


def _unsealed(connection: Connection) -> dict[str, int]:
    value = connection.execute(select(setting.c.value).where(setting.c.name == seals.UNSEALED)).scalar_one()
    counts: dict[str, int] = orjson.loads(value)
    return counts


def _prices(connection: Connection) -> dict[str, str]:
    """The prices in the ledger, by version, with the whole digest of each."""
    rows = connection.execute(select(price.c.version, price.c.body_json))
    return {row.version: sha256(row.body_json.encode()).hexdigest() for row in rows}


