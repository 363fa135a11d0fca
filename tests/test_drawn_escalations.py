"""Escalations that are drawn, among spot checks: real runs, and what calibrate and simulate make of their ledger.

The ids of the runs are counted, so that the draws, which hang on them, are the same each time.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cascade.policy import compile_policy
from orchestrator.cascade.policy_views import AfterView
from orchestrator.config.loader import load_pipeline
from orchestrator.config.policy import PolicyConfig
from orchestrator.errors import Outage
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.certification.thresholds import certify
from orchestrator.quality.history.recorded import RecordedDraft, read_recorded
from orchestrator.quality.records import Record
from orchestrator.quality.what_if.simulate import simulate
from orchestrator.records import Answer, Request, Signal, Task, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, calibrated, said
from tests.pipelines import user_text, write_pipeline
from tests.test_policy_safety import bounded_by

NOT_SURE = {"name": "not_sure", "when": "confidence < threshold", "then": "escalate"}
SPOT_HI = {"name": "spot_hi", "when": "confidence < -0.2", "sample": 0.3, "then": "spot_check"}
SPOT_LO = {"name": "spot_lo", "sample": 0.1, "then": "spot_check"}
EXPLORE = {"name": "explore", "sample": 0.1, "then": "escalate"}
BEHIND = (NOT_SURE, SPOT_HI, SPOT_LO, EXPLORE)
BEFORE = (EXPLORE, NOT_SURE, SPOT_HI, SPOT_LO)
PRESENT, TASKS = -0.4, 1500


def of_text(text: str) -> tuple[float, bool]:
    """The confidence of a task's draft, from -1 to 0, and whether it is right: the surer, the likelier."""
    generator = random.Random(text)
    confidence = -generator.random()
    return confidence, generator.random() < 1.0 - confidence**2 / 2.0


def draft(request: Request) -> Answer:
    confidence, right = of_text(user_text(request))
    return said('{"label":"a"}' if right else '{"label":"b"}', confidence)


def validate(request: Request) -> Answer | Exception:
    if "nobody" in user_text(request):
        return Outage("503")
    return Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=20, output=5), model="validator")


TEXTS = [f"text {i}" for i in range(TASKS)]
TOLD = [of_text(text) for text in TEXTS]
BASE_REGRET = sum(not right for _, right in TOLD) / TASKS


def regret(threshold: float | None) -> float:
    """The share of all tasks in which a wrong draft is accepted at it."""
    return sum(threshold is not None and sure >= threshold and not right for sure, right in TOLD) / TASKS


@pytest.fixture
async def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    number = itertools.count()
    monkeypatch.setattr("orchestrator.cascade.given.new_id", lambda prefix, now: f"{prefix}_{next(number)}")
    found = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    yield found
    await found.aclose()


def pipeline_with(folder: Path, *after: dict[str, Any], **settings: Any) -> Path:
    rules = {"policy": "drawn", "after": list(after), "otherwise": "accept", **settings.pop("rules", {})}
    step = {"confidence": {"from": "logprob.mean", "threshold": PRESENT}, **settings.pop("step", {})}
    return write_pipeline(folder / "p", policy=rules, step=step, **settings)


async def run(store: Store, path: Path, texts: list[str], validator: Any = validate) -> dict[str, RecordedDraft]:
    """What the ledger knows of each draft, by its task's text."""
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validator, name="validator")}
    ids = {}
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        async for outcome in pipeline.amap([Task(id=text, input={"text": text}) for text in texts]):
            ids[outcome.run_id] = outcome.id
    return {str(ids[one.run_id]): one for one in await read_recorded(store, load_pipeline(path), "label")}


def chance_of(text: str) -> float:
    confidence, _ = of_text(text)
    if confidence < PRESENT:
        return 1.0
    return 1 - 0.9 * 0.9 * (0.7 if confidence < -0.2 else 1.0)


# -- the ledger --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [BEHIND, BEFORE], ids=["behind spot checks", "before them"])
async def test_one_draft_has_one_chance_whatever_was_drawn_and_an_escalation_is_a_look(
    after: tuple[dict[str, Any], ...], store: Store, tmp_path: Path
) -> None:
    found = await run(store, pipeline_with(tmp_path, *after), TEXTS[:500])
    for text, one in found.items():
        assert one.propensity == one.look == pytest.approx(chance_of(text))
        assert one.reached
        assert (one.draft_ok is not None) == (one.rule != "otherwise")
        assert one.draft_ok in (None, of_text(text)[1])
    assert len({one.propensity for one in found.values()}) == 3
    assert {one.rule for one in found.values()} == {"not_sure", "spot_hi", "spot_lo", "explore", "otherwise"}


@pytest.mark.parametrize(
    "after", [BEHIND, BEFORE, (SPOT_LO, NOT_SURE), (NOT_SURE, SPOT_LO), (SPOT_HI, EXPLORE)],
    ids=["behind", "before", "a spot check before it is compared", "spot checks alone", "nothing compared by rule"],
)
async def test_what_an_earlier_version_logged_of_drawn_escalations_is_reckoned_to_the_same(
    after: tuple[dict[str, Any], ...], store: Store, tmp_path: Path
) -> None:
    path = pipeline_with(tmp_path, *after)
    found = await run(store, path, TEXTS[:200])
    await forget_the_chances(store)
    again = await read_recorded(store, load_pipeline(path), "label")
    assert {one.run_id: one for one in again} == {one.run_id: one for one in found.values()}


@pytest.mark.parametrize(
    ("after", "settings"),
    [
        ((NOT_SURE, EXPLORE, {"name": "x", "when": "task.input.text == 'x'", "then": "escalate"}), {}),
        (BEHIND, {"rules": {"before": [{"name": "home", "when": "has(task.meta.home)", "forbid": ["remote"]}]}}),
        (BEHIND, {"limits": {"escalation": {"share": 0.99, "then": "hand_off"}}}),
        ((NOT_SURE, EXPLORE | {"sample": 0.5}, {"name": "redo", "when": "attempt < 1", "then": "redraft"}), {}),
    ],
    ids=["a rule that reads the task", "what may have been forbidden", "a limit", "none: as it stood"],
)
async def test_a_chance_that_an_earlier_version_did_not_log_is_told_where_it_can_be_or_is_none(
    after: tuple[dict[str, Any], ...], settings: dict[str, Any], store: Store, tmp_path: Path
) -> None:
    path = pipeline_with(tmp_path, *after, **settings)
    found = await run(store, path, TEXTS[:60])
    await forget_the_chances(store)
    again = await read_recorded(store, load_pipeline(path), "label")
    known = after[-1]["name"] == "redo"
    assert [one.propensity for one in again] == [one.propensity if known else 0.0 for one in found.values()]
    assert {one.look for one in found.values()} > {1.0}


async def forget_the_chances(store: Store) -> None:
    with store._writing.begin() as connection:
        connection.exec_driver_sql("UPDATE step SET look = NULL, compared = NULL")


async def test_a_drawn_escalation_that_found_no_validator_stands_for_those_that_were_not_drawn(
    store: Store, tmp_path: Path
) -> None:
    path = pipeline_with(tmp_path, EXPLORE | {"sample": 0.5})
    found = await run(store, path, [f"nobody {i}" for i in range(20)])
    for one in found.values():
        drawn = one.status == "handed_off"
        assert (one.propensity, one.unanswered) == ((0.0, 0.5) if drawn else (0.5, None))
        assert one.refused == ("outage" if drawn else None)
    assert {one.status for one in found.values()} == {"handed_off", "accepted"}


async def test_a_draft_that_was_drawn_and_rejected_is_known_with_the_chance_of_the_draw(
    store: Store, tmp_path: Path
) -> None:
    def judge(request: Request) -> dict[str, Any]:
        return {"verdict": "rejected", "reasons": []}

    judged = {"validate": {"model": "validator", "mode": "judge", "on_reject": "hand_off"}}
    path = pipeline_with(tmp_path, EXPLORE | {"sample": 0.5}, step=judged)
    found = await run(store, path, TEXTS[:20], judge)
    assert {(one.rule, one.propensity, one.draft_ok) for one in found.values()} == {
        ("rejected", 0.5, False), ("otherwise", 0.5, None),
    }


# -- what is made of it ------------------------------------------------------------------------------------------------


async def test_calibrate_and_simulate_are_right_of_a_ledger_whose_escalations_are_drawn_behind_spot_checks(
    store: Store, tmp_path: Path
) -> None:
    path = pipeline_with(tmp_path, *BEHIND)
    await run(store, path, TEXTS)
    found = await simulate(store, load_pipeline(path))
    present = next(one for one in found.policies if one.name == "present")
    low, high = present.quality.low, present.quality.high
    assert low is not None
    assert high is not None
    served = [1 - 0.1 * 0.9 * (0.7 if sure < -0.2 else 1.0)  # the rest is drawn by `explore`, and right
              for sure, right in TOLD if sure >= PRESENT and not right]
    assert low <= 1 - sum(served) / TASKS <= high
    assert high - low < 0.1
    path = pipeline_with(tmp_path, *BEHIND, step=CERTIFIED)
    for seed in range(4):  # of the thinning
        done = await calibrated(tmp_path, from_ledger(), max_regret=0.12, seed=seed)
        certificate = json.loads(done.path.read_text())
        assert abs(1 - done.certificate.draft_accuracy - BASE_REGRET) < 0.06  # of some 285 records
        assert regret(certificate["threshold"]) <= 0.12
        assert "could never have been looked at" not in done.words


async def test_no_draft_that_a_draw_escalated_counts_as_one_that_nobody_could_have_seen(
    store: Store, tmp_path: Path
) -> None:
    await run(store, pipeline_with(tmp_path, *BEFORE), TEXTS[:500])
    pipeline_with(tmp_path, *BEFORE, step=CERTIFIED)
    done = await calibrated(tmp_path, from_ledger(), max_regret=0.2)
    assert "could never have been looked at" not in done.words
    assert "500 of them reached" in done.words


def test_a_certificate_from_such_a_ledger_exceeds_its_bound_no_more_often_than_it_says() -> None:
    """Ledgers of 900 drafts, drawn anew 100 times: the certified threshold's true regret over all drafts there are.
    With the chances as an earlier version told them, 23 of the 100 are above the tolerance."""
    redraws, n, tolerance, delta, broken = 100, 900, 0.14, 0.1, 0
    rules = (NOT_SURE, SPOT_HI, SPOT_LO | {"sample": 0.4}, EXPLORE | {"sample": 0.4})
    policy = compile_policy(PolicyConfig.model_validate({"policy": "p", "after": rules, "otherwise": "accept"}))
    generator = random.Random(11)
    for redraw in range(redraws):
        texts = [TEXTS[generator.randrange(TASKS)] for _ in range(n)]
        known = [one for i, text in enumerate(texts) if (one := _seen(policy, text, f"r_{redraw}_{i}"))]
        found = certify(known, max_regret=tolerance, confidence=1 - delta, seed=redraw)
        broken += regret(found.threshold) > tolerance
    assert broken / redraws <= delta + 3 * math.sqrt(delta * (1 - delta) / redraws)


def _seen(policy: Any, text: str, run_id: str) -> Record | None:
    """The record that a run leaves, with the logged chance; None where nobody saw its draft."""
    confidence, right = of_text(text)
    view = AfterView(
        base={"task": {"input": {}, "meta": {}}, "steps": {}}, signals={"schema": Signal(name="schema", ok=True)},
        value={}, parsed=True, confidence=confidence, threshold=-0.7, attempt=1, run_id=run_id,
    )
    possible = {"escalation_possible": True, "redraft_possible": True, "spot_check_possible": True}
    decision = bounded_by(possible, policy.after(view), view)
    if decision.action not in ("spot_check", "escalate"):
        return None
    assert decision.look is not None
    return Record(confidence, right, propensity=decision.look)
