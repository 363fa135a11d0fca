"""What is PostgreSQL's own. The store's other tests run over both databases."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from sqlalchemy import text

from orchestrator.errors import BudgetExceeded
from orchestrator.store.engine import Store
from tests.stores import DAY, Clock, budget_of, calls_of, claim, intent, line, settlement, usd


def scalar(store: Store, statement: str) -> Any:
    with store._writing.begin() as connection:
        return connection.execute(text(statement)).scalar()


async def test_commits_are_durable_whatever_the_server_says(postgres_url: str) -> None:
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = await Store.open(postgres_url)
    assert scalar(store, "SHOW synchronous_commit") == "on"
    await store.aclose()


async def test_a_lost_connection_is_made_again_and_nothing_is_written_twice(postgres_url: str) -> None:
    store = await Store.open(postgres_url)
    await store.intend(intent("k1", budgets=(line(100),)))
    killed = "SELECT count(pg_terminate_backend(pid, 30000)) FROM pg_stat_activity WHERE pid != pg_backend_pid() " \
        "AND datname = current_database()"
    assert scalar(store, killed) > 0
    await asyncio.gather(store.settle(settlement("k1")), store.intend(intent("k2", budgets=(line(100),))))
    assert [(c.call_id, c.state) for c in calls_of(store, "r1")] == [("k1", "settled"), ("k2", "intent")]
    budget = budget_of(store, DAY)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (usd(4), usd(10))
    await store.aclose()


async def test_an_opening_that_is_ended_to_break_a_deadlock_is_tried_again(postgres_url: str) -> None:
    """It recovers a lapsed owner: first its row, then its calls. Somebody has them the other way round."""
    import psycopg

    lapsed = await Store.open(postgres_url, clock=Clock(0.0), lease_s=3600)
    await lapsed.intend(intent("k1"))
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def meet(other: psycopg.Connection[Any], watching: psycopg.Connection[Any]) -> None:
        pause = threading.Event()
        while not watching.execute(waiting).rowcount:
            pause.wait(0.01)
        other.execute("UPDATE owner SET sealed = 0 WHERE owner_id = %s", [lapsed.owner_id])
        other.rollback()

    with psycopg.connect(postgres_url) as other, psycopg.connect(postgres_url, autocommit=True) as watching:
        other.execute("SET deadlock_timeout = '20s'")  # so that the other side finds out, and is the one to be ended
        other.execute("SELECT FROM call WHERE call_id = 'k1' FOR UPDATE")
        store, _ = await asyncio.gather(Store.open(postgres_url), asyncio.to_thread(meet, other, watching))
    assert [c.state for c in calls_of(store, "r1")] == ["unsettled"]
    await store.aclose()
    await lapsed.aclose()


async def test_two_owners_that_make_the_same_budget_at_once_share_it(postgres_url: str) -> None:
    """Neither sees a row to lock: the guard of the statement decides, and the loser looks again."""
    stores = [await Store.open(postgres_url) for _ in range(2)]
    for turn in range(20):
        scope = f"day:p:{turn}"
        results = await asyncio.gather(*(
            store.intend(intent(f"{turn}-{store.owner_id}", bound=usd(60), budgets=(line(100, scope),)))
            for store in stores
        ), return_exceptions=True)
        assert sorted(type(r).__name__ for r in results) == [BudgetExceeded.__name__, "NoneType"]
        budget = budget_of(stores[0], scope)
        assert budget is not None
        assert budget.reserved == usd(60)
    for store in stores:
        await store.aclose()


async def test_two_owners_that_claim_the_same_new_tasks_at_once_share_them(postgres_url: str) -> None:
    stores = [await Store.open(postgres_url) for _ in range(2)]
    for turn in range(10):
        claimed = await asyncio.gather(*(
            store.claim([claim(f"{turn}-{i}-{store.owner_id}", task_key=f"{turn}-{i}") for i in range(5)])
            for store in stores
        ))
        for ours, theirs in zip(*claimed, strict=True):
            assert {ours.kind, theirs.kind} == {"new", "busy"}
            assert ours.run_id == theirs.run_id
    for store in stores:
        await store.aclose()


async def test_owners_that_settle_in_opposite_order_do_not_deadlock(postgres_url: str) -> None:
    stores = [await Store.open(postgres_url) for _ in range(2)]
    scopes = [f"day:p:{i}" for i in range(6)]
    for turn in range(10):
        await asyncio.gather(*(
            store.intend(intent(f"{turn}-{scope}-{store.owner_id}", bound=usd(1), budgets=(line(10**9, scope),)))
            for store, order in zip(stores, (scopes, scopes[::-1]), strict=True) for scope in order
        ))
        await asyncio.gather(*(
            store.settle(settlement(f"{turn}-{scope}-{store.owner_id}", cost=usd(1)))
            for store, order in zip(stores, (scopes[::-1], scopes), strict=True) for scope in order
        ))
    for scope in scopes:
        budget = budget_of(stores[0], scope)
        assert budget is not None
        assert (budget.spent, budget.reserved) == (usd(20), usd(0))
    for store in stores:
        await store.aclose()
