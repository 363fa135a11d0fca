"""What `calibrate` says of its own limits: a price that leaves something out, a certificate that it takes away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cascade.prompts import JUDGE_INSTRUCTIONS, REPAIR_INSTRUCTIONS
from orchestrator.config.loader import load_pipeline
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.certificate_file import keep_previous
from orchestrator.quality.calibration.evidence import Known
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.priced import with_escalations_priced
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.quality.certification.thresholds import certify
from orchestrator.quality.records import Record
from orchestrator.records import Answer, Money, Request, Task, Usage
from orchestrator.testing import ScriptedModel
from orchestrator.worst_case import FENCES
from tests.calibrations import CERTIFIED, FITTED, calibrated, drafter, labels, said
from tests.pipelines import POLICY, dump, write_pipeline, write_tasks
from tests.test_calibrate_fitted import clients, tasks_of

LEFT_OUT = "an escalation is priced like the validator's own answer"


def wrong(n: int) -> list[Task]:
    """The drafter is as sure of these as of those where it is right."""
    return [Task(id=f"w{i}", input={"text": f"sure {i}"}, expected={"label": "c"}) for i in range(n)]


@pytest.mark.parametrize("validate", [
    {"mode": "repair"}, {"mode": "judge"}, {"mode": "judge", "on_reject": "hand_off"},
])
async def test_an_escalation_that_was_never_seen_is_priced_by_what_it_reads_and_writes(
    tmp_path: Path, validate: dict[str, Any]
) -> None:
    """Drafts have 5 tokens, and those that escalate are wrong: repaired, or redone where they are judged."""
    texts = [str(task.input["text"]) for task in labels(90, 30)]
    source = by_spending(Money(nano=10**9), write_tasks(tmp_path / "t.jsonl", 120, texts.__getitem__))
    done = await calibrated(tmp_path, source, step_config={
        **CERTIFIED, "validate": {"model": "validator", **validate},
    })
    draft, own = 10 * 100 + 5 * 400, 10 * 3_000 + 5 * 15_000
    words, verdict = {
        "repair": (REPAIR_INSTRUCTIONS, len('{"verdict":"approved","reasons":[],"value":null}') / 4 + 5),
        "judge": (JUDGE_INSTRUCTIONS, len('{"verdict":"approved","reasons":[]}') / 4),
    }[validate["mode"]]
    escalation = own + ((len(words) + FENCES) / 4 + 5) * 3_000 + (verdict - 5) * 15_000
    escalation += own if validate == {"mode": "judge"} else 0
    ratio = (draft + (1.0 - done.certificate.coverage) * escalation) / own
    assert done.certificate.cost_ratio == pytest.approx(ratio)
    said = f"an escalation is estimated at {escalation / own:.3g} x the validator's own answer, since in mode"
    assert said in done.words.splitlines()[-1]
    assert said in " ".join(json.loads(done.path.read_text())["reasons"])
    assert f"costs {ratio:.3g} x always validating" in json.loads(done.path.read_text())["reasons"][0]
    cheaper = (draft + (1.0 - done.certificate.coverage) * own) / own
    assert f"in mode redo, where it is that answer, the cascade costs {cheaper:.3g} x" in done.words.splitlines()[-1]
    assert done.certificate.recommendation == ("cascade" if ratio < 1 else "always_validate")


def test_where_nothing_tells_the_price_the_words_say_what_it_leaves_out() -> None:
    records = [Record(score=float(i), draft_ok=i >= 40, validator_ok=True, draft_cost=1, validator_cost=20)
               for i in range(200)]
    found = certify(records, max_regret=0.03)
    known = [Known(id=str(i), score=r.score, draft_ok=bool(r.draft_ok), draft_cost=Money(nano=1),
                   validator_cost=Money(nano=20)) for i, r in enumerate(records)]
    told = with_escalations_priced(found, known, None, LEFT_OUT)
    assert told.reasons == (*found.reasons, LEFT_OUT)
    assert told.cost_ratio == found.cost_ratio


def dear_repairs(request: Request) -> Answer:
    """A repair reads six times what the validator's own answer reads, and says twice as much."""
    repairs = "verdict" in json.dumps(request.messages)
    text = '{"verdict":"repaired","value":{"label":"a"},"reasons":[]}' if repairs else '{"label":"a"}'
    return Answer(text=text, finish_reason="stop", model="validator", usage=(
        Usage(input=60, output=10) if repairs else Usage(input=10, output=5)
    ))


@pytest.mark.parametrize(("live", "bought"), [(12, 0), (9, 20)])
async def test_escalations_are_priced_by_the_ledger_or_where_it_holds_too_few_by_some_that_are_made_for_it(
    tmp_path: Path, live: int, bought: int
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
    assert done.certificate.cost_ratio == pytest.approx((draft + escalated * repair) / own)
    assert done.certificate.recommendation == "always_validate"
    said = f"costs {repair / own:.3g} x the validator's own answer, by {live + bought} recorded ones: it does not pay"
    assert said in done.words
    assert len(models["validator"].calls) == live + 120 + bought
    await calibrated(tmp_path, labels(60, 60), validate=True, clients=models)
    assert len(models["validator"].calls) == live + 120 + bought, "what was bought is kept"


async def test_the_escalations_that_are_made_for_their_price_are_of_the_less_sure_half(tmp_path: Path) -> None:
    asked: list[str] = []

    def repairs(request: Request) -> Answer:
        said = json.dumps(request.messages)
        if "verdict" in said:
            asked.append(said)
        return dear_repairs(request)

    models = {"drafter": drafter(), "validator": ScriptedModel(repairs, name="validator")}
    await calibrated(tmp_path, labels(60, 60), validate=True, clients=models, step_config={
        **CERTIFIED, "validate": {"model": "validator", "mode": "repair"},
    })
    assert len(asked) == 20
    assert all("unsure" in said for said in asked)


async def test_no_escalation_is_made_where_the_validator_was_not_to_be_asked(tmp_path: Path) -> None:
    model = ScriptedModel(dear_repairs, name="validator")
    await calibrated(tmp_path, labels(60, 60), clients={"drafter": drafter(), "validator": model}, step_config={
        **CERTIFIED, "validate": {"model": "validator", "mode": "repair"},
    })
    assert model.calls == []


async def test_where_an_escalation_is_the_validators_own_answer_nothing_is_left_out(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, labels(90, 30), validate=True)
    assert done.certificate.cost_ratio is not None
    assert "an escalation" not in done.words


async def test_the_mode_of_a_rule_counts_before_the_steps_own(tmp_path: Path) -> None:
    after = [*POLICY["after"][:-1], {**POLICY["after"][-1], "mode": "judge"}]
    write_pipeline(tmp_path / "p", step=CERTIFIED, policy={**POLICY, "after": after})
    assert "since in mode judge it reads" in (await calibrated(tmp_path, labels(90, 30), validate=True)).words


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
    assert load_pipeline(tmp_path / "p").steps[0].confidence.problem is None


async def test_the_one_before_is_kept_too_where_the_new_one_has_a_threshold(tmp_path: Path) -> None:
    first = await calibrated(tmp_path, labels(90, 30))
    before = first.path.read_bytes()
    worse = await calibrated(tmp_path, [*labels(0, 20), *labels(120, 0)], attempt=0, max_regret=0.1)
    previous = first.path.with_name("label.previous.json")
    assert worse.certificate.threshold is not None
    assert (worse.kept, previous.read_bytes()) == ((previous,), before)
    assert f"the one before is kept as {previous}" in worse.words.splitlines()


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
    assert load_pipeline(tmp_path / "p").steps[0].confidence.problem is None


def test_a_copy_is_made_in_one_move_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    dump(tmp_path / "x.json", {"threshold": 1})
    kept = keep_previous(tmp_path / "x.json", "certificate")
    assert kept.read_bytes() == (tmp_path / "x.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.json", "x.previous.json"]


@pytest.mark.parametrize(("look", "priced"), [(1.0, True), (0.0, False)])
async def test_the_ledgers_verdicts_price_escalations_and_its_spot_checks_the_validators_answers(
    tmp_path: Path, look: float, priced: bool
) -> None:
    """A verdict that reads a draft is no price of validating alone: what validates everything reads none."""
    looks = [{"name": "look", "sample": look, "then": "spot_check"}] if look else []
    path = write_pipeline(
        tmp_path / "p", policy={**POLICY, "after": [*POLICY["after"], *looks]},
        step={**CERTIFIED, "validate": {"model": "validator", "mode": "repair"}},
    )
    models = {"drafter": drafter(), "validator": ScriptedModel(dear_repairs, name="validator")}
    await calibrated(tmp_path, labels(90, 30), clients=models)
    async with Pipeline(load_pipeline(path), store=f"sqlite:///{tmp_path / 's.db'}", clients=models) as pipeline:
        async for _ in pipeline.amap(Task(input={"text": f"{one.input['text']}0"}) for one in labels(160, 40)):
            pass
    done = await calibrated(tmp_path, from_ledger(), clients=models, max_regret=0.03 if look else 0.9)
    draft, own, repair = 10 * 100 + 5 * 400, 10 * 3_000 + 5 * 15_000, 60 * 3_000 + 10 * 15_000
    if priced:
        assert done.certificate.cost_ratio == pytest.approx((draft + (1 - done.certificate.coverage) * repair) / own)
        assert f"an escalation costs {repair / own:.3g} x the validator's own answer, by 52 recorded ones" in done.words
    else:
        assert done.certificate.cost_ratio is None
