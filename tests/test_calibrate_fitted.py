"""A fitted confidence, a gate before the draft, and a second try on the same records."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.check import check_pipeline
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import ConfigError, InputError
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.evidence import Asked, Known, place_of
from orchestrator.quality.calibration.fitting import split
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.tried import this_try, tried_on
from orchestrator.records import Answer, Request, Task
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, FITTED, calibrated, labels, said, validator
from tests.pipelines import POLICY, user_text, write_pipeline

GATED: dict[str, Any] = {
    **CERTIFIED, "gate": {"fitted": "confidence/gate.json", "certificate": "certificates/gate.json"},
}
BY_GATE = {**POLICY, "before": [{"name": "too_hard", "when": "gate < gate_threshold", "then": "escalate"}]}


def tasks_of(n: int) -> list[Task]:
    texts = [f"task {i} " + "word " * (i * 7 % 13) for i in range(n)]
    return [Task(id=str(i), input={"text": text}, expected={"label": "a"}) for i, text in enumerate(texts)]


def noisy(request: Request) -> Answer:
    """Wrong where it is unsure, or the text long: neither its log-probability nor the length tells all of it."""
    text = user_text(request)
    chance = random.Random(int(text.split()[1]))
    logprob = -2.0 * chance.random() - 0.01
    trouble = -logprob + len(text) / 30.0 + chance.gauss(0.0, 0.3)
    return said('{"label":"b"}' if trouble > 3.0 else '{"label":"a"}', logprob)


def clients() -> dict[str, ScriptedModel]:
    return {"drafter": ScriptedModel(noisy, name="drafter"), "validator": validator()}


# -- a fitted confidence -----------------------------------------------------------------------------------------------


async def test_a_confidence_is_fitted_on_one_part_and_certified_on_the_other(tmp_path: Path) -> None:
    tasks = tasks_of(600)
    done = await calibrated(tmp_path, tasks, step_config=FITTED, clients=clients())
    assert done.fitted is not None
    artefact = json.loads(done.fitted.read_text())
    assert artefact["fitted_on"]["n"] + done.certificate.given == len(tasks)
    assert artefact["model"]["kind"] == "logistic"
    assert "AUROC" in done.words
    assert done.diagram is not None
    assert done.diagram.read_text().startswith("<svg")
    certificate = json.loads(done.path.read_text())
    assert certificate["signal"] == "fitted"
    assert 0.0 < certificate["threshold"] <= 1.0


async def test_the_pipeline_goes_by_the_fitted_confidence_that_was_certified(tmp_path: Path) -> None:
    threshold = (await calibrated(tmp_path, tasks_of(600), step_config=FITTED, clients=clients())).certificate.threshold
    loaded = load_pipeline(tmp_path / "p")
    assert loaded.steps[0].confidence.problem is None
    assert threshold is not None
    async with Pipeline(loaded, store="memory:", clients=clients()) as pipeline:
        outcomes = [outcome async for outcome in pipeline.amap(tasks_of(50))]
    decisions = [outcome.decision for outcome in outcomes if outcome.decision is not None]
    assert all(one.certified for one in decisions)
    assert all((one.confidence or 0.0) >= threshold for one in decisions if one.action == "accept")
    assert {one.action for one in decisions} == {"accept", "escalate"}


async def test_an_artefact_that_changes_makes_the_certificate_lapse(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, tasks_of(600), step_config=FITTED, clients=clients())
    assert done.fitted is not None
    artefact = json.loads(done.fitted.read_text())
    artefact["model"]["intercept"] += 1.0
    done.fitted.write_text(json.dumps(artefact))
    assert "confidence_source" in (load_pipeline(tmp_path / "p").steps[0].confidence.problem or "")


async def test_a_calibration_that_comes_to_nothing_leaves_the_files_in_place(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, tasks_of(600), step_config=FITTED, clients=clients())
    assert done.fitted is not None
    before = (done.fitted.read_text(), done.path.read_text())
    with pytest.raises(InputError, match=r"at try 9 on the same records"):
        await calibrated(tmp_path, tasks_of(300), attempt=9, clients=clients())
    assert (done.fitted.read_text(), done.path.read_text()) == before


async def test_with_few_labels_the_raw_signal_is_kept_and_that_is_said(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, tasks_of(110), step_config=FITTED, max_regret=0.2, clients=clients())
    assert done.fitted is not None
    assert json.loads(done.fitted.read_text())["model"] == {"kind": "signal"}
    assert "the raw signal is kept: a fit takes 50 labels" in done.words
    assert done.certificate.threshold is not None
    assert done.certificate.threshold < 0.0
    assert done.diagram is None


async def test_one_class_alone_can_not_be_fitted_on_and_the_error_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"all \d+ labelled drafts are right: .* at least 10 of each"):
        await calibrated(tmp_path, labels(300, 0), step_config=FITTED)


async def test_the_same_fit_can_be_certified_on_new_records_alone(tmp_path: Path) -> None:
    tasks = tasks_of(600)
    first = await calibrated(tmp_path, tasks, step_config=FITTED, clients=clients())
    again = await calibrated(tmp_path, tasks, fit_share=0.0, attempt=0, clients=clients())
    assert "are left out" in again.words
    assert again.certificate.given == first.certificate.given
    assert again.certificate.threshold == first.certificate.threshold


def test_a_split_keeps_every_record_in_its_part_whatever_comes_beside_it() -> None:
    known = [Known(id=str(i), score=0.0, draft_ok=True) for i in range(500)]
    to_fit, rest = split(known, Asked(max_regret=0.03))
    some, others = split(known[::3], Asked(max_regret=0.03))
    assert len(to_fit) + len(rest) == 500
    assert {one.id for one in some} <= {one.id for one in to_fit}
    assert {one.id for one in others} <= {one.id for one in rest}
    assert 150 < len(to_fit) < 250
    assert 0.0 <= place_of("x", 1) < 1.0


async def test_a_changed_confidence_of_recorded_drafts_is_computed_from_their_numbers(tmp_path: Path) -> None:
    policy = {**POLICY, "after": [*POLICY["after"], {"name": "look", "sample": 0.5, "then": "spot_check"}]}
    write_pipeline(tmp_path / "p", policy=policy, step={"confidence": {"from": "logprob.min", "threshold": -0.5}})
    store = f"sqlite:///{tmp_path / 's.db'}"
    async with Pipeline.load(tmp_path / "p", store=store, clients=clients()) as pipeline:
        async for _ in pipeline.amap(Task(id=t.id, input=t.input) for t in tasks_of(900)):
            pass
    write_pipeline(tmp_path / "p", policy=policy, step=CERTIFIED)
    with pytest.raises(InputError, match=r"weighed by another confidence than 'logprob.mean'"):
        await calibrated(tmp_path, from_ledger())
    write_pipeline(tmp_path / "p", policy=policy, step=FITTED)
    done = await calibrated(tmp_path, from_ledger(), max_regret=0.1)
    assert done.signal == "fitted"
    assert done.certificate.threshold is not None


# -- a gate ------------------------------------------------------------------------------------------------------------


def by_length(request: Request) -> Answer:
    """Right on short texts, wrong on long ones."""
    return said('{"label":"b"}' if len(user_text(request)) > 100 else '{"label":"a"}', -0.1)


def short_and_long(n: int) -> list[Task]:
    texts = [f"short {i}" + (" and very long indeed" * 8 if i % 4 == 0 else "") for i in range(n)]
    return [Task(id=str(i), input={"text": text}, expected={"label": "a"}) for i, text in enumerate(texts)]


async def test_a_gate_is_fitted_on_task_features_and_keeps_hard_tasks_from_being_drafted(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=GATED, policy=BY_GATE, certificate_lapsed="hand_off")
    models = {"drafter": ScriptedModel(by_length, name="drafter"), "validator": validator()}
    done = await calibrated(tmp_path, short_and_long(400), gate=True, validate=True, clients=models)
    assert (done.signal, done.certificate.recommendation) == ("gate", "cascade")
    assert {name.split("_")[0] for name in json.loads(done.fitted.read_text())["features"]} == {"task"}  # type: ignore[union-attr]
    names = [way.name for way in done.ways]
    assert names == ["gate alone", "cascade", "always validate"]
    gate, cascade, always = (way.cost.nano for way in done.ways if way.cost is not None)
    assert gate < always
    assert gate < cascade  # the drafter is as sure of long texts as of short ones
    assert "a thousand tasks" in done.words

    loaded = load_pipeline(tmp_path / "p")
    assert loaded.steps[0].gate.problem is None
    drafter = ScriptedModel(by_length, name="drafter")
    async with Pipeline(loaded, store="memory:", clients={"drafter": drafter, "validator": validator()}) as pipeline:
        hard = await pipeline.arun(Task(input=short_and_long(1)[0].input))
        assert drafter.calls == []
        await pipeline.arun(Task(input={"text": "short 222"}))
    assert hard.decision is not None
    assert hard.decision.rule == "too_hard"
    assert len(drafter.calls) == 1


async def test_a_threshold_behind_a_gate_is_certified_on_what_the_gate_lets_through(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=GATED, policy=BY_GATE)
    models = {"drafter": ScriptedModel(by_length, name="drafter"), "validator": validator()}
    with pytest.raises(InputError, match="the gate stops them") as caught:
        await calibrated(tmp_path, short_and_long(400), clients=models)
    assert "--gate" in caught.value.hint
    await calibrated(tmp_path, short_and_long(400), gate=True, clients=models)
    done = await calibrated(tmp_path, short_and_long(400), clients=models)
    assert done.labelled == 400
    assert 250 < done.reached < 320
    assert done.certificate.base_loss <= 0.03
    assert load_pipeline(tmp_path / "p").steps[0].confidence.problem is None


async def test_what_is_run_for_a_gate_that_is_not_there_calibrates_the_gate(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step=GATED, policy=BY_GATE)
    command = f"run `orchestrator calibrate {path} --labels FILE --gate`"
    said = [one.message for one in check_pipeline(path).findings]
    assert any(command in one for one in said)
    assert any("label.json; run `orchestrator calibrate" in one and "--labels FILE`" in one for one in said)
    with pytest.raises(InputError, match="the gate stops them") as caught:
        await calibrated(tmp_path, short_and_long(400))
    assert command in str(caught.value)


async def test_a_gate_that_the_pipeline_does_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no certificate file for a gate"):
        await calibrated(tmp_path, labels(100, 0), gate=True)


# -- tries -------------------------------------------------------------------------------------------------------------


async def test_a_second_try_on_the_same_records_spends_a_quarter_and_says_so(tmp_path: Path) -> None:
    tasks = labels(400, 100)
    first = await calibrated(tmp_path, tasks)
    same = await calibrated(tmp_path, tasks)
    second = await calibrated(tmp_path, tasks, max_regret=0.04)
    third = await calibrated(tmp_path, tasks, max_regret=0.05)
    assert (first.certificate.delta, same.certificate.delta) == pytest.approx((0.1, 0.1))
    assert (second.certificate.delta, third.certificate.delta) == pytest.approx((0.025, 0.0125))
    assert "try 2 on these records (500 of 500 were tried on before)" in second.words


async def test_new_records_and_changed_drafts_are_no_second_try(tmp_path: Path) -> None:
    await calibrated(tmp_path, labels(400, 0))
    other = await calibrated(tmp_path, labels(0, 400)[300:] + labels(900, 0)[500:], max_regret=0.04)
    assert other.certificate.delta == pytest.approx(0.1)
    (tmp_path / "p/prompt.md").write_text("Another: {{ task.input.text }}\n")
    changed = await calibrated(tmp_path, labels(900, 0)[500:])
    assert changed.certificate.delta == pytest.approx(0.1)
    assert "(prompt, system changed since)" in changed.words


def test_what_was_tried_on_is_kept_without_its_ids() -> None:
    known = [Known(id=f"customer-{i}", score=0.0, draft_ok=True) for i in range(50)]
    asked, fingerprint = Asked(max_regret=0.03), {"prompt": "a"}
    kept = tried_on(this_try(asked, known, None, fingerprint), asked, known)
    assert "customer" not in json.dumps(kept)
    before = {"tried_on": kept, "fingerprint": fingerprint}
    assert "(10 of 10 were tried on before)" in this_try(asked, known[40:], before, fingerprint).note


async def test_the_same_records_and_confidence_are_no_second_try_whatever_share_was_to_be_set_apart(
    tmp_path: Path,
) -> None:
    """The raw signal is kept both times."""
    first = await calibrated(tmp_path, tasks_of(110), step_config=FITTED, max_regret=0.2, clients=clients())
    again = await calibrated(tmp_path, tasks_of(110), fit_share=0.0, max_regret=0.2, clients=clients())
    assert again.certificate == first.certificate
    assert "on these records (" not in again.words


def test_another_confidence_of_the_same_records_is_a_second_try() -> None:
    known = [Known(id=str(i), score=i / 3, draft_ok=True) for i in range(50)]
    asked, fingerprint = Asked(max_regret=0.03), {"prompt": "a"}
    before = {"tried_on": tried_on(this_try(asked, known, None, fingerprint), asked, known), "fingerprint": fingerprint}
    other = [replace(one, score=-(one.score or 0.0)) for one in known]
    rounded = [replace(one, score=(one.score or 0.0) * (1 + 1e-15)) for one in known]
    assert this_try(asked, other, before, fingerprint).attempt == 2
    assert this_try(asked, rounded, before, fingerprint).attempt == 0, "another machine's last digits"


async def test_the_same_records_come_to_the_same_fit_whoever_answered_first(tmp_path: Path) -> None:
    found = []
    for name, tasks in (("a", tasks_of(300)), ("b", tasks_of(300)[::-1])):
        done = await calibrated(tmp_path / name, tasks, step_config=FITTED, clients=clients())
        assert done.fitted is not None
        artefact = json.loads(done.fitted.read_text())
        found.append((artefact["model"], artefact["measured"], done.certificate))
    assert found[0] == found[1]
