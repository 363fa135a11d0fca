"""What `calibrate` says of tasks that never come to the threshold: who decides them, what the whole step costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import Calibration
from orchestrator.quality.calibration.elsewhere import elsewhere_words
from orchestrator.quality.calibration.evidence import Source
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Money, Task
from tests.calibrations import CERTIFIED, calibrated, drafter, labels, validator
from tests.pipelines import POLICY, write_pipeline, write_tasks

SEVENS = {"name": "sevens", "when": 'task.input.text.endsWith("7")', "then": "escalate"}
LOOKS = {"name": "look", "sample": 0.5, "then": "spot_check"}


async def cost(path: Path, tasks: list[Task], mode: str) -> int:
    """What the tasks cost live, in billionths."""
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline(load_pipeline(path), store="memory:", clients=clients, mode=mode) as pipeline:
        outcomes = [outcome async for outcome in pipeline.amap(tasks)]
    return sum(call.cost.nano for outcome in outcomes for call in outcome.calls if call.cost is not None)


def spending(folder: Path) -> Source:
    texts = [str(task.input["text"]) for task in labels(90, 30)]
    return by_spending(Money(nano=10**9, currency="USD"), write_tasks(folder / "t.jsonl", 120, texts.__getitem__))


@pytest.mark.parametrize("source", [lambda folder: labels(90, 30), spending], ids=["labels", "spend"])
async def test_the_cost_of_the_whole_step_is_what_the_same_tasks_cost_live(
    tmp_path: Path, source: Callable[[Path], Source | list[Task]]
) -> None:
    path = write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": [SEVENS, *POLICY["after"]]})
    done = await calibrated(tmp_path, source(tmp_path), validate=True)
    assert (done.reached, dict(done.elsewhere)) == (108, {("escalate", "sevens"): 12})
    assert done.certificate.accepted == 81
    live, always = await cost(path, labels(90, 30), "cascade"), await cost(path, labels(90, 30), "validate_only")
    assert done.whole_cost == pytest.approx(live / always)


async def test_the_words_name_the_rules_and_end_with_the_whole(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": [SEVENS, *POLICY["after"]]})
    words = (await calibrated(tmp_path, labels(90, 30), validate=True)).words.splitlines()
    assert words[1] == "the other 12 never come to it: 12 escalated by sevens"
    assert words[-2].startswith("recommendation: cascade")
    assert words[-1].startswith("with the tasks that other rules decide in it, the whole step costs about 0.")


async def test_without_other_rules_nothing_more_is_said(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert (done.whole_cost, done.words.splitlines()[-1][:23]) == (None, "recommendation: cascade")


async def test_an_unmeasured_validator_leaves_the_cost_of_the_whole_open(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": [SEVENS, *POLICY["after"]]})
    done = await calibrated(tmp_path, labels(90, 30))
    assert (done.whole_cost, sum(done.elsewhere.values())) == (None, 12)


async def test_the_ledgers_own_tasks_are_counted_by_the_rules_that_decided_them(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": [SEVENS, *POLICY["after"], LOOKS]})
    await calibrated(tmp_path, labels(90, 30), validate=True)
    clients = {"drafter": drafter(), "validator": validator()}
    done: Calibration
    for mode in ("validate_only", "cascade"):  # what was only validated came to no rule at all
        async with Pipeline.load(
            tmp_path / "p", store=f"sqlite:///{tmp_path / 's.db'}", clients=clients, mode=mode
        ) as live:
            async for _ in live.amap([Task(input={"text": f"sure {mode} {i}"}) for i in range(200)]):
                pass
    done = await calibrated(tmp_path, from_ledger())
    assert dict(done.elsewhere) == {("escalate", "sevens"): 20}


def test_the_busiest_rules_are_named_and_the_rest_counted() -> None:
    elsewhere = {("escalate", f"r{i}"): i for i in range(1, 7)} | {("decline", ""): 40}
    assert elsewhere_words(elsewhere) == (
        "the other 61 never come to it: 40 declined, 6 escalated by r6, 5 escalated by r5, 4 escalated by r4, "
        "6 by other rules"
    )
