"""Read a report's breakdown from the ledger: its charges, its runs by day, and what needs attention."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.config.budget import SPANS, Who, bucket
from orchestrator.config.prices import PriceBook, Rate
from orchestrator.finance.allocation import IdleLine, idle_lines
from orchestrator.finance.attention import Overrun, findings
from orchestrator.finance.break_even_told import break_evens
from orchestrator.finance.breakdown import (
    BY_COST_CENTER,
    BY_DAY,
    BY_MODEL,
    BY_STEP,
    Account,
    Breakdown,
    Charge,
    Idle,
    RunCount,
    sums,
)
from orchestrator.finance.configured import APART, CALIBRATION
from orchestrator.finance.convert import DaySum, convert, utc_day
from orchestrator.finance.lines import CallLine, read_call_lines
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.refusals import read_refusals
from orchestrator.finance.run_days import count_days
from orchestrator.finance.scope import Readable, Scope
from orchestrator.records import TOKEN_CLASSES, Money
from orchestrator.store.statements import CHUNK, table
from orchestrator.store.tables import Budget, Price

_EPOCH = date(1970, 1, 1)
_budget, _price = table(Budget), table(Price)


def build_breakdown(store: Readable, report: Report) -> Breakdown:
    """What `report` is made of, by the same ledger."""
    query = report.query
    with store.read() as connection:
        lines = read_call_lines(connection, period=query.period, pipeline=query.pipeline, grain="day")
        charges = _charges(lines)
        runs = _runs(connection, query)
        hours = idle_lines(connection, query.period) if query.pipeline is None else []
        idle = _idle(hours)
        versions = {c.price_version for c in charges if c.price_version} | {one.price_version for one in idle}
        prices = _prices(connection, sorted(versions))
        overruns, refusals = _overruns(connection, query), read_refusals(connection, query)
    return Breakdown(
        by_model=sums(charges, BY_MODEL), by_day=sums(charges, BY_DAY), by_cost_center=sums(charges, BY_COST_CENTER),
        by_step=sums(charges, BY_STEP), runs=runs,
        attention=findings(report, charges, overruns, idle, refusals, break_evens(lines, hours, prices)),
        prices=prices, idle=idle,
        charges=charges,
    )


def with_accounts(breakdown: Breakdown, book: PriceBook) -> Breakdown:
    """With the names that the price book gives to the accounts of the ledger, where it names none yet."""
    if breakdown.accounts:
        return breakdown
    used = sorted({one.account for one in breakdown.charges if one.account} & set(book.accounts))
    return replace(breakdown, accounts=tuple(
        Account(alias=alias, billing_account_id=(a := book.accounts[alias]).billing_account,
                billing_account_name=a.name or a.billing_account, sub_account_id=a.sub_account or None,
                sub_account_name=a.sub_account_name or None, invoice_issuer=a.issuer or None)
        for alias in used
    ))


def converted(breakdown: Breakdown, currency: str, rates: Sequence[Rate]) -> Money:
    """The report's total in one currency, baseline and calibration left out: at least so much where
    `breakdown.incomplete(charges)`. Raises InputError without a rate."""
    return convert((
        DaySum(day=one.day, currency=one.cost.currency, nano=one.cost.nano)
        for one in breakdown.charges if one.cost is not None and one.role not in APART
    ), currency, rates)


def _charges(lines: Sequence[CallLine]) -> tuple[Charge, ...]:
    """Endpoints are left out: who is billed is said by the account, and an address is nobody's business."""
    alike: dict[tuple[Any, ...], list[CallLine]] = {}
    for line in lines:
        tags = tuple(sorted(line.tags.items()))
        role = CALIBRATION if line.mode == CALIBRATION else line.role
        key = (utc_day(line.at), role, line.pipeline, line.version, line.owner, line.cost_center, line.mode,
               line.tenant, tags, line.step, line.provider, line.model, line.account, line.tier, line.state,
               line.provenance, line.price_version, line.currency)
        alike.setdefault(key, []).append(line)
    return tuple(_charge(key[0], key[1], members) for key, members in alike.items())


def _charge(day: date, role: str, lines: Sequence[CallLine]) -> Charge:
    one, code = lines[0], lines[0].currency or ""
    known = [line.cost for line in lines if line.cost is not None]
    shares = [line.allocated for line in lines if line.allocated is not None]
    classed = [line.costs for line in lines if line.costs is not None]
    bounded = sum(line.unsettled for line in lines) > sum(line.unbounded for line in lines)
    return Charge(
        day=day, role=role, pipeline=one.pipeline, version=one.version, owner=one.owner, cost_center=one.cost_center,
        mode=one.mode, tenant=one.tenant, tags=dict(sorted(one.tags.items())), step=one.step, provider=one.provider,
        model=one.model, account=one.account, tier=one.tier, state=one.state, provenance=one.provenance,
        price_version=one.price_version, currency=one.currency, calls=sum(line.calls for line in lines),
        tokens={n: k for n in TOKEN_CLASSES if (k := sum(line.tokens.get(n, 0) for line in lines))},
        cost=Money(nano=sum(known), currency=code) if known else None,
        costs={n: Money(nano=nano, currency=code) for n in TOKEN_CLASSES if (nano := sum(c.get(n, 0) for c in classed))}
        if classed and len(classed) == len(known) else None,
        allocated=Money(nano=sum(shares), currency=code) if shares else None,
        bound=Money(nano=sum(line.bound for line in lines), currency=code) if bounded else None,
        unpriced=sum(line.unpriced for line in lines), unsettled=sum(line.unsettled for line in lines),
        in_flight=sum(line.in_flight for line in lines), unbounded=sum(line.unbounded for line in lines),
        late=sum(line.late for line in lines), pending=sum(line.pending for line in lines),
    )


def _runs(connection: Connection, query: ReportQuery) -> tuple[RunCount, ...]:
    scope = Scope(pipeline=query.pipeline, by=(), period=query.period)
    return tuple(
        RunCount(day=_EPOCH + timedelta(days=day), pipeline=pipeline, cost_center=cost_center, runs=found.runs,
                 successes=found.right, failures=found.wrong, unknown=found.runs - found.right - found.wrong)
        for (day, pipeline, cost_center), found in count_days(connection, scope).items()
    )


def _prices(connection: Connection, versions: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """The bodies of the prices that the charges were priced by."""
    found: dict[str, Mapping[str, Any]] = {}
    for at in range(0, len(versions), CHUNK):
        some = select(_price.c.version, _price.c.body_json).where(_price.c.version.in_(versions[at : at + CHUNK]))
        found |= {version: json.loads(body) for version, body in connection.execute(some)}
    return dict(sorted(found.items()))


def _overruns(connection: Connection, query: ReportQuery) -> list[Overrun]:
    """Budgets of the period above which a provider billed; those of a task have no day: `budget show` has them."""
    c = _budget.c
    rows = connection.execute(select(c.scope, c.currency, c.overrun_nano).where(c.overrun_nano > 0).order_by(c.scope))
    return [
        Overrun(scope=scope, over=Money(nano=int(nano), currency=currency))
        for scope, currency, nano in rows if _is_in(scope, query)
    ]


def _is_in(scope: str, query: ReportQuery) -> bool:
    """Scopes are SPAN:WHO:BUCKET; a budget in total has no bucket, and is in every period."""
    span, who, *rest = scope.split(":")
    if span not in SPANS or (query.pipeline is not None and not _is_of(who, query.pipeline)):
        return False
    if span == "total":
        return True
    start = datetime.fromisoformat(f"{rest[-1]}-01" if span == "month" else rest[-1]).replace(tzinfo=UTC)
    found = bucket(span, start.timestamp())
    since, until = query.period.since_at, query.period.until_at
    return (since is None or found.until is None or found.until > since) and (until is None or found.since < until)


def _is_of(who: str, pipeline: str) -> bool:
    """Is it a budget of this pipeline alone: of its file, of one of its tenants there, or set in the store."""
    return who in (pipeline, Who("pipeline", pipeline).key) or who.startswith(f"{pipeline}/tenant=")


def _idle(lines: Sequence[IdleLine]) -> tuple[Idle, ...]:
    sums: dict[tuple[date, str, str, str], int] = {}
    for one in lines:
        place = utc_day(one.at), one.model, one.price_version, one.currency
        sums[place] = sums.get(place, 0) + one.nano
    return tuple(
        Idle(day=day, model=model, price_version=version, cost=Money(nano=nano, currency=code))
        for (day, model, version, code), nano in sorted(sums.items())
    )
