"""The accounts of budgets, held against the calls that reserved and spent in them.

A call names its accounts, and counts in each: at its cost, or at its bound where that is not known. **An account that
was opened after its bucket began also holds what had ended by then** (`store/budget_accounts.py`): calls that it covers
and that do not name it. Which of them is not on record for a pipeline file's budget, for processes without that budget
may have called since: such an account is held between the two sums. A limit of the store is met by every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, case, cast, func, select

from orchestrator.config.budget import SPANS, bucket, set_in_store, tenant_of_pipeline, who_of, whose
from orchestrator.finance.configured import config
from orchestrator.finance.verify.by_hour import hour_column
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import call, run, stream
from orchestrator.records import Money
from orchestrator.store.keys import HOUR_S
from orchestrator.store.statements import table
from orchestrator.store.tables import Budget

budget = table(Budget)
_TASK = "task:"


@dataclass(slots=True)
class _Due:
    """What calls come to that an account counts: `spent` and `reserved` by those that name it; of those that it
    covers without, `before` had to be counted as it was opened, and `maybe` may have been."""

    spent: int = 0
    reserved: int = 0
    before: int = 0
    maybe: int = 0


def shared_accounts(connection: Connection) -> Iterator[Discrepancy]:
    """Those of limits by the hour, day and month, and in total. Memory holds the accounts: there are few, for those of
    buckets long past are swept."""
    rows = connection.execute(select(budget).where(~budget.c.scope.startswith(_TASK)).order_by(budget.c.scope)).all()
    accounts = {row.scope: row for row in rows}
    if not accounts:
        return
    due = {scope: _Due() for scope in accounts}
    for some in stream(connection, _calls(connection)):
        named = set((some.scopes or "").split())
        for scope in named & accounts.keys():
            _add(due[scope], some, accounts[scope].currency)
        if some.state != "intent":
            for scope in _covering(some, accounts) - named:
                _add_unnamed(due[scope], some, accounts[scope])
    for scope, row in accounts.items():
        yield from _compared(row, due[scope])


def task_accounts(connection: Connection) -> Iterator[Discrepancy]:
    """Those of single tasks, under way or just ended. One that was swept may be opened anew, by a late call of a run
    that has ended: it then holds less than all calls of the run."""
    c = call.c
    counted = case((c.currency == budget.c.currency, c.cost_nano), else_=c.bound_nano)
    named = (" " + c.scopes + " ").contains(" " + budget.c.scope + " ")
    own = (c.run_id == func.substr(budget.c.scope, len(_TASK) + 1), named, c.bound_currency == budget.c.currency)
    spent, reserved = (
        select(cast(func.coalesce(func.sum(nano), 0), BigInteger)).where(*own, state).correlate(budget)
        .scalar_subquery() for nano, state in ((counted, c.state != "intent"), (c.bound_nano, c.state == "intent"))
    )
    rows = select(budget, spent.label("due_spent"), reserved.label("due_reserved"), run.c.done).select_from(
        budget.outerjoin(run, run.c.run_id == func.substr(budget.c.scope, len(_TASK) + 1))
    ).where(budget.c.scope.startswith(_TASK))
    for row in stream(connection, rows):
        due = _Due(spent=row.due_spent, reserved=row.due_reserved)
        if row.done and row.spent_nano <= due.spent:
            due.spent = row.spent_nano
        yield from _compared(row, due)


# -- the calls ---------------------------------------------------------------------------------------------------------


def _calls(connection: Connection) -> Any:
    """Sums of calls that count alike in every account."""
    c = call.c
    amounts = ("cost_nano", "bound_nano")
    each = select(
        hour_column(connection, c.started_at).label("hour"), c.pipeline, run.c.tenant, config.c.cost_center, c.scopes,
        c.state, c.currency, c.bound_currency, *(func.coalesce(c[name], 0).label(name) for name in amounts),
    ).select_from(
        call.outerjoin(run, run.c.run_id == c.run_id).outerjoin(config, config.c.config_id == run.c.config_id)
    ).subquery("each")
    keys = [column for column in each.columns if column.name not in amounts]
    sums = (cast(func.sum(each.c[name]), BigInteger).label(name) for name in amounts)
    return select(*keys, *sums).group_by(*keys)


def _covering(some: Any, accounts: dict[str, Any]) -> set[str]:
    """The accounts that calls fall under by when they began and whose they are."""
    tenant = some.tenant or ""
    who = (*whose(some.pipeline, tenant, some.cost_center or ""), some.pipeline,
           tenant_of_pipeline(some.pipeline, tenant))
    buckets = [bucket(span, some.hour * HOUR_S) for span in SPANS]
    return {scope for one in buckets for key in who if (scope := one.scope(key)) in accounts}


def _add(due: _Due, some: Any, currency: str) -> None:
    if some.bound_currency != currency:
        return
    if some.state == "intent":
        due.reserved += some.bound_nano
    else:
        due.spent += some.cost_nano if some.currency == currency else some.bound_nano


def _add_unnamed(due: _Due, some: Any, account: Any) -> None:
    counts = some.cost_nano if some.currency == account.currency else some.bound_nano
    if account.currency not in (some.currency, some.bound_currency):
        return
    if some.bound_currency == account.currency and _met_by_all(account.scope):
        due.before += counts
    else:
        due.maybe += counts


def _met_by_all(scope: str) -> bool:
    """A run may go on under another cost centre than that of its first calls."""
    return set_in_store(scope) and who_of(scope.split(":")[1]).kind != "cost_center"


# -- beside the account ------------------------------------------------------------------------------------------------


def _compared(row: Any, due: _Due) -> Iterator[Discrepancy]:
    least = due.spent + due.before
    most = least + due.maybe
    if not least <= row.spent_nano <= most:
        come_to = _money(least, row) if most == least else f"between {_money(least, row)} and {_money(most, row)}"
        yield _finding(row, f"{_money(row.spent_nano, row)} spent, its calls come to {come_to}")
    if row.reserved_nano != due.reserved:
        yield _finding(row, f"{_money(row.reserved_nano, row)} reserved, its calls in flight come to "
                            f"{_money(due.reserved, row)}")


def _money(nano: int, row: Any) -> Money:
    return Money(nano=nano, currency=row.currency)


def _finding(row: Any, words: str) -> Discrepancy:
    return Discrepancy(kind="budget", table="budget", row=row.scope, words=f"budget {row.scope!r}: {words}")
