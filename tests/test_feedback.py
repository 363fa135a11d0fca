"""What is learned of a run after it ended, and what then counts."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.store.engine import Store
from orchestrator.store.entries import HandOffEntry, SpotCheckEntry
from tests.stores import Clock, Opener, claim, ended, run_to_the_end


async def success(store: Store, run_id: str = "r1") -> tuple[bool | None, str]:
    stored = await store.stored_outcome(run_id)
    assert stored is not None
    return stored.success, stored.success_source


@pytest.mark.parametrize(("source", "known", "learned", "expected"), [
    ("unknown", None, "spot_check", (False, "spot_check")),
    ("validator", True, "spot_check", (False, "spot_check")),
    ("label", True, "spot_check", (True, "label")),
    ("proof", True, "spot_check", (True, "proof")),
    ("label", True, "feedback", (False, "feedback")),
    ("unknown", None, "feedback", (False, "feedback")),
    ("require", False, "feedback", (False, "require")),
])
async def test_what_counts_is_the_first_known_in_the_order_of_precedence(
    store: Store, source: Any, known: bool | None, learned: Any, expected: tuple[bool | None, str],
) -> None:
    await run_to_the_end(store, success=known, success_source=source)
    assert await success(store) == (known, source)
    await store.record_feedback("r1", success=False, source=learned)
    assert await success(store) == expected


async def test_a_failed_requirement_is_not_talked_away(store: Store) -> None:
    await run_to_the_end(store, success=False, success_source="require")
    await store.record_feedback("r1", success=True)
    assert await success(store) == (False, "require")


async def test_a_run_that_was_not_served_is_no_success_until_a_person_says_so(store: Store) -> None:
    await run_to_the_end(store, status="declined", success=False, success_source="status")
    await store.record_feedback("r1", success=True, source="spot_check")
    assert await success(store) == (False, "status")
    await store.record_feedback("r1", success=True)
    assert await success(store) == (True, "feedback")


async def test_what_was_said_last_counts(store: Store, clock: Clock) -> None:
    await run_to_the_end(store)
    await store.record_feedback("r1", success=False)
    await store.record_feedback("r1", success=True, at=clock.now + 1)
    assert await success(store) == (True, "feedback")
    await store.record_feedback("r1", success=False, at=clock.now + 0.5)
    assert await success(store) == (True, "feedback")


async def test_a_cache_hit_follows_the_run_it_was_served_from(store: Store) -> None:
    await run_to_the_end(store, success=True, success_source="validator")
    await store.claim([claim("r2")])
    await store.finish([ended("r2", from_cache=True, source_run_id="r1")])
    assert await success(store, "r2") == (True, "validator")
    await store.record_feedback("r1", success=False)
    assert await success(store, "r2") == (False, "feedback")
    await store.record_feedback("r2", success=True)
    assert await success(store, "r2") == (True, "feedback")
    assert await success(store) == (False, "feedback")


async def test_feedback_for_a_run_nobody_knows_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no run 'r404'"):
        await store.record_feedback("r404", success=True)


async def test_a_hand_off_is_listed_until_a_person_resolves_it(store: Store) -> None:
    await run_to_the_end(store, status="handed_off", success=False, success_source="status",
                         handoff=HandOffEntry(step="extract", reason="no budget"))
    assert [(h.run_id, h.reason, h.contents["task"]) for h in await store.handoffs()] == [
        ("r1", "no budget", {"text": "two blue widgets"})]
    await store.resolve_handoff("r1", value={"colour": "red"}, success=True, reason="by hand")
    assert await store.handoffs() == []
    assert len(await store.handoffs(open_only=False)) == 1
    stored = await store.stored_outcome("r1")
    assert stored is not None
    assert (stored.value, stored.success, stored.success_source) == ({"colour": "red"}, True, "feedback")
    with pytest.raises(InputError, match="resolved already"):
        await store.resolve_handoff("r1", value=None, success=False)
    with pytest.raises(InputError, match="never handed off"):
        await store.resolve_handoff("r2", value=None, success=False)


async def test_a_spot_check_waits_for_its_owner_and_then_for_anyone(opened: Opener, clock: Clock) -> None:
    ours, theirs = await opened(lease_s=7200.0), await opened(lease_s=30.0)
    await run_to_the_end(theirs, spot_checks=(SpotCheckEntry(step="extract", propensity=0.02),))
    assert await ours.pending_spot_checks("p") == []
    clock.now += 31
    taken = await ours.pending_spot_checks("p")
    assert [(c.run_id, c.step, c.propensity) for c in taken] == [("r1", "extract", 0.02)]
    assert taken[0].contents["task"] == {"text": "two blue widgets"}
    for right in (False, True):
        await ours.settle_spot_check("r1", "extract", draft_ok=right)
    stored = await ours.stored_outcome("r1")
    assert stored is not None
    assert (stored.success, stored.success_source) == (False, "spot_check")
    assert await ours.pending_spot_checks("p") == []
