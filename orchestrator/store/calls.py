"""Calls: the intent, durable before a request leaves; the settlement, durable before anything leaves that rests on it.

**A call is settled once.** A second settlement changes nothing; the one exception is a call that recovery had given
up although its owner lived: what its owner then learns replaces the guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.errors import OrchestratorError
from orchestrator.records import TOKEN_CLASSES, Call, Money, Usage
from orchestrator.store import answers, budgets, lines
from orchestrator.store.entries import BudgetLine, CallIntent, CallSettlement
from orchestrator.store.leases import RECOVERED
from orchestrator.store.settlements import end, whole
from orchestrator.store.statements import Row, Transaction, among, chunks, inserting, table
from orchestrator.store.tables import CallRow

_call = table(CallRow)
_INTENT = inserting(
    CallRow, "call_id", "run_id", "pipeline", "step", "role", "attempt", "sample", "model", "provider", "endpoint",
    "request_key", "owner_id", "state", "started_at", "bound_nano", "bound_currency", "budget_day", "scopes", "account",
)
_TO_SETTLE = select(_call).where(among(_call.c.call_id)).order_by(_call.c.call_id).with_for_update()
_NONE_USED = tuple(None if name in ("input_audio", "cache_write_1h", "output_audio") else 0 for name in TOKEN_CLASSES)
"""The rare classes are NULL where they are 0, which costs no byte."""
_OF_RUNS = select(_call).where(among(_call.c.run_id)).order_by(_call.c.started_at, _call.c.call_id)


def intend(transaction: Transaction, intents: Sequence[CallIntent]) -> list[OrchestratorError | None]:
    """Write the intents whose reservations fit; the others are refused with BudgetExceeded."""
    refusals, held = budgets.reserve(transaction, intents)
    fit = [(i, of_call) for i, of_call, refusal in zip(intents, held, refusals, strict=True) if refusal is None]
    transaction.many(_INTENT, [_intent_row(transaction, i, of_call) for i, of_call in fit])
    return refusals


def _intent_row(transaction: Transaction, i: CallIntent, held: Sequence[BudgetLine]) -> Row:
    bound = (i.bound.nano, i.bound.currency) if i.bound is not None else (None, None)
    scopes = " ".join(line.scope for line in held) or None
    return (
        i.call_id, i.run_id, i.pipeline, i.step, i.role, i.attempt, i.sample, i.model, i.provider, i.endpoint,
        i.request_key, transaction.owner_id, "intent", transaction.now, *bound, i.budget_day, scopes, i.account,
    )


def settle(transaction: Transaction, settlements: Sequence[CallSettlement]) -> list[None]:
    """Record what came back, move the reservations, and keep the answers: all of it in the one commit."""
    first = {s.call_id: s for s in reversed(settlements)}
    opened = [(first[row.call_id], row) for row in _still_open(transaction, sorted(first))]
    lines.count(transaction, opened)
    end(transaction, [(row, _settled_values(s, row), s.error) for s, row in opened])
    budgets.move(transaction, [move for s, row in opened if row.scopes for move in _moves(s, row)])
    answers.keep(transaction, [(s, row) for s, row in opened if s.keep is not None])
    return [None] * len(settlements)


def _still_open(transaction: Transaction, call_ids: Sequence[str]) -> list[Any]:
    """The calls among `call_ids` that wait for a settlement, locked."""
    rows = [row for some in chunks(call_ids) for row in whole(transaction.rows(_TO_SETTLE, {"among": some}))]
    return [row for row in rows if row.state == "intent" or (row.state == "unsettled" and row.error == RECOVERED)]


def _settled_values(s: CallSettlement, row: Any) -> Row:
    """In the order of `seals.SETTLEMENT`."""
    tokens: Sequence[int | None] = lines.NO_TOKENS
    if s.usage is not None:
        tokens = [n or none for n, none in zip(lines.tokens_of(s.usage), _NONE_USED, strict=True)]
    cost = (s.cost.nano, s.cost.currency) if s.cost is not None else (None, None)
    answered = s.model_answered if s.model_answered != row.model else None
    return (
        s.state, answered, s.response_id, s.finish_reason, *tokens, s.tier, *cost, s.price_version, s.provenance,
        s.latency_ms, s.ended_at,
    )


def _moves(s: CallSettlement, row: Any) -> list[budgets.AccountMove]:
    """Where the cost is not known, or is billed in another currency, the bound is what was spent."""
    bound = row.bound_nano
    known = s.cost is not None and s.cost.currency == row.bound_currency
    spent = s.cost.nano if s.cost is not None and known else bound
    held, counted = (bound, 0) if row.state == "intent" else (0, bound)  # recovery has counted the bound already
    return [
        budgets.AccountMove(
            scope, released=held, spent=spent - counted, overrun=max(0, spent - bound), pipeline=row.pipeline
        )
        for scope in row.scopes.split()
    ]


def calls_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[Call]]:
    """The calls of each run, in the order they left."""
    calls: dict[str, list[Call]] = {run_id: [] for run_id in run_ids}
    for some in chunks(run_ids):
        for row in connection.execute(_OF_RUNS, {"among": some}):
            calls[row.run_id].append(_call_record(row))
    return calls


def _call_record(row: Any) -> Call:
    usage = None
    if row.input_tokens is not None:
        usage = usage_of(row)
    return Call(
        call_id=row.call_id, run_id=row.run_id, step=row.step, role=row.role, model=row.model_answered or row.model,
        attempt=row.attempt, sample=row.sample, usage=usage, cost=money(row.cost_nano, row.currency),
        provenance=row.provenance or "unsettled", state=row.state, latency_ms=row.latency_ms or 0.0, error=row.error,
    )


def usage_of(row: Any) -> Usage:
    """The usage that a row of `call` holds."""
    tokens = {name: getattr(row, f"{name}_tokens") or 0 for name in TOKEN_CLASSES}
    return Usage(**tokens, estimated=row.provenance == "estimated")


def money(nano: int | None, currency: str | None) -> Money | None:
    return None if nano is None or currency is None else Money(nano=nano, currency=currency)
