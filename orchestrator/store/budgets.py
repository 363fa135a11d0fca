"""Budgets reserve, then settle: spent + reserved never exceeds a limit, whoever else is spending.

A call reserves its upper bound in every budget it falls under before it leaves, and moves it to spent, at the real
cost, when it is settled. Which budgets hold a reservation stands on the call, so that recovery can move it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select

from orchestrator.errors import BudgetExceeded, OrchestratorError, UnpricedCall
from orchestrator.records import Money
from orchestrator.store.entries import BudgetLine, CallIntent, StoredBudget
from orchestrator.store.statements import Prepared, Raced, Transaction, insert, table
from orchestrator.store.tables import Budget

_budget = table(Budget)


def _reserving(dialect: str) -> Any:
    """One statement: make the row or add to it, and only where the sum stays within the limit."""
    fresh = insert(_budget, dialect)
    total = _budget.c.spent_nano + _budget.c.reserved_nano + fresh.excluded.reserved_nano
    return fresh.on_conflict_do_update(
        index_elements=["scope"],
        set_={"reserved_nano": _budget.c.reserved_nano + fresh.excluded.reserved_nano,
              "limit_nano": fresh.excluded.limit_nano},
        where=(total <= fresh.excluded.limit_nano) & (_budget.c.currency == fresh.excluded.currency),
    )


_RESERVE = Prepared(
    ("scope", "currency", "limit_nano", "spent_nano", "reserved_nano", "overrun_nano"), _reserving
)
_MOVE = Prepared(
    ("released", "moved", "over", "by_scope"),
    lambda _: _budget.update().where(_budget.c.scope == bindparam("by_scope")).values(
        reserved_nano=_budget.c.reserved_nano - bindparam("released"),
        spent_nano=_budget.c.spent_nano + bindparam("moved"),
        overrun_nano=_budget.c.overrun_nano + bindparam("over"),
    ),
)


@dataclass(slots=True)
class _Open:
    """A budget as this transaction sees it: what is committed, plus what it has reserved itself."""

    currency: str
    spent: int
    reserved: int
    wanted: int = 0
    limit: int = 0


def reserve(transaction: Transaction, intents: Sequence[CallIntent]) -> list[OrchestratorError | None]:
    """Reserve each intent's bound in all of its budgets, or in none: then its place holds the refusal.

    The rows are read and weighed once for the whole group; the guard of the statement that writes is what holds the
    limit should another process have come between (PostgreSQL: a row just made): then the group is taken again.
    """
    scopes = sorted({line.scope for intent in intents for line in intent.budgets})
    if not scopes:
        return [None] * len(intents)
    locked = select(_budget).where(_budget.c.scope.in_(scopes)).order_by(_budget.c.scope).with_for_update()
    budgets = {
        row.scope: _Open(row.currency, row.spent_nano, row.reserved_nano) for row in transaction.execute(locked)
    }
    results = [_weigh(intent, budgets) for intent in intents]
    rows = [(s, b.currency, b.limit, 0, b.wanted, 0) for s, b in sorted(budgets.items()) if b.limit]
    if transaction.many(_RESERVE, rows) != len(rows):
        raise Raced
    return results


def _weigh(intent: CallIntent, budgets: dict[str, _Open]) -> OrchestratorError | None:
    if not intent.budgets:
        return None
    if intent.bound is None:
        return UnpricedCall(f"model {intent.model!r} has no price, and budget {intent.budgets[0].scope!r} applies")
    wanted = intent.bound.nano
    for line in intent.budgets:
        budget = budgets.setdefault(line.scope, _Open(line.limit.currency, 0, 0))
        if budget.currency != line.limit.currency or intent.bound.currency != line.limit.currency:
            return BudgetExceeded(
                f"budget {line.scope!r} is kept in {budget.currency}, its limit is {line.limit} and the call is priced "
                f"in {intent.bound.currency}", hint="use one currency for the prices and the budget")
        if budget.spent + budget.reserved + wanted > line.limit.nano:
            return _exceeded(line, budget, intent.bound)
    for line in intent.budgets:
        budget = budgets[line.scope]
        budget.reserved += wanted
        budget.wanted += wanted
        budget.limit = line.limit.nano
    return None


def _exceeded(line: BudgetLine, budget: _Open, wanted: Money) -> BudgetExceeded:
    spent, reserved = (Money(nano=n, currency=budget.currency) for n in (budget.spent, budget.reserved))
    return BudgetExceeded(
        f"budget {line.scope!r}: limit {line.limit}, spent {spent}, reserved {reserved}; this call may cost {wanted}"
    )


@dataclass(frozen=True, slots=True)
class Move:
    """What the end of one call does to one budget, in billionths."""

    scope: str
    released: int = 0
    spent: int = 0
    overrun: int = 0


def move(transaction: Transaction, moves: Sequence[Move]) -> None:
    """Release reservations and add what was spent: one update a budget, in a fixed order (so none deadlock)."""
    totals: dict[str, list[int]] = {}
    for one in moves:
        total = totals.setdefault(one.scope, [0, 0, 0])
        total[0] += one.released
        total[1] += one.spent
        total[2] += one.overrun
    transaction.many(_MOVE, [(*totals[scope], scope) for scope in sorted(totals)])


def budget_of(connection: Connection, scope: str) -> StoredBudget | None:
    """One budget as it stands, None where nothing was ever reserved in it."""
    row = connection.execute(select(_budget).where(_budget.c.scope == scope)).one_or_none()
    if row is None:
        return None
    limit, spent, reserved, overrun = (
        Money(nano=nano, currency=row.currency)
        for nano in (row.limit_nano, row.spent_nano, row.reserved_nano, row.overrun_nano)
    )
    return StoredBudget(scope=row.scope, limit=limit, spent=spent, reserved=reserved, overrun=overrun)
