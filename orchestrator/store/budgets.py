"""Budgets reserve, then settle: spent + reserved never exceeds a limit, whoever else is spending.

A call reserves its upper bound in every budget it falls under before it leaves, and moves it to spent, at the real
cost, when it is settled. Which budgets hold a reservation stands on the call, so that recovery can move it too.
See docs/budgets.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, select

from orchestrator.config.budget import moment, set_in_store
from orchestrator.errors import BudgetExceeded, OrchestratorError, UnpricedCall
from orchestrator.records import Money
from orchestrator.store import budget_accounts, budget_limits, events
from orchestrator.store.entries import BudgetLine, CallIntent
from orchestrator.store.statements import Prepared, Raced, Transaction, among, chunks, insert, table
from orchestrator.store.tables import Budget

_budget = table(Budget)


def _reserving(dialect: str) -> Any:
    """One statement: make the row or add to it, and only where the sum stays within the limit."""
    fresh = insert(_budget, dialect)
    total = _budget.c.spent_nano + _budget.c.reserved_nano + fresh.excluded.reserved_nano
    return fresh.on_conflict_do_update(
        index_elements=["scope"],
        set_={"reserved_nano": _budget.c.reserved_nano + fresh.excluded.reserved_nano,
              "limit_nano": fresh.excluded.limit_nano, "soft_nano": fresh.excluded.soft_nano},
        where=(total <= fresh.excluded.limit_nano) & (_budget.c.currency == fresh.excluded.currency),
    )


_RESERVE = Prepared(
    ("scope", "currency", "limit_nano", "soft_nano", "spent_nano", "reserved_nano", "overrun_nano"), _reserving
)
_MOVE = Prepared(
    ("released", "moved", "over", "by_scope"),
    lambda _: _budget.update().where(_budget.c.scope == bindparam("by_scope")).values(
        reserved_nano=_budget.c.reserved_nano - bindparam("released"),
        spent_nano=_budget.c.spent_nano + bindparam("moved"),
        overrun_nano=_budget.c.overrun_nano + bindparam("over"),
    ),
)
_LOCKED = select(_budget).where(among(_budget.c.scope)).order_by(_budget.c.scope).with_for_update()
_NOT_OVERRUN = select(_budget.c.scope).where(among(_budget.c.scope), _budget.c.overrun_nano == 0)
_FIGURES = tuple(_budget.c[name] for name in (
    "scope", "currency", "limit_nano", "spent_nano", "reserved_nano", "soft_nano", "ends_at"
))
_PAST_SOFT = _budget.update().where(
    among(_budget.c.scope), _budget.c.warned_at.is_(None), _budget.c.spent_nano >= _budget.c.soft_nano
).values(warned_at=bindparam("now")).returning(*_FIGURES)
_REFUSED = _budget.update().where(
    among(_budget.c.scope), _budget.c.refused_at.is_(None)
).values(refused_at=bindparam("now")).returning(*_FIGURES)


@dataclass(slots=True)
class _Open:
    """A budget as this transaction sees it: what is committed, plus what it has reserved itself."""

    line: BudgetLine
    currency: str
    spent: int = 0
    reserved: int = 0
    wanted: int = 0
    used: bool = False
    refused: bool = False
    told: bool = False


# -- reserving ---------------------------------------------------------------------------------------------------------


def reserve(
    transaction: Transaction, intents: Sequence[CallIntent]
) -> tuple[list[OrchestratorError | None], list[tuple[BudgetLine, ...]]]:
    """Reserve each intent's bound in all of its budgets, or in none: then its place holds the refusal. Also returns
    the budgets of each: its own, and those that the store limits.

    The rows are read and weighed once for the whole group; the guard of the statement that writes is what holds the
    limit should another process have come between: then the group is taken again.
    """
    lines = budget_limits.lines(transaction, intents)
    if not any(lines):
        return [None] * len(intents), lines
    budgets = _opened(transaction, {line.scope: line for of_call in lines for line in of_call})
    results = [_weigh(intent, of_call, budgets) for intent, of_call in zip(intents, lines, strict=True)]
    rows = [
        (scope, b.currency, b.line.limit.nano, b.line.soft.nano if b.line.soft else None, 0, b.wanted, 0)
        for scope, b in sorted(budgets.items()) if b.used
    ]
    if transaction.many(_RESERVE, rows) != len(rows):
        raise Raced
    _tell_refused(transaction, intents[0].pipeline, budgets)
    return results, lines


def _opened(transaction: Transaction, lines: Mapping[str, BudgetLine]) -> dict[str, _Open]:
    """The accounts of `lines` by scope, locked, in one order for all processes."""
    if any(budget_accounts.is_shared(scope) for scope in lines):
        budget_accounts.hold(transaction)
    rows = {
        row.scope: row for some in chunks(sorted(lines)) for row in transaction.execute(_LOCKED, {"among": some})
    }
    budgets = {}
    for scope, line in sorted(lines.items()):
        if (row := rows.get(scope)) is not None:
            told = row.refused_at is not None
            budgets[scope] = _Open(line, row.currency, row.spent_nano, row.reserved_nano, told=told)
        elif line.covered is None:
            budgets[scope] = _Open(line, line.limit.currency)
        else:
            account = budget_accounts.opened(transaction, line)
            budgets[scope] = _Open(line, line.limit.currency, account.spent.nano, account.reserved.nano)
    return budgets


def _weigh(
    intent: CallIntent, lines: Sequence[BudgetLine], budgets: Mapping[str, _Open]
) -> OrchestratorError | None:
    if not lines:
        return None
    if intent.bound is None:
        return UnpricedCall(f"model {intent.model!r} has no price, and budget {lines[0].scope!r} applies")
    wanted = intent.bound.nano
    for line in lines:
        budget = budgets[line.scope]
        if budget.currency != line.limit.currency or intent.bound.currency != line.limit.currency:
            return BudgetExceeded(
                f"budget {line.scope!r} is kept in {budget.currency}, its limit is {line.limit} and the call is priced "
                f"in {intent.bound.currency}", hint="use one currency for the prices and the budget")
        if budget.spent + budget.reserved + wanted > line.limit.nano:
            for_now = budget.spent + wanted <= line.limit.nano
            budget.refused = budget.refused or not for_now
            return _exceeded(line, budget, intent.bound, for_now)
    for line in lines:
        budget = budgets[line.scope]
        budget.reserved += wanted
        budget.wanted += wanted
        budget.used = True
    return None


def _exceeded(line: BudgetLine, budget: _Open, wanted: Money, for_now: bool) -> BudgetExceeded:
    spent, reserved = (Money(nano=n, currency=budget.currency) for n in (budget.spent, budget.reserved))
    resets = f"; {moment(line.covered.until)}" if line.covered is not None else ""
    raised = "with `orchestrator budget set`" if set_in_store(line.scope) else "in `budget:` of the pipeline"
    wait = ", or wait until it resets" if line.covered is not None and line.covered.until is not None else ""
    return BudgetExceeded(
        f"budget {line.scope!r}: limit {line.limit}, spent {spent}, reserved {reserved}; this call may cost {wanted}"
        f"{resets}", hint=f"raise it {raised}{wait}", for_now=for_now, of_task=line.covered is None,
    )


# -- settling ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccountMove:
    """What the end of one call of `pipeline` does to one budget, in billionths."""

    scope: str
    released: int = 0
    spent: int = 0
    overrun: int = 0
    pipeline: str = ""


def move(transaction: Transaction, moves: Sequence[AccountMove]) -> None:
    """Release reservations and add what was spent: one update a budget. Warns where that passes a soft limit."""
    if not moves:
        return
    totals: dict[str, list[int]] = {}
    for one in moves:
        total = totals.setdefault(one.scope, [0, 0, 0])
        total[0] += one.released
        total[1] += one.spent
        total[2] += one.overrun
    shared = [scope for scope in sorted(totals) if budget_accounts.is_shared(scope)]
    if shared:
        budget_accounts.hold(transaction)
    overrun = _first_overrun(transaction, [scope for scope in shared if totals[scope][2]])
    transaction.many(_MOVE, [(*totals[scope], scope) for scope in sorted(totals)])
    pipelines = {one.scope: one.pipeline for one in moves}
    _tell_overrun(transaction, overrun, totals, pipelines)
    for some in chunks(shared):
        for row in transaction.execute(_PAST_SOFT, {"among": some, "now": transaction.now}):
            _tell(transaction, pipelines[row.scope], "budget_soft", f"{_figures(row)}: past the soft limit of "
                  f"{Money(nano=row.soft_nano, currency=row.currency)}")


def _first_overrun(transaction: Transaction, scopes: Sequence[str]) -> list[str]:
    return [row.scope for some in chunks(scopes) for row in transaction.execute(_NOT_OVERRUN, {"among": some})]


# -- telling people ----------------------------------------------------------------------------------------------------


def _tell_overrun(
    transaction: Transaction, scopes: Sequence[str], totals: Mapping[str, Sequence[int]], pipelines: Mapping[str, str]
) -> None:
    for scope in scopes:
        words = f"budget {scope!r}: a provider billed {totals[scope][2]} billionths more than a call's upper bound"
        _tell(transaction, pipelines[scope], "budget_overrun", words)


def _tell_refused(transaction: Transaction, pipeline: str, budgets: Mapping[str, _Open]) -> None:
    """The first time that a budget refuses a call, in its bucket."""
    refused = [scope for scope, b in budgets.items() if b.refused and not b.told and budget_accounts.is_shared(scope)]
    for some in chunks(sorted(refused)):
        for row in transaction.execute(_REFUSED, {"among": some, "now": transaction.now}):
            _tell(transaction, pipeline, "budget_refused", f"{_figures(row)}: refused a call for the first time")


def _tell(transaction: Transaction, pipeline: str, kind: str, words: str) -> None:
    events.record(transaction, pipeline, kind, words)
    transaction.warnings.append(words)


def _figures(row: Any) -> str:
    limit, spent, reserved = (
        Money(nano=nano, currency=row.currency) for nano in (row.limit_nano, row.spent_nano, row.reserved_nano)
    )
    return f"budget {row.scope!r}: limit {limit}, spent {spent}, reserved {reserved}, {moment(row.ends_at)}"
