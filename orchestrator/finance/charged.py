"""Read a report's breakdown from the ledger: its charges, its runs by day, and what needs attention."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.config.budget import SPANS, Who, bucket
from orchestrator.config.prices import PriceBook, Rate
from orchestrator.finance.allocation import read_idle
from orchestrator.finance.attention import Overrun, findings
from orchestrator.finance.break_even_told import break_evens
from orchestrator.finance.breakdown import BY_COST_CENTER, BY_DAY, BY_MODEL, BY_STEP, Account, Breakdown, sums
from orchestrator.finance.charges import read_charges
from orchestrator.finance.configured import APART
from orchestrator.finance.convert import convert
from orchestrator.finance.noted import read_noted
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.refusals import read_refusals
from orchestrator.finance.run_days import count_days
from orchestrator.records import Money
from orchestrator.store.statements import CHUNK, Readable, table
from orchestrator.store.tables import Budget, Price

_budget, _price = table(Budget), table(Price)


def build_breakdown(store: Readable, report: Report) -> Breakdown:
    """What `report` is made of, by the same ledger."""
    query = report.query
    with store.read() as connection:
        charges = tuple(read_charges(connection, period=query.period, pipeline=query.pipeline))
        runs = count_days(connection, query)
        idle = read_idle(connection, query.period) if query.pipeline is None else ()
        versions = {c.price_version for c in charges if c.price_version} | {one.price_version for one in idle}
        prices = _prices(connection, sorted(versions))
        overruns, refusals = _overruns(connection, query), read_refusals(connection, query)
        noted = read_noted(connection, query, charges)
    return Breakdown(
        by_model=sums(charges, BY_MODEL), by_day=sums(charges, BY_DAY), by_cost_center=sums(charges, BY_COST_CENTER),
        by_step=sums(charges, BY_STEP), runs=runs,
        attention=findings(report, charges, overruns, idle, refusals, break_evens(charges, idle, prices), noted),
        prices=prices, idle=idle, charges=charges,
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
    charges = (one for one in breakdown.charges if one.role not in APART)
    return convert(((one.day, one.cost) for one in charges if one.cost is not None), currency, rates)


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

