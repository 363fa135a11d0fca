"""A certificate that stops being true: found by spot checks, revoked for every process, told once, never tuned."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Outcome, Pipeline, Task
from orchestrator.cascade.lapse import _why, in_use, look
from orchestrator.cascade.nulls import Nulls, Promise, Tolerance, promise_of
from orchestrator.quality.drift import Stretch, evidence
from orchestrator.store.engine import Store
from orchestrator.store.entries import SpotCheckEntry, StepEntry
from orchestrator.store.lapses import CheckedDraft, InUse, TaskCounts
from tests.lapsing import OTHER_DRAFTS, A, B, Turning, both, recertify, write_certified
from tests.stores import Clock, Opener, claim, config, ended

NOTE = "import sys; open('told.jsonl', 'a').write(sys.stdin.read() + '\\n')"
HOOK = {"command": [sys.executable, "-c", NOTE]}


async def run_some(pipeline: Pipeline, count: int, start: int) -> list[Outcome]:
    """One after the other, each with its spot check done: what a later task meets is then no accident."""
    outcomes = []
    rt = await pipeline.runtime()
    for i in range(start, start + count):
        outcomes.append(await pipeline.arun(Task(id=f"t{i}", input={"text": f"text {i}"})))
        while rt.background:
            await asyncio.gather(*rt.background)
    return outcomes


async def turn_bad(path: Path, store: str | Store, drafter: Turning) -> list[Outcome]:
    """Thirty good drafts, then wrong ones."""
    async with Pipeline.load(path, store=store, clients=both(drafter)) as pipeline:
        good = await run_some(pipeline, 30, 0)
        assert {o.status for o in good} == {"accepted"}
        drafter.value = B
        return await run_some(pipeline, 20, 30)


def told(path: Path) -> list[dict[str, Any]]:
    lines = (path.parent / "told.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


async def test_a_drafter_that_turns_bad_loses_its_certificate(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", on_lapse=HOOK)
    url = f"sqlite:///{tmp_path}/s.db"
    bad = await turn_bad(path, url, Turning())
    served_wrong = [o.status for o in bad].index("redone")
    assert 2 <= served_wrong <= 12, "a few wrong drafts are no evidence yet, and a dozen are"
    assert {o.status for o in bad[served_wrong:]} == {"redone"}
    assert {json.dumps(o.value) for o in bad[served_wrong:]} == {json.dumps(A)}
    decision = bad[-1].decision
    assert decision is not None
    assert (decision.rule, decision.certified) == ("not_sure", False)
    assert "revoked on " in decision.explanation
    assert "spot checks show regret above 0.1" in decision.explanation
    (call,) = told(path)
    assert (call["event"], call["pipeline"], call["step"]) == ("certificate_lapsed", "labels", "label")
    assert call["certificate"] == "certificate.json"
    store = await Store.open(url)
    (event,) = await store.events(pipeline="labels")
    (lapse,) = await store.lapses("labels")
    await store.aclose()
    assert event.kind == "certificate_lapsed"
    assert call["reason"] == lapse.reason
    assert lapse.reason in event.detail


async def test_another_process_and_a_restarted_one_know_of_it_and_tell_nobody_again(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", on_lapse=HOOK)
    url = f"sqlite:///{tmp_path}/s.db"
    await turn_bad(path, url, Turning())
    clients = both(lambda _: A)
    async with Pipeline.load(path, store=url, clients=clients) as pipeline:
        (outcome,) = await run_some(pipeline, 1, 100)
    assert outcome.status == "approved"
    assert outcome.decision is not None
    assert "revoked on " in outcome.decision.explanation
    assert len(told(path)) == 1


async def test_a_runtime_at_work_learns_of_a_lapse_elsewhere(tmp_path: Path) -> None:
    clock = Clock(1_800_000_000.0)
    path = write_certified(tmp_path / "p")
    store = await Store.open("memory:", clock=clock)
    async with Pipeline.load(path, store=store, clients=both(lambda _: A), clock=clock) as elsewhere:
        before = await run_some(elsewhere, 1, 200)
        await turn_bad(path, store, Turning())
        clock.now += 31
        after = await run_some(elsewhere, 1, 201)
    await store.aclose()
    assert [before[0].status, after[0].status] == ["accepted", "approved"]


async def test_a_new_calibration_is_not_revoked_even_with_the_same_threshold(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p")
    url = f"sqlite:///{tmp_path}/s.db"
    await turn_bad(path, url, Turning())
    recertify(path, **OTHER_DRAFTS)
    async with Pipeline.load(path, store=url, clients=both(lambda _: B)) as pipeline:
        outcomes = await run_some(pipeline, 2, 300)
    assert [o.status for o in outcomes] == ["accepted", "accepted"], "what was found before speaks against another one"


async def test_a_lapsed_certificate_may_hand_off_instead(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", certificate_lapsed="hand_off")
    bad = await turn_bad(path, "memory:", Turning())
    assert bad[-1].status == "handed_off"


async def test_the_escalation_limit_holds_after_a_lapse(tmp_path: Path) -> None:
    limits = {"escalation": {"share": 0.05, "window": "1h", "at_least": 5, "then": "hand_off"}}
    path = write_certified(tmp_path / "p", limits=limits)
    store = await Store.open(f"sqlite:///{tmp_path}/s.db", clock=(clock := Clock(1_800_000_000.0)))
    drafter = Turning()
    async with Pipeline.load(path, store=store, clients=both(drafter), clock=clock) as pipeline:
        await run_some(pipeline, 10, 0)
        drafter.value, statuses = B, []
        for i in range(20):
            clock.now += 2  # the share is looked at once a second
            statuses += [o.status for o in await run_some(pipeline, 1, 10 + i)]
    await store.aclose()
    assert "redone" in statuses
    assert statuses[-1] == "handed_off"


async def test_a_hook_that_fails_is_on_record_and_stops_nothing(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", on_lapse={"command": [sys.executable, "-c", "raise SystemExit('no mail')"]})
    url = f"sqlite:///{tmp_path}/s.db"
    bad = await turn_bad(path, url, Turning())
    store = await Store.open(url)
    kinds = {event.kind: event.detail for event in await store.events(pipeline="labels")}
    await store.aclose()
    assert bad[-1].status == "redone"
    assert set(kinds) == {"certificate_lapsed", "on_lapse_failed"}
    assert "no mail" in kinds["on_lapse_failed"]


async def test_checks_of_shadow_and_of_the_cache_are_no_evidence(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", cache={"ttl": "1d"})
    store = await Store.open("memory:")
    async with Pipeline.load(path, store=store, clients=both(lambda _: A)) as pipeline:
        await run_some(pipeline, 2, 0)
        await pipeline.arun(Task(id="again", input={"text": "text 0"}))
        rt = await pipeline.runtime()
        used = in_use(rt, rt.steps[0])
    async with Pipeline.load(path, store=store, clients=both(lambda _: A), mode="shadow") as shadow:
        await run_some(shadow, 3, 10)
        work = await shadow.runtime()
        assert in_use(work, work.steps[0]) is None
    assert used is not None
    assert await store.tasks_within(used, [(0.0, math.inf)]) == [TaskCounts(tasks=2, accepted=2)]
    await store.aclose()


def promise(regret: Tolerance, *, false_alarm: float, accepted_only: bool = False) -> Promise:
    only = Nulls(regret=regret, calibration=None, accepted_only=accepted_only)
    return Promise(cases=(only,), false_alarm=pytest.approx(false_alarm))


@pytest.mark.parametrize(("fields", "expected"), [
    ({}, promise(Tolerance(0.1), false_alarm=0.1)),
    ({"loss": "selective", "confidence": 0.95},
     promise(Tolerance(0.1), false_alarm=0.05, accepted_only=True)),
    ({"reference": "label", "validator_accuracy": 0.97},
     promise(Tolerance(0.1, pytest.approx(0.03)), false_alarm=0.1)),
    ({"reference": "validator", "validator_accuracy": 0.97},
     promise(Tolerance(0.1), false_alarm=0.1)),
])
async def test_what_is_watched_is_what_the_certificate_promises(
    tmp_path: Path, fields: dict[str, Any], expected: Promise
) -> None:
    path = write_certified(tmp_path / "p", certificate=fields)
    async with Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline:
        rt = await pipeline.runtime()
        assert promise_of(rt, rt.steps[0]) == expected


@pytest.mark.parametrize(("kind", "watched"), [("logistic", 0.02), ("trees", 0.02), ("signal", None)])
async def test_only_a_fitted_probability_is_watched_for_calibration(
    tmp_path: Path, kind: str, watched: float | None
) -> None:
    path = write_certified(tmp_path / "p", drift={"calibration_error": 0.02})
    async with Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline:
        rt = await pipeline.runtime()
        step = rt.steps[0]
        fitted = replace(step, loaded=replace(
            step.loaded, confidence=replace(step.loaded.confidence, fitted={"model": {"kind": kind}})))
        promised = promise_of(rt, fitted)
    assert promised is not None
    assert promised.cases[0].calibration == (None if watched is None else Tolerance(watched))


def test_a_confidence_that_is_off_is_said_to_be() -> None:
    stretches = [Stretch(tasks=50, drawn=9, gaps=(0.7,) * 9)] * 3
    found = evidence(stretches, max_regret=0.1, calibration_error=0.05)
    nulls = Nulls(regret=Tolerance(0.1), calibration=Tolerance(0.05), accepted_only=False)
    assert found.trips(0.1)
    assert _why(found, [0, 1, 2], stretches, nulls) == (
        "spot checks show the confidence off by more than 0.05: in 27 of them since 1970-01-01 it is 0.7 too high"
    )


async def test_the_false_alarm_of_the_pipeline_file_is_taken(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p", drift={"false_alarm": 1e-30})
    bad = await turn_bad(path, "memory:", Turning())
    assert bad[-1].status == "accepted"


async def test_looking_without_a_certificate_in_force_does_nothing(tmp_path: Path) -> None:
    path = write_certified(tmp_path / "p")
    (path.parent / "certificate.json").unlink()
    async with Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline:
        rt = await pipeline.runtime()
        await look(rt, rt.steps[0], draft_ok=False)
        assert await rt.store.lapses() == []


# -- the store, on both databases ------------------------------------------------------------------------------------

USED = InUse(pipeline="p", step="extract", certificate="sha256:c0ffee", rules_before=("broken",))


async def decided(store: Store, run_id: str, **fields: Any) -> None:
    """One task that came to the rule and ended `at` that time."""
    at, drawn = fields.pop("at", 5.5), fields.pop("drawn", None)
    outcome = {k: fields.pop(k) for k in ("config_id", "from_cache") if k in fields}
    step = StepEntry(**{
        "step": "extract", "status": "accepted", "action": "accept", "rule": "otherwise", "certified": True,
        "confidence": 0.8, "propensity": 0.05, **fields,
    })
    checks = () if drawn is None else (SpotCheckEntry(step="extract", propensity=0.05),)
    await store.claim([claim(run_id)])
    await store.finish([ended(run_id, ended_at=at, steps=(step,), spot_checks=checks, **outcome)])
    if drawn in ("right", "wrong"):
        await store.settle_spot_check(run_id, "extract", draft_ok=drawn == "right")


async def certified(store: Store) -> None:
    for config_id, mode in (("c1", "cascade"), ("shadow", "shadow")):
        entry = config(config_id)
        body = json.dumps({"steps": {"extract": {"certificate": "sha256:c0ffee"}}})
        await store.record_config(type(entry)(**{
            **{name: getattr(entry, name) for name in entry.__dataclass_fields__}, "mode": mode, "body_json": body,
        }))


async def test_tasks_are_counted_where_they_came_to_the_rule(store: Store) -> None:
    await certified(store)
    await decided(store, "accepted")
    await decided(store, "checked", drawn="wrong", action="spot_check", rule="look")
    await decided(store, "waiting", drawn="not yet", at=7.25)
    await decided(store, "escalated", action="escalate", rule="not_sure", propensity=None, at=7.5)
    await decided(store, "may not be checked", propensity=None)
    for name, other in {
        "before": {"rule": "broken"}, "uncertified": {"certified": False}, "shadow": {"config_id": "shadow"},
        "hit": {"from_cache": True}, "another": {"step": "other"},
    }.items():
        await decided(store, name, **other)
    spans = [(-math.inf, 5.5), (5.5, 7.25), (5.5, math.inf), (7.5, 7.5), (7.5, math.inf)]
    assert await store.tasks_within(USED, spans) == [
        TaskCounts(2, 2), TaskCounts(1, 1), TaskCounts(2, 1), TaskCounts(), TaskCounts(),
    ]
    found = CheckedDraft(ended_at=5.5, propensity=0.05, confidence=0.8, state="done", draft_ok=False)
    waiting = CheckedDraft(ended_at=7.25, propensity=0.05, confidence=0.8, state="pending", draft_ok=None)
    assert await store.checked_drafts(USED, -math.inf) == [found, waiting]
    assert await store.checked_drafts(USED, 5.5) == [waiting]
    assert await store.checked_drafts(USED, 7.25) == []


async def test_a_certificate_lapses_once_and_is_told_of_once(opened: Opener, clock: Clock) -> None:
    first, second = await opened(), await opened()
    trips = [await store.record_lapse("p", "s", "d", f"by {i}") for i, store in enumerate((first, second))]
    claims = [await store.claim_lapse_notice("p", "s", "d") for store in (second, first, second)]
    assert (trips, claims) == ([True, False], [True, False, False])
    (lapse,) = await first.lapses()
    assert (lapse.reason, lapse.at, lapse.told_at) == ("by 0", clock.now, clock.now)
    assert [event.kind for event in await second.events("p")] == ["certificate_lapsed"]
    assert await first.lapses("another") == []
