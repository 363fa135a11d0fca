"""A file run does in a minute what a service does in a week: a change is found as soon there, and at its end, too."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import Pipeline, Task
from orchestrator.cascade.lapse import in_use, look
from orchestrator.cascade.runtime import Runtime
from orchestrator.cascade.stretches import LATE_S, Seen, _cut, read_stretches
from orchestrator.quality.drift import CHECKS_A_START, Stretch
from orchestrator.store.engine import Store
from orchestrator.store.entries import OutcomeEntry, SpotCheckEntry, StepEntry
from orchestrator.store.lapses import CheckedDraft
from tests.lapsing import A, both, watched_policy, write_certified
from tests.stores import Clock, claim, ended

SAMPLE = 0.1
A_SECOND = 64
LABELLED = {"max_regret": 0.03, "reference": "label", "validator_accuracy": 0.9841}


@pytest.fixture
async def pipeline(tmp_path: Path) -> AsyncIterator[Pipeline]:
    clock = Clock(1_800_000_000.0)
    store = await Store.open("memory:", clock=clock)
    path = write_certified(tmp_path / "p", certificate=LABELLED, policy=watched_policy(SAMPLE))
    async with Pipeline.load(path, store=store, clients=both(lambda _: A), clock=clock) as opened:
        yield opened
    await store.aclose()


@pytest.fixture
async def work(pipeline: Pipeline) -> Runtime:
    """What is at work in it: the configuration is on record by its first task."""
    rt = await pipeline.runtime()
    await one_more(pipeline, "first")
    return rt


async def one_more(pipeline: Pipeline, name: str) -> None:
    """A task, and its check, where one was drawn: the draft is right."""
    await pipeline.arun(Task(id=name, input={"text": name}))
    rt = await pipeline.runtime()
    while rt.background:
        await asyncio.gather(*rt.background)


def clock(rt: Runtime) -> Clock:
    assert isinstance(rt.clock, Clock)
    return rt.clock


async def ended_quickly(
    rt: Runtime, name: str, tasks: int, *, accepted: float, wrong: float, seed: int = 0, begun: float | None = None,
    answered: float = 1.0,
) -> None:
    """So many tasks, 64 a second from `begun` (now) on, and the answers to this share of their checks."""
    draw, outcomes, found = random.Random(seed), [], {}
    begun = rt.clock() if begun is None else begun
    for i in range(tasks):
        run_id, accept, drawn = f"{name} {i:05d}", draw.random() < accepted, draw.random() < SAMPLE
        outcomes.append(_outcome(rt, run_id, begun + i / A_SECOND, accept=accept, drawn=accept and drawn))
        if accept and drawn and draw.random() < answered:
            found[run_id] = draw.random() >= wrong
    await rt.store.claim([
        claim(one.run_id, pipeline=one.pipeline, config_id=one.config_id, content=b"{}") for one in outcomes
    ])
    await rt.store.finish(outcomes)
    for run_id, right in found.items():
        await rt.store.settle_spot_check(run_id, "label", draft_ok=right)
    clock(rt).now = max(rt.clock(), begun + tasks / A_SECOND)


def _outcome(rt: Runtime, run_id: str, at: float, *, accept: bool, drawn: bool) -> OutcomeEntry:
    step = StepEntry(
        step="label", status="accepted", certified=True, confidence=-0.1, propensity=SAMPLE if accept else None,
        action="spot_check" if drawn else "accept" if accept else "escalate",
        rule="look" if drawn else "otherwise" if accept else "not_sure",
    )
    checks = (SpotCheckEntry(step="label", propensity=SAMPLE),) if drawn else ()
    return ended(
        run_id, pipeline=rt.config.pipeline, config_id=rt.loaded.config_id, ended_at=at, steps=(step,),
        spot_checks=checks, contents=(),
    )


async def test_two_thousand_bad_tasks_after_six_thousand_good_ones_of_the_same_minutes_are_found(work: Runtime) -> None:
    await ended_quickly(work, "good", 6000, accepted=0.75, wrong=0.01)
    await look(work, work.steps[0], draft_ok=False)
    assert work.revoked == {}
    await ended_quickly(work, "bad", 2000, accepted=0.75, wrong=0.27, seed=1)
    await look(work, work.steps[0], draft_ok=False)
    granted = "0.0459 (0.03 and the 0.0159 by which the validator itself is wrong)"
    assert f"spot checks show regret above {granted}: " in work.revoked["label"]


async def known(rt: Runtime, seen: Seen) -> tuple[list[float], list[Stretch]]:
    used = in_use(rt, rt.steps[0])
    assert used is not None
    return await read_stretches(rt.store, used, seen, now=rt.clock(), accepted_only=False)


async def test_what_a_process_keeps_of_past_stretches_is_what_another_reads_anew(work: Runtime) -> None:
    """Tasks come late into the ledger, and so do answers: who looks again knows what it says by then."""
    kept = Seen()
    for i in range(6):
        begun = work.clock()
        await ended_quickly(work, f"{i}", 1500, accepted=0.75, wrong=0.1, seed=i, answered=0.5 if i == 3 else 1.0)
        assert await known(work, kept) == await known(work, Seen())
        await ended_quickly(work, f"{i} late", 40, accepted=1.0, wrong=0.5, seed=i, begun=begun + 3)
        clock(work).now += (i % 2) * 2 * LATE_S
        stretches = await known(work, kept)
        assert stretches == await known(work, Seen())
        assert sum(stretch.tasks for stretch in stretches[1]) == 1 + (i + 1) * 1540
    assert 0 < len(kept.stretches) < 5, "one with a check that is not answered may change still"
    assert kept.counted[kept.upto].counts.tasks > 0, "and yet its tasks need not be counted again"
    for check in await work.store.pending_spot_checks(work.config.pipeline, 1000):
        await work.store.settle_spot_check(check.run_id, check.step, draft_ok=False)
    stretches = await known(work, kept)
    assert stretches == await known(work, Seen())
    assert len(kept.stretches) == len(stretches[1]) - 1


def test_a_stretch_ends_with_the_moment_that_finds_enough_checks_drawn() -> None:
    """What came before decides of it; tasks that ended together stay together."""
    def at(moment: float) -> CheckedDraft:
        return CheckedDraft(ended_at=moment, propensity=SAMPLE, confidence=None, state="done", draft_ok=True)

    one_by_one = [at(moment) for moment in range(CHECKS_A_START)]
    assert [len(group) for group in _cut(one_by_one[:-1])] == [CHECKS_A_START - 1]
    assert [len(group) for group in _cut(one_by_one)] == [CHECKS_A_START, 0]
    together = [*one_by_one, at(CHECKS_A_START - 1), at(CHECKS_A_START - 1), at(CHECKS_A_START)]
    assert [len(group) for group in _cut(together)] == [CHECKS_A_START + 2, 1]
    assert _cut([]) == [[]]


async def test_a_run_that_ends_weighs_what_was_answered_since_the_last_look(pipeline: Pipeline, work: Runtime) -> None:
    """Another process found wrong drafts and was killed before it weighed them; this one finds right ones only, for
    which it would not look before half a minute is over."""
    tasks = (f"task {i}" for i in range(1000))
    while not work.watch.looked_at:
        await one_more(pipeline, next(tasks))
    await ended_quickly(work, "bad", 640, accepted=0.75, wrong=0.9)
    while not work.watch.answered:
        await one_more(pipeline, next(tasks))
    assert work.revoked == {}
    await work.quiet()
    assert "spot checks show regret above" in work.revoked["label"]
    (lapse,) = await work.store.lapses()
    assert lapse.told_at is not None
