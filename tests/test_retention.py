"""What is erased, when, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.records import Money
from orchestrator.store.engine import Store
from orchestrator.store.entries import HandOffEntry, SpotCheckEntry, StepEntry
from tests.stores import (
    Clock,
    Opener,
    budget_of,
    calls_of,
    claim,
    ended,
    intent,
    kept,
    line,
    run_to_the_end,
    settlement,
    usd,
)

HANDED_OFF: dict[str, Any] = {
    "status": "handed_off", "success": False, "success_source": "status",
    "handoff": HandOffEntry(step="extract", reason="blue is not in stock"),
}


async def contents(store: Store, run_id: str = "r1") -> dict[str, Any]:
    stored = await store.stored_outcome(run_id)
    assert stored is not None
    return dict(stored.contents)


async def test_content_and_answers_go_when_their_time_is_over(store: Store, clock: Clock) -> None:
    await store.claim([claim("r1", keep_until=clock.now + 10), claim("r2")])
    await store.intend(intent("k1"))
    await store.settle(settlement("k1", keep=kept("q", expires_at=clock.now + 20)))
    await store.finish([ended("r1", keep_until=clock.now + 10), ended("r2")])
    assert await store.sweep() == 0
    clock.now += 10
    assert await store.sweep() == 2
    assert await contents(store) == {}
    assert await contents(store, "r2") == {"task": {"text": "two blue widgets"}, "value": {"colour": "blue"}}
    clock.now += 10
    assert await store.sweep() == 1
    assert [c.cost for c in calls_of(store, "r1")] == [usd(4)], "accounts stay"


async def test_without_retention_content_goes_with_the_outcome(store: Store) -> None:
    await run_to_the_end(store, keep_until=0, memo_key="r1:q")
    assert await contents(store) == {}
    assert await store.recall([("", "r1:q")]) == {}
    done = (await store.claim([claim("r1")]))[0]
    assert done.outcome is not None
    assert (done.outcome.value, done.outcome.value_kept) == (None, False)


async def test_the_answers_of_an_open_run_are_there_to_resume_it(store: Store) -> None:
    await store.claim([claim("r1")])
    await store.intend(intent("k1"))
    await store.settle(settlement("k1", keep=kept("r1:q")))
    assert list(await store.recall([("", "r1:q")])) == [("", "r1:q")]


async def test_an_answer_kept_for_resuming_goes_even_where_content_is_kept(store: Store) -> None:
    await run_to_the_end(store, memo_key="r1:q")
    assert await store.recall([("", "r1:q")]) == {}
    await run_to_the_end(store, "r2", memo_key="shared")
    assert list(await store.recall([("", "shared")])) == [("", "shared")]


async def test_a_hand_off_keeps_its_content_until_it_is_resolved(store: Store, clock: Clock) -> None:
    await run_to_the_end(store, keep_until=0, **HANDED_OFF)
    clock.now += 100
    await store.sweep()
    assert set(await contents(store)) == {"task", "value"}
    await store.resolve_handoff("r1", value={"colour": "red"}, success=True)
    assert await contents(store) == {}, "nor is the resolution kept where content is not"


async def test_a_spot_check_pending_keeps_the_account_of_its_task(store: Store) -> None:
    """It is paid from it: without, the task's limit would begin anew."""
    of_task = line(100, "task:r1")
    await run_to_the_end(store, budgets=(of_task,), spot_checks=(SpotCheckEntry(step="extract", propensity=0.1),))
    await store.sweep()
    budget = budget_of(store, "task:r1")
    assert budget is not None
    assert budget.spent == usd(4)
    await store.settle_spot_check("r1", "extract", draft_ok=True)
    await store.sweep()
    assert budget_of(store, "task:r1") is None


async def test_a_spot_check_keeps_its_content_until_it_is_settled(store: Store, clock: Clock) -> None:
    await run_to_the_end(store, keep_until=0, spot_checks=(SpotCheckEntry(step="extract", propensity=0.1),))
    await store.sweep()
    (check,) = await store.pending_spot_checks("p")
    assert set(check.contents) == {"task", "value"}
    await store.settle_spot_check("r1", "extract", draft_ok=True)
    assert await contents(store) == {}


async def test_content_past_its_time_waits_for_an_open_hand_off_only(store: Store, clock: Clock) -> None:
    await run_to_the_end(store, keep_until=clock.now + 10, **HANDED_OFF)
    await run_to_the_end(store, "r2", keep_until=clock.now + 10)
    clock.now += 11
    await store.sweep()
    assert set(await contents(store)) == {"task", "value"}
    assert set(await contents(store, "r2")) == {"task"}, "its task was claimed without an end of its own"


async def test_forgetting_a_task_erases_what_was_said_and_keeps_the_accounts(store: Store) -> None:
    await run_to_the_end(store, cost=usd(4), error="blue was out", **HANDED_OFF)
    await run_to_the_end(store, "r2")
    forgotten = await store.forget(task_keys=["key of r1", "key of nobody"])
    assert (forgotten.runs, forgotten.contents, forgotten.answers, forgotten.open_runs) == (1, 2, 1, 0)
    stored = await store.stored_outcome("r1")
    assert stored is not None
    assert (stored.value, stored.contents, stored.error, stored.cost) == (None, {}, "erased", usd(4))
    assert stored.steps[0].explanation == "erased"
    assert [h.reason for h in await store.handoffs()] == ["erased"]
    assert [(c.state, c.cost) for c in stored.calls] == [("settled", usd(4))]
    assert await contents(store, "r2") != {}


async def test_a_forgotten_id_is_free_for_other_content(store: Store) -> None:
    await run_to_the_end(store)
    await store.forget(task_keys=["key of r1"])
    again = (await store.claim([claim("r9", task_key="key of r1", task_digest="other")]))[0]
    assert (again.kind, again.run_id) == ("new", "r9")


async def test_forgetting_a_run_served_from_the_cache_erases_the_answer_it_was_served(store: Store) -> None:
    await run_to_the_end(store, memo_key="q")
    await store.claim([claim("r2")])
    await store.finish([ended("r2", from_cache=True, source_run_id="r1")])
    await store.forget(run_ids=["r2"])
    assert await store.recall([("", "q")]) == {}


async def test_forgetting_a_tenant_leaves_the_others(store: Store) -> None:
    await run_to_the_end(store, "r1", tenant="a", memo_key="q")
    await run_to_the_end(store, "r2", tenant="b", memo_key="q")
    await store.claim([claim("r3", tenant="a")])
    forgotten = await store.forget(tenant="a")
    assert (forgotten.runs, forgotten.answers, forgotten.open_runs) == (2, 1, 1)
    assert list(await store.recall([("a", "q"), ("b", "q")])) == [("b", "q")]
    with pytest.raises(InputError, match="nothing to forget"):
        await store.forget()


async def test_what_was_forgotten_is_not_in_the_files_any_more(sqlite_url: str, tmp_path: Path) -> None:
    secret = b"the-patient-was-never-here"
    store = await Store.open(sqlite_url)
    explained = StepEntry(step="extract", status="accepted", explanation=secret.decode())
    await run_to_the_end(store, steps=(explained,), contents=(("value", b'"' + secret * 500 + b'"'),))
    assert _files_with(secret, tmp_path) != []
    await store.forget(run_ids=["r1"])
    assert _files_with(secret, tmp_path) == []
    await store.aclose()


def _files_with(said: bytes, folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if said in file.read_bytes()]


# -- failures and the cache --------------------------------------------------------------------------------------------


async def test_a_known_failure_evicts_the_answers_behind_it(store: Store) -> None:
    await run_to_the_end(store, memo_key="q")
    await run_to_the_end(store, "r3", memo_key="other")
    await store.claim([claim("r2")])
    await store.finish([ended("r2", from_cache=True, source_run_id="r1", saved=Money(nano=4))])
    await store.record_feedback("r2", success=True)
    assert len(await store.recall([("", "q")])) == 1
    await store.record_feedback("r2", success=False, reason="the customer corrected it")
    assert list(await store.recall([("", "q"), ("", "other")])) == [("", "other")]
    stats = await store.cache_stats()
    assert (stats.hits, stats.saved) == (1, (Money(nano=4),))


async def test_opening_a_store_sweeps_it(opened: Opener, clock: Clock) -> None:
    store = await opened()
    await run_to_the_end(store, keep_until=clock.now + 10)
    clock.now += 11
    other = await opened()
    assert "value" not in await contents(other)
