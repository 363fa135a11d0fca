"""The sums that reports are read from, held against the rows they are sums of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Integer, case, cast, func, select

from orchestrator.finance.closing.figures import differences, figures_of, read_figures, within
from orchestrator.finance.closing.view import Snapshot
from orchestrator.finance.period import Period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.finance.verify.findings import Finding
from orchestrator.finance.verify.rows import call, run
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.allocations import allocated, bill_of_hour, rented
from orchestrator.store.keys import HOUR_S
from orchestrator.store.line_tables import LineKey, LineRow
from orchestrator.store.lines import Key
from orchestrator.store.statements import table

line, line_key = table(LineRow), table(LineKey)
TOKENS = tuple(f"{name}_tokens" for name in TOKEN_CLASSES)
SUMS = ("calls", "priced", "cost_nano", "bound_nano", *TOKENS)


def report_totals(connection: Connection, period: Period, now: float) -> Iterator[Finding]:
    """What the report says of each pipeline in the period, beside its runs, calls and feedback."""
    report = build_report(Snapshot(connection), ReportQuery(period=period), now=now)
    for words in differences(figures_of(report), read_figures(connection, period)):
        yield Finding(kind="total", words=f"the report says of {words}")


def lines(connection: Connection, period: Period) -> Iterator[Finding]:
    """The hourly lines of whole hours within the period, beside the calls that ended in them."""
    kept = {row[: len(Key._fields) + 1]: row[len(Key._fields) + 1 :] for row in connection.execute(_kept(period))}
    for row in connection.execute(_summed(connection, period)):
        place, sums = tuple(row[: len(Key._fields) + 1]), row[len(Key._fields) + 1 :]
        yield from _compared(place, kept.pop(place, None), sums)
    for place, sums in kept.items():
        if any(sums):
            yield from _compared(tuple(place), sums, None)


def gpu_hours(connection: Connection, period: Period) -> Iterator[Finding]:
    """The closed hours of rented GPUs: their shares beside the bill of the price that the hour was billed by. An hour
    with no share may be free: the GPU had been given back."""
    entries = rented(connection)
    c = allocated.c
    sums = (
        select(c.hour, c.model, func.max(c.price_version).label("version"), func.count().label("rows"),
               func.count(c.price_version.distinct()).label("versions"),
               cast(func.sum(c.nano), BigInteger).label("nano"))
        .where(within(c.hour * HOUR_S, period)).group_by(c.hour, c.model).order_by(c.hour, c.model)
    )
    for row in connection.execute(sums):
        entry = entries.get(row.version) if row.versions == 1 else None
        bill = None if entry is None else bill_of_hour(entry)
        if row.nano != bill and not (row.rows == 1 and row.nano == 0):
            told = "it names no one price of a rented GPU" if bill is None else f"its bill is {bill:,}"
            at = datetime.fromtimestamp(row.hour * HOUR_S, UTC)
            yield Finding(
                kind="total", table="allocated",
                words=f"the GPU hour {at:%Y-%m-%d %H}:00 of {row.model}: {row.nano:,} billionths are spread, {told}",
            )


def _kept(period: Period) -> Any:
    """The lines, by hour and key; processes on one PostgreSQL have rows of their own."""
    keys = [line_key.c[name] for name in Key._fields]
    sums = [func.coalesce(cast(func.sum(line.c[name]), BigInteger), 0) for name in SUMS]
    wanted = select(line.c.hour, *keys, *sums).select_from(line.join(line_key, line_key.c.key_id == line.c.key_id))
    return wanted.where(within(line.c.hour * HOUR_S, _whole_hours(period))).group_by(line.c.hour, *keys)


def _summed(connection: Connection, period: Period) -> Any:
    """The same from the calls."""
    c = call.c
    hours = c.ended_at / float(HOUR_S)
    hour = cast(func.floor(hours) if connection.dialect.name == "postgresql" else hours, Integer).label("hour")
    own = {
        "config_id": run.c.config_id, "tenant": run.c.tenant, "tags_json": run.c.tags_json,
        "model": func.coalesce(c.model_answered, c.model), "currency": func.coalesce(c.currency, c.bound_currency),
    }
    each = (
        select(hour, *((own[name] if name in own else c[name]).label(name) for name in Key._fields), c.cost_nano,
               case((c.state == "unsettled", c.bound_nano)).label("bound_nano"), *(c[name] for name in TOKENS))
        .select_from(call.join(run, run.c.run_id == c.run_id))
        .where(c.ended_at.is_not(None), within(c.ended_at, _whole_hours(period))).subquery("each")
    )
    keys = [each.c[name] for name in ("hour", *Key._fields)]
    sums = {
        "calls": func.count(), "priced": func.count(each.c.cost_nano),
        **{name: func.sum(each.c[name]) for name in SUMS if name not in ("calls", "priced")},
    }
    return select(*keys, *(func.coalesce(cast(sums[name], BigInteger), 0) for name in SUMS)).group_by(*keys)


def _whole_hours(period: Period) -> Period:
    """Those that lie in the period altogether: a time zone may cut hours in two."""
    since, until = period.since, period.until
    start = None if since is None else datetime.fromtimestamp(-(-since.timestamp() // HOUR_S) * HOUR_S, UTC)
    end = None if until is None else datetime.fromtimestamp(until.timestamp() // HOUR_S * HOUR_S, UTC)
    return Period(since=start, until=end)


def _compared(place: Any, kept: Any, summed: Any) -> Iterator[Finding]:
    hour, *key = place
    of = dict(zip(Key._fields, key, strict=True))
    for i, name in enumerate(SUMS):
        here, there = (0 if sums is None else int(sums[i]) for sums in (kept, summed))
        if here != there:
            at = datetime.fromtimestamp(hour * HOUR_S, UTC)
            yield Finding(
                kind="total", table="call_line",
                words=f"the line of {at:%Y-%m-%d %H}:00, {of['step']} {of['role']} by {of['model']} ({of['state']}): "
                      f"{name} {here:,}, its calls say {there:,}",
            )
            return
