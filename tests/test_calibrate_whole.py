"""What `calibrate` says of tasks that never come to the threshold: who decides them, what the whole step costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.errors import ContextOverflow
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import Calibration
from orchestrator.quality.calibration.elsewhere import Decided, elsewhere_words
from orchestrator.quality.calibration.evidence import Source
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Answer, Money, Request, Task
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, calibrated, draft, drafter, labels, validator
from tests.pipelines import POLICY, user_text, write_pipeline, write_tasks
from tests.test_fitted import GATED, artefact, write

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
    assert (done.reached, dict(done.elsewhere)) == (108, {Decided("escalate", "sevens"): 12})
    assert done.certificate.accepted == 81
    live, always = await cost(path, labels(90, 30), "cascade"), await cost(path, labels(90, 30), "validate_only")
    assert done.whole_cost == pytest.approx(live / always)


async def test_the_words_name_the_rules_and_end_with_the_whole(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": [SEVENS, *POLICY["after"]]})
    words = (await calibrated(tmp_path, labels(90, 30), validate=True)).words.splitlines()
    assert words[1] == "the other 12 never come to it: 12 escalated by sevens"
    assert words[-2].startswith("recommendation: cascade")
    assert words[-1].startswith("with the tasks that other rules decide in it, the whole step costs about 0.")


def gated(folder: Path, then: str = "escalate") -> None:
    """A pipeline whose gate stops the shortest texts: "sure 7", not "sure 70" or "unsure 7"."""
    gate = {"fitted": "gate.json", "threshold": 0.785}
    policy = {**GATED, "before": [{**rule, "then": then} for rule in GATED["before"]]}
    write_pipeline(folder, policy=policy, step={**CERTIFIED, "gate": gate})
    write(folder, "gate.json", artefact("task_chars", 0.2, role="gate"))


@pytest.mark.parametrize("source", [lambda folder: labels(90, 30), spending], ids=["labels", "spend"])
async def test_what_the_gate_stops_is_the_gates_and_pays_no_draft(
    tmp_path: Path, source: Callable[[Path], Source | list[Task]]
) -> None:
    gated(tmp_path / "p")
    done = await calibrated(tmp_path, source(tmp_path), validate=True)
    assert done.words.splitlines()[1] == "the other 10 never come to it: 10 escalated by too_hard"
    path = tmp_path / "p/pipeline.yaml"
    live, always = await cost(path, labels(90, 30), "cascade"), await cost(path, labels(90, 30), "validate_only")
    assert done.whole_cost == pytest.approx(live / always)


async def test_a_gate_that_hands_off_costs_nothing(tmp_path: Path) -> None:
    gated(tmp_path / "p", then="hand_off")
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert dict(done.elsewhere) == {Decided("hand_off", "too_hard", drafted=False): 10}
    assert done.certificate.cost_ratio is not None
    assert done.whole_cost == pytest.approx(done.certificate.cost_ratio * 110 / 120)


async def test_what_a_rule_sends_on_before_the_draft_is_escalated_and_pays_no_draft(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "before": [SEVENS]})
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert dict(done.elsewhere) == {Decided("escalate", "sevens", drafted=False): 12}
    live, always = await cost(path, labels(90, 30), "cascade"), await cost(path, labels(90, 30), "validate_only")
    assert done.whole_cost == pytest.approx(live / always)


async def test_what_the_drafter_may_not_see_is_escalated_and_pays_no_draft(tmp_path: Path) -> None:
    forbids = {"name": "sevens", "when": SEVENS["when"], "forbid": ["local"]}
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "before": [forbids]})
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert dict(done.elsewhere) == {Decided("escalate", "forbid", drafted=False): 12}


async def test_what_does_not_fit_the_drafter_is_escalated_and_pays_no_draft(tmp_path: Path) -> None:
    def short(request: Request) -> Answer | Exception:
        return ContextOverflow("too long") if user_text(request).endswith("7") else draft(request)

    clients = {"drafter": ScriptedModel(short, name="drafter"), "validator": validator()}
    done = await calibrated(tmp_path, labels(90, 30), validate=True, clients=clients)
    assert dict(done.elsewhere) == {Decided("escalate", "context_overflow", drafted=False): 12}


async def test_a_task_that_the_step_leaves_out_is_decided_by_no_rule(tmp_path: Path) -> None:
    step = {**CERTIFIED, "when": '!task.input.text.endsWith("7")'}
    write_pipeline(tmp_path / "p", step=step, policy={**POLICY, "before": [SEVENS]})
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert (done.reached, dict(done.elsewhere)) == (108, {})


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
    assert dict(done.elsewhere) == {Decided("escalate", "sevens"): 20}


async def test_the_ledgers_gated_tasks_are_counted_by_the_gates_rule(tmp_path: Path) -> None:
    """They drafted nothing; what no rule decided, since a mode or a refusal did, is left out."""
    gated(tmp_path / "p")
    path, url = tmp_path / "p/pipeline.yaml", f"sqlite:///{tmp_path / 's.db'}"
    await calibrated(tmp_path, labels(90, 30), validate=True)
    for mode in ("validate_only", "shadow", "cascade"):
        async with Pipeline.load(
            path, store=url, clients={"drafter": drafter(), "validator": validator()}, mode=mode
        ) as live:
            async for _ in live.amap([Task(input={"text": f"sure {i}"}, meta={"mode": mode}) for i in range(60)]):
                pass
    done = await calibrated(tmp_path, from_ledger())
    assert (done.came, dict(done.elsewhere)) == (100, {Decided("escalate", "too_hard", drafted=False): 20})


def test_the_busiest_rules_are_named_and_the_rest_counted() -> None:
    elsewhere = {Decided("escalate", f"r{i}"): i for i in range(1, 7)} | {Decided("decline", ""): 40}
    assert elsewhere_words(elsewhere) == (
        "the other 61 never come to it: 40 declined, 6 escalated by r6, 5 escalated by r5, 4 escalated by r4, "
        "6 by other rules"
    )
