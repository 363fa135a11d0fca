"""The account of a budget: what is spent and reserved in one bucket of time.

**An account that is not there is opened with what the ledger says.** So a limit that is set in mid-month counts the
month's calls, those in flight too: they are made to settle in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select

from orchestrator.records import Money
from orchestrator.store.entries import BudgetLine, Covered, entry
from orchestrator.store.statements import Transaction, insert, table, updating
from orchestrator.store.tables import Budget, CallRow, Config, Run

_budget, _call, _run, _config = table(Budget), table(CallRow), table(Run), table(Config)
_POSTGRES_LOCK = 0x6275_6467_6574_7321  # "budgets!"
_SCOPES = updating(CallRow, "scopes", by=["call_id"])


@entry
class StoredBudget:
    scope: str
    limit: Money
    spent: Money
    reserved: Money
    overrun: Money


def hold(transaction: Transaction) -> None:
    """Take the one lock of all accounts that processes share, until the commit.

    A commit reserves for some calls and settles others, each in several accounts: row by row, two commits could wait
    for each other. SQLite has one writer at a time anyway.
    """
    if transaction.dialect == "postgresql":
        transaction.connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_LOCK})")


def is_shared(scope: str) -> bool:
    """A task's account is used by the one process that runs it."""
    return not scope.startswith("task:")


def opened(transaction: Transaction, line: BudgetLine) -> StoredBudget:
    """Open the account of `line` with what the ledger holds of the calls it covers."""
    spent, reserved = 0, 0
    if line.covered is not None:
        reserved = _take_in_flight(transaction, line, line.covered)
        spent = _ended(transaction.connection, line.limit.currency, line.covered)
    transaction.execute(insert(_budget, transaction.dialect).values(
        scope=line.scope, currency=line.limit.currency, limit_nano=line.limit.nano, spent_nano=spent,
        reserved_nano=reserved, ends_at=line.covered.until if line.covered else None,
    ).on_conflict_do_nothing())
    return _stored(line, spent, reserved)


def _take_in_flight(transaction: Transaction, line: BudgetLine, covered: Covered) -> int:
    """Have the open calls settle in this account too; the sum of their bounds."""
    c = _call.c
    rows = transaction.execute(
        select(c.call_id, c.scopes, c.bound_nano).where(*_in_flight(covered, line.limit.currency))
        .order_by(c.call_id).with_for_update()
    ).all()
    others = [row for row in rows if line.scope not in (row.scopes or "").split()]
    transaction.many(_SCOPES, [(f"{row.scopes or ''} {line.scope}".strip(), row.call_id) for row in others])
    return sum(row.bound_nano for row in rows)


def as_the_ledger_has_it(connection: Connection, line: BudgetLine) -> StoredBudget:
    """The account of `line`, were it opened now."""
    assert line.covered is not None
    currency = line.limit.currency
    in_flight = select(func.coalesce(func.sum(_call.c.bound_nano), 0)).where(*_in_flight(line.covered, currency))
    reserved = int(connection.execute(in_flight).scalar_one())
    return _stored(line, _ended(connection, currency, line.covered), reserved)


def _ended(connection: Connection, currency: str, covered: Covered) -> int:
    """What the calls cost that have ended: a cost that is not known, or in another currency, counts as its bound."""
    c = _call.c
    counts = case(
        (and_(c.cost_nano.is_not(None), c.currency == currency), c.cost_nano),
        (c.bound_currency == currency, c.bound_nano), else_=0,
    )
    query = select(func.coalesce(func.sum(counts), 0)).where(
        c.ended_at >= covered.since, c.state != "intent", *_of(covered)
    )
    return int(connection.execute(query).scalar_one())


def _in_flight(covered: Covered, currency: str) -> Sequence[ColumnElement[bool]]:
    c = _call.c
    return c.state == "intent", c.bound_nano.is_not(None), c.bound_currency == currency, *_of(covered)


def _of(covered: Covered) -> list[ColumnElement[bool]]:
    """A call belongs to the bucket that it began in: that of its reservation."""
    c, found = _call.c, [_call.c.started_at >= covered.since]
    if covered.until is not None:
        found.append(c.started_at < covered.until)
    if covered.pipeline is not None:
        found.append(c.pipeline == covered.pipeline)
    if covered.tenant is not None:
        found.append(c.run_id.in_(select(_run.c.run_id).where(_run.c.tenant == covered.tenant)))
    if covered.cost_center is not None:
        found.append(c.run_id.in_(
            select(_run.c.run_id).join(_config, _config.c.config_id == _run.c.config_id)
            .where(_config.c.cost_center == covered.cost_center)
        ))
    return found


def _stored(line: BudgetLine, spent: int, reserved: int) -> StoredBudget:
    spends, reserves, nothing = (Money(nano=nano, currency=line.limit.currency) for nano in (spent, reserved, 0))
    return StoredBudget(scope=line.scope, limit=line.limit, spent=spends, reserved=reserves, overrun=nothing)


def stored(row: Any) -> StoredBudget:
    limit, spent, reserved, overrun = (
        Money(nano=nano, currency=row.currency)
        for nano in (row.limit_nano, row.spent_nano, row.reserved_nano, row.overrun_nano)
    )
    return StoredBudget(scope=row.scope, limit=limit, spent=spent, reserved=reserved, overrun=overrun)
