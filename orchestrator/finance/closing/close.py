"""`report close MONTH`: freeze the figures of a month that is over."""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import Connection, select

from orchestrator.errors import InputError
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.closing.document import body_of, digest_of
from orchestrator.finance.closing.figures import differences, figures_of, read_figures
from orchestrator.finance.closing.restated import figures_now, restated
from orchestrator.finance.export.frozen import to_json
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.store import closes, seals
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.statements import table
from orchestrator.store.tables import Owner, Price, Setting

if TYPE_CHECKING:
    from orchestrator.store.engine import Store

owner, price, setting = table(Owner), table(Price), table(Setting)


async def close_month(store: Store, month: str, *, tz: str = "UTC", now: float | None = None) -> ClosedMonth:
    """Freeze a month's figures in the ledger, with the restatements of those closed before.

    Raises InputError, and changes nothing, for a month that is not over, is closed already, does not follow the last
    one, has calls in flight, or whose sums are not those of its rows.
    """
    now = time.time() if now is None else now
    frozen, stated = await asyncio.to_thread(_freeze, store, month, parse_period(month=month, tz=tz), now)
    await store.close_month(frozen, stated)
    return frozen


def _freeze(store: Store, month: str, period: Period, now: float) -> tuple[ClosedMonth, dict[str, int]]:
    since_at, until_at = period.since_at, period.until_at
    assert since_at is not None
    assert until_at is not None
    assert period.since is not None
    if month != f"{period.since:%Y-%m}":
        raise InputError(f"{month!r} is written {period.since:%Y-%m}")
    if until_at > now:
        raise InputError(f"{month} is not over yet ({period})", hint="a month is closed once it has ended")
    with store.read() as connection:
        before = closes.listed(connection)
        if before:
            closes.check_follows(month, since_at, before[-1])
        closes.check_ended(connection, month, until_at)
        _check_sums(store, connection, month, period, now)
        heads, unsealed, prices = _heads(connection), _unsealed(connection), _prices(connection)
    report = restated(store, build_report(store, ReportQuery(period=period), now=now), before)
    figures = to_json(report, build_breakdown(store, report))
    body = body_of(
        period=month, tz=period.tz, since_at=since_at, until_at=until_at, created_at=now, figures=figures_of(report),
        stated=figures_now(store, before, now), heads=heads, unsealed=unsealed, prices=prices,
        previous=before[-1].digest if before else None, report=figures,
    )
    closed = ClosedMonth(
        period=month, tz=period.tz, since_at=since_at, until_at=until_at, created_at=now, digest=digest_of(body),
        body=body, figures=figures, touched=0,
    )
    return closed, {one.period: one.touched for one in before if one.touched}


def _check_sums(store: Store, connection: Connection, month: str, period: Period, now: float) -> None:
    """What the report says must be what the rows say: what is frozen is wrong for good."""
    reported = figures_of(build_report(store, ReportQuery(period=period), now=now))
    if found := differences(reported, read_figures(connection, period)):
        raise InputError(f"{month} can't be closed: {found[0]}", hint="see `orchestrator verify`, which names the rows")


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


