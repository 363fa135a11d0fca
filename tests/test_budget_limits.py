"""Limits kept in the store: in force from the commit that sets them, with the past of the bucket counted."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.config.budget import Who, bucket, soft_of
from orchestrator.errors import BudgetExceeded, InputError, UnpricedCall
from orchestrator.records import Money
from orchestrator.store.budget_standings import BudgetStanding
from orchestrator.store.engine import Store
from orchestrator.store.entries import PriceRecord
from tests.stores import Clock, Opener, budget_of, claim, config, intent, line, settlement, usd

NOON = datetime(2026, 11, 22, 12, 30, tzinfo=UTC).timestamp()
ALL, ACME, DESK = Who("all"), Who("tenant", "acme & co: 1"), Who("cost_center", "CC")


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


async def limit(store: Store, who: Who, nano: int, span: Any = "day", soft: int | None = None) -> None:
    await store.set_budget(who, [(span, usd(nano), None if soft is None else usd(soft))], new=True)


async def spend(store: Store, call_id: str, nano: int, cost: int | None = None, **fields: Any) -> None:
    await store.intend(intent(call_id, bound=usd(nano), **fields))
    await end(store, call_id, nano if cost is None else cost)


async def end(store: Store, call_id: str, cost: int) -> None:
    await store.settle(settlement(call_id, cost=usd(cost), ended_at=store._clock()))


async def one(store: Store, who: Who = ALL, span: str = "day") -> BudgetStanding:
    (found,) = [one for one in await store.budgets() if (one.who, one.span) == (str(who), span)]
    return found


async def test_a_limit_of_the_store_holds_in_every_process_from_the_next_call_on(opened: Opener) -> None:
    ours, theirs = await opened(), await opened()
    await ours.intend(intent("k1", bound=usd(60)))
    await limit(theirs, ALL, 100)
    with pytest.raises(BudgetExceeded, match=r"'day:\*:2026-11-22': limit 0.0000001 USD, spent 0 USD, reserved 0."):
        await ours.intend(intent("k2", bound=usd(60)))
    await end(ours, "k1", 20)
    await ours.intend(intent("k3", bound=usd(80)))
    assert (await one(theirs)).left == usd(0)


async def test_a_refusal_says_when_the_budget_resets_and_where_to_raise_it(store: Store) -> None:
    for span, words in (("hour", "it resets at 2026-11-22 13:00 UTC"), ("day", "it resets at 2026-11-23 00:00 UTC"),
                        ("month", "it resets at 2026-12-01 00:00 UTC"), ("total", "it never resets")):
        await limit(store, ALL, 5, span)
        with pytest.raises(BudgetExceeded, match=words) as refused:
            await store.intend(intent(span, bound=usd(6)))
        assert "orchestrator budget set" in refused.value.hint
        await store.remove_budget(ALL, [span])


async def test_each_scope_counts_its_own_calls_only(store: Store) -> None:
    for who in (ACME, DESK, Who("pipeline", "p")):
        await limit(store, who, 100)
    await spend(store, "k1", 40, tenant=ACME.name)
    await spend(store, "k2", 50, cost_center="CC")
    await spend(store, "k3", 7, pipeline="q")
    assert [(await one(store, who)).spent.nano for who in (ACME, DESK, Who("pipeline", "p"))] == [40, 50, 90]
    with pytest.raises(BudgetExceeded, match="pipeline=p"):
        await store.intend(intent("k4", bound=usd(11)))
    await store.intend(intent("k5", bound=usd(60), pipeline="q", tenant=ACME.name))


async def test_what_was_spent_before_the_limit_was_set_counts(store: Store, clock: Clock) -> None:
    """Calls that ended, at their cost; lost ones at their bound; those in flight are held, and settle in it."""
    await store.record_config(config())
    await store.claim([claim("r1", tenant=ACME.name), claim("r2")])
    clock.now -= 86400
    await spend(store, "yesterday", 1000)
    clock.now += 86400
    await spend(store, "k1", 60, cost=45)
    await store.intend(intent("lost", bound=usd(30)))
    await store.settle(settlement(
        "lost", state="unsettled", cost=None, usage=None, provenance="unsettled", ended_at=clock.now
    ))
    await store.intend(intent("flying", bound=usd(20)))
    await spend(store, "another's", 500, run_id="r2")
    for who in (ACME, ALL, DESK):
        await limit(store, who, 10_000, "day")
        await limit(store, who, 10_000, "total")
    assert [(await one(store, ACME)).spent.nano, (await one(store, ACME)).reserved.nano] == [75, 20]
    await spend(store, "k2", 1, tenant=ACME.name, cost_center="CC")
    await end(store, "flying", 11)
    spent = {(s.who, s.span): (s.spent.nano, s.reserved.nano) for s in await store.budgets()}
    assert spent[str(ACME), "day"] == (75 + 11 + 1, 0)
    assert spent[str(ALL), "day"] == spent[str(DESK), "day"] == (75 + 11 + 1 + 500, 0)
    assert spent[str(ALL), "total"] == (75 + 11 + 1 + 500 + 1000, 0)


async def test_a_limit_removed_and_set_again_counts_what_was_spent_meanwhile(store: Store) -> None:
    await limit(store, ALL, 1000)
    await spend(store, "k1", 100)
    await store.intend(intent("flying", bound=usd(20)))
    assert await store.remove_budget(ALL, ["hour", "day"]) == ["day"]
    assert await store.budgets() == []
    await spend(store, "k2", 200)
    await limit(store, ALL, 1000)
    await spend(store, "k3", 0)
    assert (await one(store)).reserved == usd(20)
    await end(store, "flying", 5)
    assert ((await one(store)).spent, (await one(store)).reserved) == (usd(305), usd(0))


async def test_a_limit_lowered_below_what_is_spent_blocks_and_shows_nothing_left(store: Store) -> None:
    await limit(store, ALL, 1000)
    await spend(store, "k1", 100)
    await limit(store, ALL, 50)
    with pytest.raises(BudgetExceeded):
        await store.intend(intent("k2", bound=usd(1)))
    standing = await one(store)
    assert (standing.limit, standing.spent, standing.left, standing.state) == (usd(50), usd(100), usd(0), "spent")


async def test_a_new_day_begins_anew_and_a_call_is_spent_on_the_day_it_was_reserved(store: Store, clock: Clock) -> None:
    await limit(store, ALL, 100)
    await store.intend(intent("late", bound=usd(90)))
    clock.now = bucket("day", NOON).until or 0.0
    await store.intend(intent("early", bound=usd(95)))
    await end(store, "late", 70)
    today, yesterday = (await one(store)), budget_of(store, "day:*:2026-11-22")
    assert (today.bucket, today.spent, today.reserved) == ("2026-11-23", usd(0), usd(95))
    assert yesterday is not None
    assert (yesterday.spent, yesterday.reserved) == (usd(70), usd(0))


async def test_a_soft_limit_warns_once_a_bucket(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orchestrator.store.writer")
    await limit(store, ALL, 100, soft=80)
    await spend(store, "k1", 79)
    assert await _kinds(store) == ["budget_set"]
    await spend(store, "k2", 1)
    await spend(store, "k3", 1)
    assert await _kinds(store) == ["budget_set", "budget_soft"]
    (event,) = [e for e in await store.events("p") if e.kind == "budget_soft"]
    assert "past the soft limit of 0.00000008 USD" in event.detail
    assert [record.message for record in caplog.records] == [f"store {store.place.name}: {event.detail}"]
    assert (await one(store)).state == "past soft limit"
    clock.now += 86400
    await spend(store, "k4", 90)
    assert (await _kinds(store)).count("budget_soft") == 2


async def _kinds(store: Store) -> list[str]:
    return sorted(event.kind for event in await store.events())


async def test_the_first_refusal_and_the_first_overrun_are_told_once(store: Store) -> None:
    await limit(store, ALL, 100)
    for number in range(3):
        with pytest.raises(BudgetExceeded):
            await store.intend(intent(f"k{number}", bound=usd(101)))
    await spend(store, "k4", 10, cost=15)
    await spend(store, "k5", 10, cost=20)
    assert await _kinds(store) == ["budget_overrun", "budget_refused", "budget_set"]
    assert (await one(store)).overrun == usd(15)


async def test_a_call_without_a_price_is_refused_under_a_limit_of_the_store(store: Store) -> None:
    await limit(store, ALL, 100)
    with pytest.raises(UnpricedCall, match="'m' has no price"):
        await store.intend(intent("k1", bound=None))
    with pytest.raises(BudgetExceeded, match="in EUR"):
        await store.intend(intent("k2", bound=Money(nano=1, currency="EUR")))


async def test_a_call_is_reserved_in_file_and_store_budgets_together_or_in_none(store: Store) -> None:
    await limit(store, ALL, 100)
    await limit(store, ACME, 20)
    with pytest.raises(BudgetExceeded, match="tenant="):
        await store.intend(intent("k1", bound=usd(30), tenant=ACME.name, budgets=(line(1000),)))
    assert budget_of(store, line(1).scope) is None
    assert (await one(store)).reserved == usd(0)
    await store.intend(intent("k2", bound=usd(15), tenant=ACME.name, budgets=(line(1000),)))
    assert [one.reserved.nano for one in await store.budgets() if one.source == "store"] == [15, 15]
    budget = budget_of(store, line(1).scope)
    assert budget is not None
    assert budget.reserved == usd(15)


@pytest.mark.parametrize(
    ("who", "currency", "new", "words"),
    [
        (Who("tenant", "acme"), "USD", False, "the store has seen no tenant 'acme'"),
        (Who("pipeline", "q"), "USD", False, "seen no pipeline 'q'"),
        (Who("cost_center", "C"), "USD", False, "seen no cost center 'C'"),
        (ALL, "EUR", False, "priced in USD: a budget in EUR would refuse every one"),
        (Who("tenant", "acme"), "EUR", True, "priced in USD"),
    ],
)
async def test_a_wrong_limit_is_refused_and_changes_nothing(
    store: Store, who: Who, currency: str, new: bool, words: str
) -> None:
    await store.record_config(config())
    await store.claim([claim("r1", tenant=ACME.name)])
    price = PriceRecord(version="v", model="m", body_json='{"currency":"USD"}', created_at=1.0)
    await store.settle(settlement("k"), price)
    with pytest.raises(InputError, match=words):
        await store.set_budget(who, [("day", Money(nano=5, currency=currency), None)], new=new)
    assert (await store.budgets(), await store.events()) == ([], [])


async def test_limits_of_one_scope_are_in_one_currency_until_all_are_changed(store: Store) -> None:
    await limit(store, ALL, 5)
    await spend(store, "k1", 1)
    with pytest.raises(InputError, match="limits in EUR and USD"):
        await store.set_budget(ALL, [("month", Money(nano=5, currency="EUR"), None)])
    await store.set_budget(ALL, [("day", Money(nano=5, currency="EUR"), None)])
    assert [one.limit.currency for one in await store.budgets()] == ["EUR"]
    with pytest.raises(InputError, match="has no such limit"):
        await store.remove_budget(ALL, ["month"])


async def test_the_account_is_what_the_ledger_says_whenever_it_is_opened(store: Store) -> None:
    """Closed and opened again in mid-traffic: neither a cost nor a reservation is lost or counted twice."""
    await limit(store, ALL, 10**6)
    for turn in range(6):
        await asyncio.gather(*(store.intend(intent(f"{turn}-{i}", bound=usd(10 + i))) for i in range(6)))
        if turn % 2:
            await store.remove_budget(ALL, ["day"])
            await limit(store, ALL, 10**6)
        await asyncio.gather(*(end(store, f"{turn}-{i}", i) for i in range(3)))
    await store.intend(intent("last", bound=usd(1)))
    standing = await one(store)
    assert (standing.spent.nano, standing.reserved.nano) == (6 * (0 + 1 + 2), 6 * (13 + 14 + 15) + 1)


async def test_the_accounts_of_buckets_long_past_are_swept(store: Store, clock: Clock) -> None:
    for span in ("hour", "total"):
        await limit(store, ALL, 100, span)
    await spend(store, "k1", 10)
    clock.now += 36 * 86400.0
    assert await store.sweep() == 1
    assert budget_of(store, "hour:*:2026-11-22T12") is None
    assert (await one(store, ALL, "total")).spent == usd(10)


def test_a_soft_limit_rounds_down_to_a_billionth() -> None:
    from decimal import Decimal

    assert soft_of(usd(99), Decimal("0.333")) == usd(32)
    assert soft_of(usd(99), None) is None


async def test_a_budget_that_refused_says_so_and_in_how_many_buckets(store: Store, clock: Clock) -> None:
    await limit(store, ALL, 100)
    await limit(store, ACME, 100, "total")
    await store.set_budget(ALL, [("total", usd(10**9), None)])
    for _day in range(2):
        assert {found.state for found in await store.budgets()} == {"open"}
        for number in range(2):
            with pytest.raises(BudgetExceeded):
                await store.intend(intent(f"k{number}", bound=usd(101)))
        assert {(found.who, found.span): found.state for found in await store.budgets()} == {
            ("all", "day"): "refusing", ("all", "total"): "open", ("tenant:acme & co: 1", "total"): "open"}
        clock.now += 86400
    found = {(found.who, found.span): found.refused for found in await store.budgets()}
    assert found == {("all", "day"): 2, ("all", "total"): 0, ("tenant:acme & co: 1", "total"): 0}
