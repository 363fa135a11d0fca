"""Budgets: spent + reserved stays within the limit, whoever reserves, and every reservation ends as spending."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import BudgetExceeded, UnpricedCall
from orchestrator.records import Money
from orchestrator.store.engine import Store
from tests.stores import DAY, Opener, budget_of, calls_of, claim, ended, intent, line, settlement, usd


async def figures(store: Store, scope: str = DAY) -> tuple[int, int, int]:
    """(spent, reserved, overrun) of a budget."""
    budget = budget_of(store, scope)
    assert budget is not None
    return budget.spent.nano, budget.reserved.nano, budget.overrun.nano


async def test_a_call_reserves_its_bound_and_settles_to_its_cost(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(60), budgets=(line(100),)))
    assert await figures(store) == (0, 60, 0)
    await store.settle(settlement("k1", cost=usd(45)))
    assert await figures(store) == (45, 0, 0)
    await store.settle(settlement("k1", cost=usd(45)))
    assert await figures(store) == (45, 0, 0), "settled twice"


async def test_a_reservation_that_does_not_fit_is_refused_in_figures(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(2_000_000_000), budgets=(line(5_000_000_000),)))
    await store.settle(settlement("k1", cost=usd(1_000_000_000)))
    await store.intend(intent("k2", bound=usd(3_000_000_000), budgets=(line(5_000_000_000),)))
    with pytest.raises(BudgetExceeded) as refused:
        await store.intend(intent("k3", bound=usd(1_500_000_000), budgets=(line(5_000_000_000),)))
    for words in (repr(DAY), "limit 5 USD", "spent 1 USD", "reserved 3 USD", "may cost 1.5 USD"):
        assert words in str(refused.value)
    assert [c.call_id for c in calls_of(store, "r1")] == ["k1", "k2"], "a refused call left an intent"


async def test_a_budget_can_be_spent_to_its_last_billionth(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(100), budgets=(line(100),)))
    with pytest.raises(BudgetExceeded):
        await store.intend(intent("k2", bound=usd(1), budgets=(line(100),)))


async def test_all_budgets_of_a_call_are_reserved_or_none(store: Store) -> None:
    wide, narrow = line(100), line(20, "task:r1")
    with pytest.raises(BudgetExceeded, match="task:r1"):
        await store.intend(intent("k1", bound=usd(30), budgets=(wide, narrow)))
    assert budget_of(store, DAY) is None
    await store.intend(intent("k2", bound=usd(10), budgets=(wide, narrow)))
    assert await figures(store) == await figures(store, "task:r1") == (0, 10, 0)


async def test_one_commit_lets_in_only_what_fits_together(store: Store) -> None:
    results = await asyncio.gather(
        *(store.intend(intent(f"k{i}", bound=usd(30), budgets=(line(100),))) for i in range(5)), return_exceptions=True
    )
    assert [type(r) for r in results] == [type(None)] * 3 + [BudgetExceeded] * 2
    assert await figures(store) == (0, 90, 0)


async def test_an_unknown_cost_counts_as_its_bound(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(60), budgets=(line(100),)))
    await store.settle(settlement("k1", state="unsettled", cost=None, usage=None, provenance="unsettled"))
    assert await figures(store) == (60, 0, 0)


async def test_a_cost_in_another_currency_counts_as_its_bound(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(60), budgets=(line(100),)))
    await store.settle(settlement("k1", cost=Money(nano=1, currency="EUR")))
    assert await figures(store) == (60, 0, 0)


async def test_a_bill_above_the_bound_is_recorded_and_blocks_what_follows(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(60), budgets=(line(100),)))
    await store.settle(settlement("k1", cost=usd(130)))
    assert await figures(store) == (130, 0, 70)
    with pytest.raises(BudgetExceeded):
        await store.intend(intent("k2", bound=usd(1), budgets=(line(100),)))


async def test_a_raised_limit_counts_at_once(store: Store) -> None:
    await store.intend(intent("k1", bound=usd(60), budgets=(line(60),)))
    await store.intend(intent("k2", bound=usd(60), budgets=(line(120),)))
    budget = budget_of(store, DAY)
    assert budget is not None
    assert (budget.limit, budget.reserved) == (usd(120), usd(120))


async def test_a_call_without_a_price_or_in_another_currency_is_refused_under_a_budget(store: Store) -> None:
    with pytest.raises(UnpricedCall, match="'m' has no price"):
        await store.intend(intent("k1", bound=None, budgets=(line(100),)))
    with pytest.raises(BudgetExceeded, match="EUR"):
        await store.intend(intent("k2", bound=usd(1), budgets=(line(100, currency="EUR"),)))
    await store.intend(intent("k3", bound=usd(1), budgets=(line(100),)))
    with pytest.raises(BudgetExceeded, match="kept in USD"):
        await store.intend(intent("k4", bound=Money(nano=1, currency="EUR"), budgets=(line(100, currency="EUR"),)))
    assert await figures(store) == (0, 1, 0)


async def test_a_task_budget_goes_with_its_finished_run(store: Store) -> None:
    await store.claim([claim("r1"), claim("r2")])
    for run_id in ("r1", "r2"):
        await store.intend(intent(f"k of {run_id}", run_id, budgets=(line(100), line(100, f"task:{run_id}"))))
        await store.settle(settlement(f"k of {run_id}"))
    await store.finish([ended("r1")])
    await store.sweep()
    assert budget_of(store, "task:r1") is None
    assert budget_of(store, "task:r2") is not None
    assert await figures(store) == (8, 0, 0)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(st.integers(0, 60), st.none() | st.integers(0, 60), st.booleans()), max_size=12))
async def test_the_books_balance_after_any_sequence(store: Store, calls: list[tuple[int, int | None, bool]]) -> None:
    """Against a plain model: some calls are settled, with a known cost or not, some stay open, some are refused."""
    scope = f"day:p:{id(calls)}-{len(calls)}-{hash(tuple(calls))}"
    before = budget_of(store, scope)
    if before is not None:
        return  # this very sequence was played before
    spent = reserved = 0
    for i, (bound, cost, settled) in enumerate(calls):
        call_id = f"{scope} {i}"
        try:
            await store.intend(intent(call_id, bound=usd(bound), budgets=(line(100, scope),)))
        except BudgetExceeded:
            assert spent + reserved + bound > 100
            continue
        assert spent + reserved + bound <= 100
        if settled:
            await store.settle(settlement(call_id, cost=None if cost is None else usd(cost)))
            spent += bound if cost is None else cost
        else:
            reserved += bound
        assert (await figures(store, scope))[:2] == (spent, reserved)


async def test_threads_with_stores_of_their_own_never_overspend(opened: Opener, url: str) -> None:
    """Eight event loops, each an owner, all reserving in the same budget from a common start."""
    start, passed = threading.Barrier(8), []

    async def reserve(number: int) -> None:
        store = await Store.open(url)
        start.wait(300)
        tries = (store.intend(intent(f"{number}-{i}", bound=usd(7), budgets=(line(200),))) for i in range(10))
        results = await asyncio.gather(*tries, return_exceptions=True)
        passed.append(sum(r is None for r in results))
        assert all(r is None or isinstance(r, BudgetExceeded) for r in results)
        await store.aclose()

    watching = await opened()
    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(asyncio.run, reserve(number)) for number in range(8)]
    assert [one.result() for one in done] == [None] * 8
    assert sum(passed) == 200 // 7
    spent, reserved, overrun = await figures(watching)
    assert (spent + reserved, overrun) == (200 // 7 * 7, 0), "what their owners left open counts as spent"


async def test_processes_never_overspend(opened: Opener, url: str) -> None:
    watching = await opened()
    workers = [_spender(url) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        passed = [int(worker.stdout.readline()) for worker in workers]
        assert [worker.wait(300) for worker in workers] == [0, 0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert sum(passed) == 1000 // 9
    spent, reserved, _ = await figures(watching)
    assert spent + reserved == 1000 // 9 * 9


def _spender(url: str) -> subprocess.Popen[Any]:
    command = [sys.executable, "-m", "tests.store_worker", "spend", url, "1000", "9"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
