"""A run that steps aside for another of its task: in one commit, whoever else is at it. Over both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.errors import InputError, OrchestratorError
from orchestrator.store.engine import Store
from orchestrator.store.entries import Again, Claimed, HandOffEntry, StepEntry
from tests.stores import Opener, claim, ended, intent, kept, settlement

BUDGET = Again(rules=frozenset({"budget"}))
EVERY = Again(statuses=frozenset({"handed_off", "failed"}))


def asks(run_id: str, again: Again | None = BUDGET, **fields: Any) -> Any:
    return claim(run_id, task_key="the task", again=again, **fields)


async def take(store: Store, run_id: str, again: Again | None = BUDGET, **fields: Any) -> Claimed:
    (claimed,) = await store.claim([asks(run_id, again, **fields)])
    return claimed


async def hand_off(store: Store, run_id: str, rule: str = "budget", status: str = "handed_off", **fields: Any) -> None:
    step = StepEntry(step="extract", status="handed_off", rule=rule)
    waits = HandOffEntry(step="extract", reason="no room") if status == "handed_off" else None
    await store.finish([ended(run_id, status=status, success=False, success_source="status", steps=(step,),
                              handoff=waits, **fields)])


async def handed_off(opened: Opener, **fields: Any) -> Store:
    """What an earlier process did: its store is still open."""
    first = await opened()
    await take(first, "r1", None)
    await hand_off(first, "r1", **fields)
    return first


async def test_a_new_run_takes_the_place_of_the_one_it_does_again(opened: Opener) -> None:
    first = await handed_off(opened)
    second = await opened()
    assert (await take(second, "r0", None)).kind == "done"
    claimed = await take(second, "r2")
    assert (claimed.kind, claimed.run_id, claimed.again_of) == ("new", "r2", ("r1",))
    assert await first.handoffs() == []
    await hand_off(second, "r2")
    third = await opened()
    assert (await take(third, "r3")).again_of == ("r1", "r2")
    await third.finish([ended("r3", again_of=("r1", "r2"))])
    done = await take(first, "r4", None)
    assert done.outcome is not None
    assert (done.run_id, done.outcome.status, done.outcome.again_of) == ("r3", "accepted", ("r1", "r2"))


@pytest.mark.parametrize(("rule", "status", "again", "kind"), [
    ("budget", "handed_off", BUDGET, "new"), ("budget", "failed", BUDGET, "new"),
    ("rejected", "handed_off", BUDGET, "done"), ("rejected", "handed_off", EVERY, "new"),
    ("rejected", "failed", EVERY, "new"), ("budget", "declined", EVERY, "done"),
])
async def test_only_what_was_asked_for_is_done_again(
    opened: Opener, rule: str, status: str, again: Again, kind: str
) -> None:
    await handed_off(opened, rule=rule, status=status)
    assert (await take(await opened(), "r2", again)).kind == kind


async def test_other_content_under_the_same_key_stays_an_error(opened: Opener) -> None:
    await handed_off(opened)
    assert (await take(await opened(), "r2", task_digest="another")).kind == "conflict"


async def test_a_process_does_nothing_again_that_it_did_itself(opened: Opener) -> None:
    first = await handed_off(opened)
    assert (await take(first, "r2")).kind == "done"


async def test_the_same_task_twice_in_one_group_is_done_again_once(opened: Opener) -> None:
    await handed_off(opened)
    both = await (await opened()).claim([asks("r2"), asks("r3")])
    assert [(one.kind, one.run_id) for one in both] == [("new", "r2"), ("resumed", "r2")]


async def test_of_two_processes_one_does_it_again_and_the_other_waits(opened: Opener) -> None:
    await handed_off(opened)
    others = [await opened() for _ in range(2)]
    kinds = await asyncio.gather(*(take(store, f"r-{store.owner_id}") for store in others))
    assert sorted(one.kind for one in kinds) == ["busy", "new"]
    assert len({one.run_id for one in kinds}) == 1


async def test_a_run_left_by_a_process_that_ended_is_resumed_with_what_it_does_again(opened: Opener, url: str) -> None:
    await handed_off(opened)
    second = await Store.open(url)
    await take(second, "r2")
    await second.aclose()
    claimed = await take(await opened(), "r3", None)
    assert (claimed.kind, claimed.run_id, claimed.again_of) == ("resumed", "r2", ("r1",))


async def test_a_person_and_a_process_never_both_have_the_task(opened: Opener) -> None:
    """Whoever comes first: then the other finds it taken, and no task is a success twice."""
    first, second = await opened(), await opened()
    for turn in range(8):
        key = f"task {turn}"
        await first.claim([claim(f"a{turn}", task_key=key)])
        await hand_off(first, f"a{turn}")
        person = (
            first.record_feedback(f"a{turn}", success=True) if turn % 2
            else first.resolve_handoff(f"a{turn}", value=1, success=True)
        )
        said, claimed = await asyncio.gather(
            person, second.claim([claim(f"b{turn}", task_key=key, again=BUDGET)]), return_exceptions=True
        )
        assert not isinstance(claimed, BaseException)
        if said is None:
            assert claimed[0].kind == "done"
        else:
            assert isinstance(said, InputError)
            assert claimed[0].kind == "new"


async def test_drafts_kept_for_the_run_go_once_its_task_is_done(opened: Opener) -> None:
    first = await opened()
    await take(first, "r1", None)
    await first.intend(intent("k1"))
    await first.settle(settlement("k1", keep=kept("r1:q", expires_at=1e12)))
    await hand_off(first, "r1")
    second = await opened()
    await take(second, "r2")
    assert await second.recall([("", "r1:q")])
    await second.finish([ended("r2", again_of=("r1",))])
    assert not await second.recall([("", "r1:q")])


async def test_a_success_said_of_the_earlier_run_is_refused_and_writes_nothing(opened: Opener) -> None:
    await handed_off(opened)
    second = await opened()
    await take(second, "r2")
    await second.finish([ended("r2", again_of=("r1",))])
    with pytest.raises(OrchestratorError, match="was done again, as run 'r2'"):
        await second.record_feedback("r1", success=True)
    await second.record_feedback("r1", success=False)
    stored = await second.stored_outcome("r1")
    assert stored is not None
    assert stored.success is False
