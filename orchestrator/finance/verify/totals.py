"""The sums that reports are read from, held against the rows they are sums of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Connection, and_, case, cast, func, literal, or_, select

from orchestrator.finance.closing.figures import differences, figures_of, read_figures
from orchestrator.finance.closing.view import Snapshot
from orchestrator.finance.period import Period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.finance.scope import within
from orchestrator.finance.verify.by_hour import Placed, hour_by_hour, hour_column, hour_in_words, whole_hours
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import call, run, stream
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.allocations import allocated, bill_of_hour, rented
from orchestrator.store.keys import HOUR_S
from orchestrator.store.line_tables import LineKey, LineRow
from orchestrator.store.lines import CallKey
from orchestrator.store.statements import table

line, line_key = table(LineRow), table(LineKey)
TOKENS = tuple(f"{name}_tokens" for name in TOKEN_CLASSES)
SUMS = ("calls", "priced", "cost_nano", "bound_nano", *TOKENS, "unpriced", "unbounded")
NOTHING = (0,) * len(SUMS)


def report_totals(connection: Connection, period: Period, now: float) -> Iterator[Discrepancy]:
    """What the report says of each pipeline in the period, beside its runs, calls and feedback."""
    report = build_report(Snapshot(connection), ReportQuery(period=period), now=now)
    for words in differences(figures_of(report), read_figures(connection, period)):
        yield Discrepancy(kind="total", words=f"the report says of {words}")


def lines(connection: Connection, period: Period) -> Iterator[Discrepancy]:
    """The hourly lines of whole hours within the period, beside the calls that ended in them."""
    kept, summed = (_placed(stream(connection, rows)) for rows in (_kept(period), _summed(connection, period)))
    for hour, key, here, there in hour_by_hour(kept, summed, NOTHING):
        yield from _compared(hour, key, here, there)


def gpu_hours(connection: Connection, period: Period) -> Iterator[Discrepancy]:
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
            yield Discrepancy(
                kind="total", table="allocated",
                words=f"the GPU hour {hour_in_words(row.hour)} of {row.model}: {row.nano:,} billionths are spread, "
                      f"{told}",
            )


def _kept(period: Period) -> Any:
    """The lines, by hour and key; processes on one PostgreSQL have rows of their own."""
    keys = [line_key.c[name] for name in CallKey._fields]
    sums = [func.coalesce(cast(func.sum(line.c[name]), BigInteger), 0) for name in SUMS]
    wanted = select(line.c.hour, *keys, *sums).select_from(line.join(line_key, line_key.c.key_id == line.c.key_id))
    hours = within(line.c.hour * HOUR_S, whole_hours(period))
    return wanted.where(hours).group_by(line.c.hour, *keys).order_by(line.c.hour)


def _summed(connection: Connection, period: Period) -> Any:
    """The same from the calls."""
    c = call.c
    own = {
        "config_id": run.c.config_id, "tenant": run.c.tenant, "tags_json": run.c.tags_json,
        "model": func.coalesce(c.model_answered, c.model), "currency": func.coalesce(c.currency, c.bound_currency),
    }
    given_up = c.state == "unsettled"
    used = sum((func.coalesce(c[name], 0) for name in TOKENS), literal(0))
    unpriced = and_(c.state == "settled", c.cost_nano.is_(None), or_(used > 0, c.input_tokens.is_(None)))
    amounts = {
        "cost_nano": c.cost_nano, "bound_nano": case((given_up, c.bound_nano)), **{name: c[name] for name in TOKENS},
        "unpriced": case((unpriced, 1)), "unbounded": case((and_(given_up, c.bound_nano.is_(None)), 1)),
    }
    hour = hour_column(connection, c.ended_at).label("hour")
    each = (
        select(hour, *((own[name] if name in own else c[name]).label(name) for name in CallKey._fields),
               *(amount.label(name) for name, amount in amounts.items()))
        .select_from(call.join(run, run.c.run_id == call.c.run_id))
        .where(c.ended_at.is_not(None), within(c.ended_at, whole_hours(period))).subquery("each")
    )
    keys = [each.c[name] for name in ("hour", *CallKey._fields)]
    sums = {
        "calls": func.count(), "priced": func.count(each.c.cost_nano), **{n: func.sum(each.c[n]) for n in amounts},
    }
    wanted = select(*keys, *(func.coalesce(cast(sums[name], BigInteger), 0) for name in SUMS))
    return wanted.group_by(*keys).order_by(each.c.hour)


def _placed(rows: Iterator[Any]) -> Iterator[Placed]:
    for hour, *values in rows:
        yield hour, tuple(values[: len(CallKey._fields)]), tuple(map(int, values[len(CallKey._fields) :]))


def _compared(hour: int, key: tuple[Any, ...], kept: tuple[int, ...], summed: tuple[int, ...]) -> Iterator[Discrepancy]:
    of = CallKey(*key)
    for name, here, there in zip(SUMS, kept, summed, strict=True):
        if here != there:
            yield Discrepancy(
                kind="total", table="call_line",
                words=f"the line of {hour_in_words(hour)}, {of.step} {of.role} by {of.model} ({of.state}): "
                      f"{name} {here:,}, its calls say {there:,}",
            )
            return
