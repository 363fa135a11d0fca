"""Records of the store for tests, with sensible defaults; the stores themselves are in `conftest`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from orchestrator.records import Answer, Call, Money, Usage
from orchestrator.store import calls
from orchestrator.store.budget_accounts import StoredBudget, stored
from orchestrator.store.engine import Store
from orchestrator.store.entries import (
    AnswerKeep,
    BudgetLine,
    CallIntent,
    CallSettlement,
    ConfigEntry,
    OutcomeEntry,
    RunClaim,
    StepEntry,
)
from orchestrator.store.statements import table
from orchestrator.store.tables import Budget

DAY = "day:p:2026-11-22"
Opener = Callable[..., Awaitable[Store]]


@dataclass
class Clock:
    """Stands still until told otherwise."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def usd(nano: int) -> Money:
    return Money(nano=nano)


def config(config_id: str = "c1", pipeline: str = "p") -> ConfigEntry:
    return ConfigEntry(
        config_id=config_id, pipeline=pipeline, version="1", owner="desk", cost_center="CC", mode="cascade",
        body_json="{}", created_at=1.0,
    )


def claim(run_id: str = "r1", **fields: Any) -> RunClaim:
    return RunClaim(**{
        "run_id": run_id, "pipeline": "p", "tenant": "", "task_key": f"key of {run_id}", "task_digest": "d",
        "config_id": "c1", "content": b'{"text":"two blue widgets"}', **fields,
    })


def line(limit: int, scope: str = DAY, currency: str = "USD") -> BudgetLine:
    return BudgetLine(scope=scope, limit=Money(nano=limit, currency=currency))


def intent(call_id: str = "k1", run_id: str = "r1", **fields: Any) -> CallIntent:
    return CallIntent(**{
        "call_id": call_id, "run_id": run_id, "pipeline": "p", "step": "extract", "role": "draft", "attempt": 1,
        "sample": 0, "model": "m", "provider": "vllm", "endpoint": "e", "request_key": "q", "bound": usd(10),
        "budget_day": "2026-11-22", **fields,
    })


def answer(text: str = "blue") -> Answer:
    return Answer(text=text, finish_reason="stop", usage=Usage(input=7, output=3), model="m")


def settlement(call_id: str = "k1", **fields: Any) -> CallSettlement:
    return CallSettlement(**{
        "call_id": call_id, "state": "settled", "ended_at": 5.0, "usage": Usage(input=7, output=3), "cost": usd(4),
        "provenance": "priced", "finish_reason": "stop", **fields,
    })


def kept(memo_key: str = "q", *, tenant: str = "", text: str = "blue", expires_at: float | None = None) -> AnswerKeep:
    return AnswerKeep(tenant=tenant, memo_key=memo_key, answer=answer(text), expires_at=expires_at)


def ended(run_id: str = "r1", **fields: Any) -> OutcomeEntry:
    return OutcomeEntry(**{
        "run_id": run_id, "pipeline": "p", "tenant": "", "config_id": "c1", "status": "accepted", "ended_at": 6.0,
        "steps": (StepEntry(step="extract", status="accepted", explanation="blue is fine"),),
        "contents": (("value", b'{"colour":"blue"}'),), **fields,
    })


async def run_to_the_end(store: Store, run_id: str = "r1", *, memo_key: str | None = None, **fields: Any) -> None:
    """A run with one call, from claim to outcome."""
    call_id = f"k of {run_id}"
    await store.claim([claim(run_id, tenant=fields.get("tenant", ""))])
    await store.intend(intent(call_id, run_id, budgets=fields.pop("budgets", ())))
    keep = kept(memo_key or f"q of {run_id}", tenant=fields.get("tenant", ""))
    await store.settle(settlement(call_id, keep=keep))
    await store.finish([ended(run_id, **fields)])


def calls_of(store: Store, run_id: str) -> list[Call]:
    """The calls of a run, in the order they left; whether it has ended or not."""
    with store.read() as connection:
        return calls.calls_of(connection, [run_id])[run_id]


def budget_of(store: Store, scope: str) -> StoredBudget | None:
    """One budget as it stands, None where its account is not open."""
    with store.read() as connection:
        row = connection.execute(select(table(Budget)).where(table(Budget).c.scope == scope)).one_or_none()
    return None if row is None else stored(row)
