"""Calibrating on a ledger of which a part was refused for money: what is said of it, and what mends it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.cascade.again import wanted
from orchestrator.cascade.later import left_waiting
from orchestrator.config.loader import load_pipeline
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.evidence import Evidence, Place
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.history.recorded import read_recorded
from orchestrator.quality.what_if.cases import case_of
from orchestrator.records import Task
from orchestrator.store.engine import Store
from tests.calibrations import CERTIFIED, calibrated, drafter, labels, validator
from tests.pipelines import POLICY, write_pipeline

RAW = {"confidence": {"from": "logprob.mean", "threshold": -0.5}}
POOR = {"total": "0.0005 USD"}
"""For drafts, but not for the validator."""


def looking(sample: float) -> dict[str, Any]:
    return {**POLICY, "after": [*POLICY["after"], {"name": "look", "sample": sample, "then": "spot_check"}]}


class Ledger:
    """A pipeline at work, part of the time without money, and what a calibration hears of it."""

    def __init__(self, folder: Path, sample: float) -> None:
        self.folder, self.policy = folder, looking(sample)
        self.url = f"sqlite:///{folder / 's.db'}"

    def write(self, **settings: Any) -> Path:
        return write_pipeline(self.folder / "p", policy=self.policy, **settings)

    async def run(self, tasks: list[Task], *again: Any, **settings: Any) -> str:
        path = self.write(step=RAW, **settings)
        clients = {"drafter": drafter(), "validator": validator()}
        async with Pipeline.load(path, store=self.url, clients=clients) as pipeline:
            rt = await pipeline.runtime()
            rt.again = wanted(again)
            await pipeline.take_up_spot_checks()
            async for outcome in pipeline.amap(tasks):
                assert outcome.status != "failed"
            await rt.quiet()
            return await left_waiting(rt)

    async def told(self) -> Evidence:
        told: list[Evidence] = []

        async def heard(place: Place) -> Evidence:
            told.append(await from_ledger()(place))
            return told[-1]

        self.write(step=CERTIFIED)
        await calibrated(self.folder, heard, max_regret=0.3)
        return told[-1]


def given(sure: int, unsure: int) -> list[Task]:
    return [Task(id=task.id, input=task.input) for task in labels(sure, unsure)]


async def test_drafts_whose_escalation_was_refused_are_told_apart_until_they_are_done_again(tmp_path: Path) -> None:
    """Then each task is one record, by its later run: nothing counts as wrong that the validator came to see."""
    ledger = Ledger(tmp_path, 1.0)
    await ledger.run(given(0, 40), budget=POOR)
    await ledger.run(given(200, 0))
    before = await ledger.told()
    assert before.notes == (
        "known by spot check: 200",
        "40 drafts were sent on and then refused (a budget was spent): nobody saw them, and they count as wrong until "
        f"their tasks are done again, by `orchestrator run {tmp_path / 'p/pipeline.yaml'} TASKS --again budget`",
    )
    assert Counter(one.draft_ok for one in before.known) == {True: 200, False: 40}
    await ledger.run(given(200, 40), "budget")
    after = await ledger.told()
    assert (after.notes, after.tasks) == (("known by spot check: 200, validator: 40",), 240)
    assert len({one.id for one in after.known}) == len(after.known) == 240
    assert {one.propensity for one in after.known} == {1.0}


async def test_a_spot_check_still_to_be_made_counts_as_wrong_until_it_is(tmp_path: Path) -> None:
    """With the probability that it was drawn with: left out, what was accepted would count for less than it is."""
    ledger = Ledger(tmp_path, 0.5)
    assert "wait for money" in await ledger.run(given(200, 0), budget=POOR)
    waiting = await ledger.told()
    drawn = len(waiting.known)
    assert 50 < drawn < 150
    assert waiting.notes == (
        f"{drawn} spot checks are still to be made: their drafts count as wrong until they are. The next run makes "
        "them, once there is room",
    )
    assert {(one.draft_ok, one.propensity) for one in waiting.known} == {(False, 0.5)}
    assert await ledger.run([]) == ""
    made = await ledger.told()
    assert made.notes == (f"known by spot check: {drawn}",)
    assert {(one.draft_ok, one.propensity) for one in made.known} == {(True, 0.5)}


async def test_a_draft_that_was_refused_was_to_be_looked_at_and_says_nothing_for_or_against_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, 1.0)
    await ledger.run(given(0, 3), budget=POOR)
    loaded, store = load_pipeline(tmp_path / "p/pipeline.yaml"), await Store.open(ledger.url)
    drafts = await read_recorded(store, loaded, "label")
    await ledger.run(given(0, 3), "budget")
    later = await read_recorded(store, loaded, "label")
    await store.aclose()
    assert [(one.refused, one.reached, one.propensity, one.draft_ok) for one in drafts] == [
        ("budget", True, 0.0, None)
    ] * 3
    cases = [case_of(one, confidence=one.confidence, broken=False, mode="redo", currency="USD") for one in drafts]
    assert {one.look for one in cases} == {"missed"}
    assert [(one.refused, one.propensity, one.draft_ok) for one in later] == [(None, 1.0, False)] * 3
    assert not {one.run_id for one in later} & {one.run_id for one in drafts}
