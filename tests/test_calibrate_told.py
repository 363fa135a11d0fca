"""What `calibrate` says of its own limits: a price that leaves something out, a certificate that it takes away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.certificate_file import keep_previous
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, FITTED, calibrated, drafter, labels, said
from tests.pipelines import POLICY, dump, write_pipeline
from tests.test_calibrate_fitted import clients, tasks_of

LEFT_OUT = "an escalation is priced like the validator's own answer"


def wrong(n: int) -> list[Task]:
    """The drafter is as sure of these as of those where it is right."""
    return [Task(id=f"w{i}", input={"text": f"sure {i}"}, expected={"label": "c"}) for i in range(n)]


@pytest.mark.parametrize(
    ("validate", "said"),
    [
        ({"mode": "repair"}, "in mode repair it also reads the draft and costs more, and a rejected draft is then"),
        ({"mode": "judge", "on_reject": "hand_off"}, "in mode judge it also reads the draft and costs more: run some"),
    ],
)
async def test_a_price_that_leaves_the_draft_out_is_told_on_screen_and_in_the_certificate(
    tmp_path: Path, validate: dict[str, Any], said: str
) -> None:
    done = await calibrated(tmp_path, labels(90, 30), validate=True, step_config={
        **CERTIFIED, "validate": {"model": "validator", **validate},
    })
    assert done.certificate.recommendation == "cascade"
    assert done.certificate.cost_ratio is not None
    assert said in done.words.splitlines()[-1]
    assert said in json.loads(done.path.read_text())["reasons"][-1]


def dear_repairs(request: Request) -> Answer:
    """A repair reads six times what the validator's own answer reads, and says twice as much."""
    repairs = "verdict" in json.dumps(request.messages)
    text = '{"verdict":"repaired","value":{"label":"a"},"reasons":[]}' if repairs else '{"label":"a"}'
    return Answer(text=text, finish_reason="stop", model="validator", usage=(
        Usage(input=60, output=10) if repairs else Usage(input=10, output=5)
    ))


@pytest.mark.parametrize(("live", "priced"), [(12, True), (9, False)])
async def test_recorded_escalations_price_the_cascade_where_the_ledger_holds_enough(
    tmp_path: Path, live: int, priced: bool
) -> None:
    path = write_pipeline(tmp_path / "p", step={**CERTIFIED, "validate": {"model": "validator", "mode": "repair"}})
    store = f"sqlite:///{tmp_path / 's.db'}"
    models = {"drafter": drafter(), "validator": ScriptedModel(dear_repairs, name="validator")}
    async with Pipeline(load_pipeline(path), store=store, clients=models) as pipeline:
        for i in range(live):
            assert (await pipeline.arun(Task(input={"text": f"unsure live {i}"}))).status == "repaired"
    done = await calibrated(tmp_path, labels(60, 60), validate=True, clients=models)
    draft, own, repair = 10 * 100 + 5 * 400, 10 * 3_000 + 5 * 15_000, 60 * 3_000 + 10 * 15_000
    escalated = 1.0 - done.certificate.coverage
    if priced:
        assert done.certificate.cost_ratio == pytest.approx((draft + escalated * repair) / own)
        assert done.certificate.recommendation == "always_validate"
        assert f"12 recorded ones cost {repair / own:.3g} x that on average" in done.words.splitlines()[-1]
        assert LEFT_OUT not in done.words
    else:
        assert done.certificate.cost_ratio == pytest.approx((draft + escalated * own) / own)
        assert LEFT_OUT in done.words


async def test_where_an_escalation_is_the_validators_own_answer_nothing_is_left_out(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert done.certificate.cost_ratio is not None
    assert LEFT_OUT not in done.words


async def test_the_mode_of_a_rule_counts_before_the_steps_own(tmp_path: Path) -> None:
    after = [*POLICY["after"][:-1], {**POLICY["after"][-1], "mode": "judge"}]
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": after})
    assert f"{LEFT_OUT}; in mode judge" in (await calibrated(tmp_path, labels(90, 30), validate=True)).words


async def test_without_a_known_cost_the_recommendation_says_that_it_goes_by_the_guarantee_alone(tmp_path: Path) -> None:
    last = (await calibrated(tmp_path, labels(90, 30))).words.splitlines()[-1]
    assert "unknown cost (the validator was not asked); this goes by the guarantee alone" in last


async def test_a_certificate_that_is_taken_away_is_kept_beside_the_one_without_a_threshold(tmp_path: Path) -> None:
    first = await calibrated(tmp_path, labels(90, 30))
    before = first.path.read_bytes()
    assert "from now on" not in first.words
    none = await calibrated(tmp_path, [*wrong(40), *labels(0, 60)], attempt=0)
    previous = first.path.with_name("label.previous.json")
    assert none.certificate.threshold is None
    assert (none.kept, previous.read_bytes()) == ((previous,), before)
    assert f"comes to the threshold escalates; the one before is kept as {previous}" in none.words

    again = await calibrated(tmp_path, [*wrong(50), *labels(0, 60)], attempt=0)
    assert (again.kept, previous.read_bytes()) == ((), before)  # there was none to lose any more
    assert "from now on" not in again.words
    previous.replace(first.path)
    assert load_pipeline(tmp_path / "p").steps[0].certificate_problem is None


async def test_the_fitted_confidence_is_kept_with_its_certificate_and_both_count_again(tmp_path: Path) -> None:
    first = await calibrated(tmp_path, tasks_of(400), step_config=FITTED, clients=clients(), max_regret=0.1)
    assert first.certificate.threshold is not None
    alike = ScriptedModel(lambda request: said('{"label":"a"}', -0.01), name="drafter")
    tasks = [
        Task(id=f"n{i}", input={"text": f"task {i}"}, expected={"label": "a" if i % 5 == 0 else "c"})
        for i in range(200, 500)
    ]
    none = await calibrated(tmp_path, tasks, clients={**clients(), "drafter": alike})
    assert none.certificate.threshold is None
    assert [path.name for path in none.kept] == ["label.previous.json"] * 2
    for path in none.kept:
        path.replace(path.with_name("label.json"))
    assert load_pipeline(tmp_path / "p").steps[0].certificate_problem is None


def test_a_copy_is_made_in_one_move_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    dump(tmp_path / "x.json", {"threshold": 1})
    kept = keep_previous(tmp_path / "x.json", "certificate")
    assert kept.read_bytes() == (tmp_path / "x.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.previous.json"]
