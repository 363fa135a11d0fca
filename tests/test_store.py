"""Runs, calls, answers and outcomes, over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from orchestrator.errors import StoreError
from orchestrator.records import Answer, Money, TokenLogprobs, Usage
from orchestrator.store.answers import pack, unpack
from orchestrator.store.engine import Store
from orchestrator.store.entries import StepEntry
from orchestrator.store.statements import table
from orchestrator.store.tables import Config, Run
from tests.stores import (
    Clock,
    Opener,
    calls_of,
    claim,
    config,
    ended,
    intent,
    kept,
    run_to_the_end,
    settlement,
    usd,
)


async def kinds(store: Store, *claims: object) -> list[str]:
    return [one.kind for one in await store.claim(claims)]  # type: ignore[arg-type]


def run_of(store: Store, run_id: str) -> Any:
    with store.read() as connection:
        return connection.execute(select(table(Run)).where(table(Run).c.run_id == run_id)).one()


# -- runs --------------------------------------------------------------------------------------------------------------


async def test_a_new_task_is_claimed_and_an_open_one_of_ours_is_resumed(store: Store) -> None:
    assert await kinds(store, claim("r1"), claim("r2")) == ["new", "new"]
    again = (await store.claim([claim("r9", task_key="key of r1")]))[0]
    assert (again.kind, again.run_id) == ("resumed", "r1")


async def test_a_finished_task_comes_back_with_its_outcome(store: Store) -> None:
    await run_to_the_end(store)
    done = (await store.claim([claim("r9", task_key="key of r1")]))[0]
    assert done.kind == "done"
    assert done.run_id == "r1"
    assert done.outcome is not None
    assert done.outcome.value == {"colour": "blue"}


async def test_the_same_id_with_other_content_is_a_conflict_even_when_done(store: Store) -> None:
    await run_to_the_end(store)
    assert await kinds(store, claim("r9", task_key="key of r1", task_digest="other")) == ["conflict"]


async def test_a_task_handed_in_twice_in_one_group_is_one_run(store: Store) -> None:
    first, same, other = await store.claim([
        claim("r1"), claim("r2", task_key="key of r1"), claim("r3", task_key="key of r1", task_digest="x")])
    assert (first.kind, same.kind, other.kind) == ("new", "resumed", "conflict")
    assert same.run_id == "r1"


async def test_tenants_and_pipelines_do_not_share_task_keys(store: Store) -> None:
    places = [("", "p"), ("t", "p"), ("", "q")]
    claims = [claim(f"r{i}", task_key="k", tenant=tenant, pipeline=p) for i, (tenant, p) in enumerate(places)]
    assert await kinds(store, *claims) == ["new", "new", "new"]


async def test_an_open_run_of_a_live_process_is_busy_and_of_a_lapsed_one_is_taken(opened: Opener, clock: Clock) -> None:
    theirs, ours = await opened(lease_s=30.0), await opened(lease_s=3600.0)
    await theirs.claim([claim("r1")])
    assert await kinds(ours, claim("r1")) == ["busy"]
    clock.now += 31
    assert await kinds(ours, claim("r1")) == ["resumed"]
    assert run_of(ours, "r1").owner_id == ours.owner_id


async def test_an_owner_that_closed_its_store_leaves_its_open_runs(opened: Opener, url: str, clock: Clock) -> None:
    ours = await opened()
    theirs = await Store.open(url, clock=clock)
    await theirs.claim([claim("r1")])
    await theirs.aclose()
    assert await kinds(ours, claim("r1")) == ["resumed"]


async def test_a_changed_configuration_leaves_a_strict_claim_untouched(store: Store) -> None:
    await store.claim([claim("r1")])
    assert await kinds(store, claim("r1", config_id="c2", config_strict=True)) == ["config_changed"]
    assert run_of(store, "r1").config_id == "c1"
    assert await kinds(store, claim("r1", config_id="c2")) == ["resumed"]
    assert run_of(store, "r1").config_id == "c2"


async def test_a_configuration_is_recorded_once(store: Store) -> None:
    await asyncio.gather(*(store.record_config(config()) for _ in range(3)))
    with store.read() as connection:
        assert connection.execute(select(func.count()).select_from(table(Config))).scalar_one() == 1


async def test_digests_are_keyed_by_the_store(opened: Opener, url: str) -> None:
    store, same, other = await opened(), await opened(), await opened("memory:")
    assert store.digest(b"x") == same.digest(b"x") != store.digest(b"y")
    assert store.digest(b"x").startswith("b2:")
    assert store.digest(b"x") != other.digest(b"x")


# -- calls and answers -------------------------------------------------------------------------------------------------


async def test_an_intent_can_be_read_by_others_once_it_returns(opened: Opener) -> None:
    store, other = await opened(), await opened()
    await store.intend(intent("k1"))
    assert [(c.call_id, c.state) for c in calls_of(other, "r1")] == [("k1", "intent")]


async def test_a_settlement_keeps_what_came_back_and_its_answer(store: Store) -> None:
    await store.intend(intent("k1"))
    await store.settle(settlement("k1", keep=kept("q")))
    call = calls_of(store, "r1")[0]
    assert (call.state, call.usage, call.cost) == ("settled", Usage(input=7, output=3), usd(4))
    found = (await store.recall([("", "q"), ("", "none")]))
    assert list(found) == [("", "q")]
    assert found["", "q"].answer.text == "blue"
    assert (found["", "q"].run_id, found["", "q"].cost, found["", "q"].signals) == ("r1", usd(4), None)


async def test_settling_twice_changes_nothing(store: Store) -> None:
    await store.intend(intent("k1"))
    await store.settle(settlement("k1"))
    await store.settle(settlement("k1", cost=usd(999), state="unsettled"))
    call = calls_of(store, "r1")[0]
    assert (call.state, call.cost) == ("settled", usd(4))


async def test_a_settlement_queued_with_its_intent_comes_after_it(store: Store) -> None:
    """A caller cancelled while its intent is being written settles at once: both may share a commit."""
    await asyncio.gather(store.settle(settlement("k1", error="never sent")), store.intend(intent("k1")))
    assert [(c.state, c.error) for c in calls_of(store, "r1")] == [("settled", "never sent")]


async def test_a_cancelled_intent_is_written_all_the_same(store: Store) -> None:
    waiting = asyncio.ensure_future(store.intend(intent("k1")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await store.settle(settlement("k1", cost=usd(0)))
    assert [(c.state, c.cost) for c in calls_of(store, "r1")] == [("settled", usd(0))]


async def test_a_call_that_cannot_be_written_fails_alone(store: Store) -> None:
    await store.intend(intent("twice"))
    results = await asyncio.gather(
        *(store.intend(intent(f"k{i}")) for i in range(20)), store.intend(intent("twice")), return_exceptions=True
    )
    assert [type(r) for r in results] == [type(None)] * 20 + [StoreError]
    assert len(calls_of(store, "r1")) == 21


async def test_answers_stay_with_their_tenant_and_end_with_their_time(store: Store, clock: Clock) -> None:
    await store.intend(intent("k1"))
    await store.settle(settlement("k1", keep=kept("q", tenant="a", expires_at=clock.now + 10)))
    assert await store.recall([("b", "q"), ("", "q")]) == {}
    assert list(await store.recall([("a", "q")])) == [("a", "q")]
    clock.now += 10
    assert await store.recall([("a", "q")]) == {}


async def test_a_run_does_not_sign_an_answer_that_another_replaced(store: Store) -> None:
    for run_id in ("r1", "r2"):
        await store.claim([claim(run_id)])
        await store.intend(intent(f"k of {run_id}", run_id))
        await store.settle(settlement(f"k of {run_id}", keep=kept("q")))
    await store.finish([ended("r1", signals=(("", "q", b"of r1"),))])
    assert (await store.recall([("", "q")]))["", "q"].signals is None
    await store.finish([ended("r2", signals=(("", "q", b"of r2"),))])
    assert (await store.recall([("", "q")]))["", "q"].signals == b"of r2"


async def test_the_cache_counts_and_purges_what_it_may_serve(store: Store, clock: Clock) -> None:
    for call_id, memo_key, expires_at in (("k1", "q1", None), ("k2", "q2", clock.now - 1), ("k3", "r1:q3", None)):
        await store.intend(intent(call_id))
        await store.settle(settlement(call_id, keep=kept(memo_key, expires_at=expires_at)))
    stats = await store.cache_stats("p")
    assert (stats.entries, stats.expired, stats.hits) == (2, 1, 0)
    assert await store.cache_purge(expired_only=True) == 1
    assert await store.cache_purge(pipeline="other") == 0
    assert await store.cache_purge(pipeline="p") == 1
    assert list(await store.recall([("", "r1:q3")])) == [("", "r1:q3")], "an answer kept for resuming is no cache entry"


floats = st.floats(allow_nan=False, allow_infinity=False)
logprobs = st.none() | st.builds(
    TokenLogprobs, n=st.integers(0, 9), mean=floats, total=floats, q0=floats, q10=floats, q25=floats, q50=floats,
    margin_mean=st.none() | floats, margin_min=st.none() | floats,
)
tokens = st.integers(0, 1_000_000)
answers = st.builds(
    Answer, text=st.text(), finish_reason=st.sampled_from(["stop", "length"]), model=st.text(), logprobs=logprobs,
    value_logprobs=logprobs, cost=st.none() | st.builds(Money, nano=st.integers(0, 2**62)),
    usage=st.builds(Usage, input=tokens, cache_read=tokens, cache_write=tokens, output=tokens, reasoning=tokens,
                    estimated=st.booleans()),
)


@given(answers)
def test_an_answer_comes_back_exactly(given_answer: Answer) -> None:
    assert unpack(pack(given_answer)) == given_answer


# -- outcomes ----------------------------------------------------------------------------------------------------------


async def test_an_outcome_comes_back_with_steps_in_order_calls_and_content(store: Store) -> None:
    steps = (StepEntry(step="read", status="accepted"), StepEntry(step="answer", status="redone", features=b"[2]"))
    contents = (("value:read", b'"r"'), ("value:answer", b'"a"'))
    await run_to_the_end(store, steps=steps, contents=contents, cost=usd(4), tags={"shop": "north"})
    stored = await store.stored_outcome("r1")
    assert stored is not None
    assert stored.steps == steps
    assert (stored.value, stored.value_kept, stored.cost) == ("a", True, usd(4))
    assert stored.contents == {"task": {"text": "two blue widgets"}, "value:read": "r", "value:answer": "a"}
    assert [c.call_id for c in stored.calls] == ["k of r1"]
    assert stored.tags == {"shop": "north"}
    assert await store.stored_outcome("r2") is None


async def test_a_run_has_one_outcome_and_a_second_is_reported(opened: Opener) -> None:
    store, other = await opened(), await opened()
    await store.claim([claim("r1"), claim("r2")])
    assert await store.finish([ended("r1"), ended("r1", status="failed")]) == ("r1",)
    assert await other.finish([ended("r1", status="failed"), ended("r2")]) == ("r1",)
    assert (await store.stored_outcome("r1")).status == "accepted"  # type: ignore[union-attr]
    assert [event.kind for event in await store.events("p")] == ["second_outcome", "second_outcome"]


async def test_the_escalation_share_counts_one_pipeline_since_a_time(store: Store) -> None:
    await store.claim([claim(f"r{i}", pipeline="q" if i == 4 else "p") for i in range(5)])
    await store.finish([
        ended("r0", ended_at=1.0, escalated=True), ended("r1", ended_at=2.0), ended("r2", ended_at=3.0, escalated=True),
        ended("r3", ended_at=3.0), ended("r4", ended_at=3.0, escalated=True, pipeline="q"),
    ])
    assert await store.escalation_share("p", 2.0) == (3, 1)


async def test_events_come_latest_first(store: Store, clock: Clock) -> None:
    for kind in ("first", "second"):
        await store.record_event("p", kind)
        clock.now += 1
    assert [e.kind for e in await store.events("p")] == ["second", "first"]
    assert await store.events("q") == []
