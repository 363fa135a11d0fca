"""Limits that the store keeps for every process: set and removed here, read by whoever reserves.

**A limit holds from the commit that sets it**: every later reservation reads it in its own transaction. On PostgreSQL
setting one waits for the transactions that have read the limits before, and lets none read until it is done.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, select

from orchestrator.config.budget import Bucket, Span, Who, bucket, who_of, whose
from orchestrator.errors import InputError
from orchestrator.records import Money
from orchestrator.store import budget_accounts, events
from orchestrator.store.budget_tables import BudgetLimit
from orchestrator.store.entries import BudgetLine, CallIntent, Covered
from orchestrator.store.statements import Transaction, chunks, insert, table
from orchestrator.store.tables import Budget, Config, Price, Run

_limit, _budget = table(BudgetLimit), table(Budget)
_run, _config, _price = table(Run), table(Config), table(Price)


def lines(transaction: Transaction, intents: Sequence[CallIntent]) -> list[tuple[BudgetLine, ...]]:
    """The budgets of each intent: its own, and those that the store limits. One look-up for the whole group."""
    named = [whose(intent.pipeline, intent.tenant, intent.cost_center) for intent in intents]
    limits = _in_force(transaction, sorted({key for keys in named for key in keys}))
    if not limits:
        return [intent.budgets for intent in intents]
    found = {key: [line_of(row, bucket(row.span, transaction.now)) for row in rows] for key, rows in limits.items()}
    return [
        (*intent.budgets, *(line for key in keys for line in found.get(key, ())))
        for intent, keys in zip(intents, named, strict=True)
    ]


def _in_force(transaction: Transaction, keys: Sequence[str]) -> dict[str, list[Any]]:
    """Limits by whom they are for. Written as SQL: SQLAlchemy's own IN costs more than the look-up."""
    mark = "%s" if transaction.dialect == "postgresql" else "?"
    limits: dict[str, list[Any]] = {}
    for some in chunks(keys):
        marks = ", ".join([mark] * len(some))
        for row in transaction.connection.exec_driver_sql(
            f"SELECT who, span, currency, limit_nano, soft_nano FROM budget_limit WHERE who IN ({marks})", tuple(some)
        ):
            limits.setdefault(row.who, []).append(row)
    return limits


def line_of(row: Any, span: Bucket) -> BudgetLine:
    """The budget that a row of `budget_limit` sets in a bucket."""
    who = who_of(row.who)
    named = {} if who.kind == "all" else {who.kind: who.name}
    return BudgetLine(
        scope=span.scope(row.who), limit=Money(nano=row.limit_nano, currency=row.currency),
        soft=None if row.soft_nano is None else Money(nano=row.soft_nano, currency=row.currency),
        covered=Covered(since=span.since, until=span.until, **named),
    )


def listed(connection: Connection) -> list[Any]:
    return list(connection.execute(select(_limit).order_by(_limit.c.who, _limit.c.span)))


def set_limits(transaction: Transaction, who: Who, limits: Sequence[tuple[Span, Money, Money | None]]) -> None:
    """Set (span, limit, soft) for `who`. Raises InputError, before anything is written, where another limit of `who`
    is in another currency."""
    _alone(transaction)
    _one_currency(transaction, who, {limit.currency for _, limit, _ in limits}, [span for span, _, _ in limits])
    for span, limit, soft in limits:
        fresh = insert(_limit, transaction.dialect).values(
            who=who.key, span=span, currency=limit.currency, limit_nano=limit.nano,
            soft_nano=soft.nano if soft else None, set_at=transaction.now,
        )
        changed = {name: fresh.excluded[name] for name in ("currency", "limit_nano", "soft_nano", "set_at")}
        transaction.execute(fresh.on_conflict_do_update(index_elements=["who", "span"], set_=changed))
        accounts = _accounts(who, span)
        transaction.execute(_budget.delete().where(accounts, _budget.c.currency != limit.currency))
        transaction.execute(_budget.update().where(accounts).values(warned_at=None, refused_at=None))
        warned = f", a warning from {soft}" if soft else ""
        events.record(transaction, _pipeline(who), "budget_set", f"{who}, {span}: {limit}{warned}")


def remove_limits(transaction: Transaction, who: Who, spans: Sequence[Span]) -> list[Span]:
    """Remove the limits of `who` in `spans`, with their accounts, which the ledger can open again. Returns those there
    were; raises InputError where there is none."""
    _alone(transaction)
    removed = [span for span in spans if transaction.execute(
        _limit.delete().where(_limit.c.who == who.key, _limit.c.span == span)
    ).rowcount]
    if not removed:
        raise InputError(f"{str(who)!r} has no such limit in the store", hint="see `orchestrator budget show`")
    for span in removed:
        transaction.execute(_budget.delete().where(_accounts(who, span)))
        events.record(transaction, _pipeline(who), "budget_removed", f"{who}, {span}")
    return removed


def _alone(transaction: Transaction) -> None:
    if transaction.dialect == "postgresql":
        transaction.connection.exec_driver_sql("LOCK TABLE budget_limit IN ACCESS EXCLUSIVE MODE")
    budget_accounts.hold(transaction)


def _accounts(who: Who, span: Span) -> ColumnElement[bool]:
    scope = f"{span}:{who.key}"
    return _budget.c.scope.startswith(f"{scope}:", autoescape=True) | (_budget.c.scope == scope)


def _one_currency(transaction: Transaction, who: Who, currencies: set[str], spans: Sequence[Span]) -> None:
    kept = select(_limit.c.currency).where(_limit.c.who == who.key, _limit.c.span.not_in(spans))
    several = sorted(currencies | set(transaction.execute(kept).scalars()))
    if len(several) > 1:
        raise InputError(f"{str(who)!r} would have limits in {' and '.join(several)}: every call would be refused",
                         hint="`orchestrator budget remove` takes the others away")


def _pipeline(who: Who) -> str:
    return who.name if who.kind == "pipeline" else ""


# -- what the store has seen -------------------------------------------------------------------------------------------


def check(connection: Connection, who: Who, currency: str, new: bool) -> None:
    """Raises InputError for one that the store has never seen (unless `new`), and for a currency without a price."""
    if not new:
        _check_known(connection, who)
    bodies = connection.execute(select(_price.c.body_json)).scalars()
    priced = {str(orjson.loads(body).get("currency", "USD")) for body in bodies}
    if priced and currency not in priced:
        raise InputError(
            f"the calls in this store are priced in {' and '.join(sorted(priced))}: a budget in {currency} would "
            "refuse every one", hint="give the limit in the currency of the prices",
        )


def _check_known(connection: Connection, who: Who) -> None:
    if who.kind == "all":
        return
    column = _run.c.tenant if who.kind == "tenant" else _config.c[who.kind]
    if connection.execute(select(column).where(column == who.name).limit(1)).first() is not None:
        return
    near = difflib.get_close_matches(who.name, connection.execute(select(column).distinct().limit(1000)).scalars(), n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"the store has seen no {who.kind.replace('_', ' ')} {who.name!r}",
                     hint=f"{meant}give --new to limit one that is yet to come")
