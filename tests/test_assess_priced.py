"""`assess` prices an escalation as the ledger knows it, else by what it reads and writes, and recommends by that."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cascade.prompts import REPAIR_INSTRUCTIONS
from orchestrator.pipeline import Pipeline
from orchestrator.quality.assessment.assess import Assessment
from orchestrator.quality.assessment.recommendation import recommend
from orchestrator.quality.assessment.savings import Served, Share, measure, ratio
from orchestrator.quality.calibration.escalation_price import EscalationPrice
from orchestrator.quality.certification.thresholds import certify
from orchestrator.quality.records import Record
from orchestrator.records import Answer, Money, Task, Usage
from orchestrator.testing import ScriptedModel
from orchestrator.worst_case import FENCES
from tests.assessments import assessed, log, pipeline, texts
from tests.calibrations import drafter, validator
from tests.pipelines import POLICY, PRICES, dump

REPAIR: dict[str, Any] = {"validate": {"model": "validator", "mode": "repair"}}
SHORT = {"cost_usd": "0.000105"}
"""What a task of 10 tokens in and 5 out costs."""
APPROVED = '{"verdict":"approved","reasons":[],"value":null}'


def value_of(share: Share | None) -> float:
    assert share is not None
    return share.value


def escalated(done: Assessment) -> float:
    return done.measured.validated.value


async def test_an_escalation_that_was_never_seen_is_priced_by_what_it_reads_and_writes(tmp_path: Path) -> None:
    """Drafts have 5 tokens, and those that escalate are wrong, so that they are repaired."""
    path = pipeline(tmp_path, step=REPAIR)
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 150)))
    own, drafts = 100 * 3_000 + 20 * 15_000, 10 * 100 + 5 * 400
    more = ((len(REPAIR_INSTRUCTIONS) + FENCES) / 4 + 5) * 3_000
    times = 1.0 + (more + len(APPROVED) / 4 * 15_000) / own
    assert done.escalation is not None
    assert (done.escalation.times, done.escalation.recorded) == (pytest.approx(times), 0)
    assert value_of(done.measured.bill) == pytest.approx(escalated(done) * times)
    assert value_of(done.measured.cost) == pytest.approx(escalated(done) * times + drafts / own)
    assert value_of(done.measured.in_redo) == pytest.approx(escalated(done) + drafts / own)
    assert f"an escalation is estimated at {times:.3g} x the validator's own answer" in done.words
    assert "that answer is taken to cost what the logged request did, with the prompt that it had" in done.words
    assert done.recommendation == "cascade"
    assert done.words.endswith(f"in mode redo it costs {done.measured.in_redo})")
    assert done.certificate.cost_ratio is not None
    assert done.certificate.cost_ratio > value_of(done.measured.in_redo) + 0.1


async def test_a_cascade_that_pays_in_mode_redo_alone_is_not_recommended_in_mode_repair(tmp_path: Path) -> None:
    path = pipeline(tmp_path, step=REPAIR)
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(420, 180), **SHORT))
    assert done.recommendation == "always_validate"
    assert done.measured.cost is not None
    assert done.measured.cost.low is not None
    assert done.measured.cost.low > 1.0
    assert value_of(done.measured.in_redo) < 0.5
    assert f"it does not pay in mode repair; in mode redo it costs {done.measured.in_redo}" in done.why


async def test_in_mode_redo_an_escalation_is_the_answer_that_was_logged(tmp_path: Path) -> None:
    done = await assessed(pipeline(tmp_path), log(tmp_path / "logs.jsonl", texts(420, 180), **SHORT))
    assert (done.escalation, done.measured.in_redo) == (None, None)
    assert "an escalated task is taken to cost what the logged request did, with the prompt that it had" in done.words
    assert "mode redo" not in done.words
    assert done.recommendation == "cascade"


def repairing(usage: Usage) -> ScriptedModel:
    text = '{"verdict":"repaired","reasons":[],"value":{"label":"a"}}'
    return ScriptedModel(
        lambda request: Answer(text=text, finish_reason="stop", usage=usage, model="validator"), name="validator"
    )


async def run_live(path: Path, given: list[str], **clients: ScriptedModel) -> None:
    store = f"sqlite:///{path.parent.parent / 's.db'}"
    async with Pipeline.load(path, store=store, clients={"drafter": drafter(), **clients}) as live:
        async for _ in live.amap(Task(input={"text": text}) for text in given):
            pass


async def test_recorded_escalations_are_the_price_where_there_are_enough(tmp_path: Path) -> None:
    """No threshold is certified yet: each of these escalates."""
    path, logs = pipeline(tmp_path, step=REPAIR), log(tmp_path / "logs.jsonl", texts(450, 150))
    await run_live(path, [f"unsure {i}" for i in range(900, 909)], validator=repairing(Usage(input=400, output=60)))
    few = await assessed(path, logs)
    assert few.escalation is not None
    assert few.escalation.recorded == 0
    await run_live(path, ["unsure 909"], validator=repairing(Usage(input=400, output=60)))
    done = await assessed(path, logs)
    times = (400 * 3_000 + 60 * 15_000) / (100 * 3_000 + 20 * 15_000)
    assert done.escalation == EscalationPrice(times=times, modes=("repair",), recorded=10)
    assert value_of(done.measured.bill) == pytest.approx(times * escalated(done))
    assert "an escalation costs 3.5 x the validator's own answer, by 10 recorded ones; that answer is" in done.words


async def test_shadow_runs_tell_what_the_validators_own_answer_costs(tmp_path: Path) -> None:
    path = pipeline(tmp_path, step=REPAIR, mode="shadow")
    await run_live(path, texts(360, 240), validator=validator())
    done = await assessed(path, None)
    assert done.measured.always == Money(nano=done.measured.n * 105_000)
    assert done.escalation is not None
    assert done.escalation.times > 4.0
    assert done.recommendation == "always_validate"
    assert "logged request did" not in done.words


async def test_a_price_that_is_not_known_is_told_with_the_recommendation(tmp_path: Path) -> None:
    """The log knows what its requests cost; the book does not know the validator."""
    path = pipeline(tmp_path, step=REPAIR)
    dump(path.parent / "prices.yaml", {**PRICES, "prices": PRICES["prices"][:1]})
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 150), cost_usd=0.01))
    assert done.escalation is None
    assert done.recommendation == "cascade"
    assert "in mode repair it also reads the draft and costs more" in done.words.splitlines()[-1]


async def test_a_task_without_a_draft_is_the_validators_own_whatever_the_mode(tmp_path: Path) -> None:
    """A rule before the draft sends it there: it has nothing to repair."""
    path = pipeline(tmp_path, step=REPAIR)
    hard = {"name": "hard", "when": 'task.input.text.contains("unsure")', "then": "escalate"}
    dump(path.parent / "policy.yaml", {**POLICY, "before": [*POLICY["before"], hard]})
    done = await assessed(path, log(tmp_path / "logs.jsonl", texts(450, 60)))
    assert done.escalation is not None
    assert done.escalation.times > 1.5
    assert value_of(done.measured.bill) < escalated(done) * done.escalation.times
    assert value_of(done.measured.bill) >= escalated(done)


# -- the recommendation ------------------------------------------------------------------------------------------------


def test_a_cost_above_always_validating_is_no_recommendation_even_without_an_interval() -> None:
    records = [Record(score=0.9, draft_ok=True, draft_cost=1, validator_cost=9)] * 90
    certificate = certify([*records, *[Record(score=0.1, draft_ok=False, draft_cost=1, validator_cost=9)] * 90],
                          max_regret=0.03)
    usd = Money(nano=10)
    served = [Served(accepted=i < 2, regretted=False, draft_cost=usd, validator_cost=usd, times=2.0) for i in range(5)]
    measured = measure(served)
    assert measured.cost == Share(value=pytest.approx(2.2), low=None, high=None)
    price = EscalationPrice(times=2.0, modes=("repair",), recorded=12)
    assert recommend(certificate, measured, price, "") == (
        "undecided",
        "the cascade costs 220.0% of always validating: assess a larger sample; in mode redo it costs 160.0%",
    )


def test_the_validators_bill_alone_can_tell_that_it_does_not_pay() -> None:
    certificate = certify([Record(score=0.9, draft_ok=True)] * 90, max_regret=0.03)
    usd = Money(nano=10)
    served = [Served(accepted=i % 2 == 0, regretted=False, validator_cost=usd, times=3.0) for i in range(200)]
    measured = measure(served)
    assert measured.cost is None
    found, why = recommend(certificate, measured, EscalationPrice(times=3.0, modes=("judge",), recorded=12), "")
    assert (found, "it does not pay in mode judge; in mode redo it costs 50.0%" in why) == ("always_validate", True)


@pytest.mark.parametrize(("n", "share", "spread"), [(60, 0.1, 0.05), (60, 0.5, 0.7), (200, 0.3, 1.0)])
def test_the_interval_covers_a_cost_of_several_times_the_answer(n: int, share: float, spread: float) -> None:
    """A tenth of the tasks get no draft: those are the validator's at its own price."""
    draws, covered, shown = random.Random(11), 0, 0
    for _ in range(400):
        bills = [math.exp(spread * draws.gauss(0.0, 1.0)) for _ in range(n)]
        times = [1.0 if draws.random() < 0.1 else 3.0 for _ in range(n)]
        paid = [each == 1.0 or draws.random() < share for each in times]
        found = ratio(bills, paid, [0.02 * bill for bill in bills], times=times)
        if found.low is not None and found.high is not None:
            shown += 1
            covered += found.low <= 0.1 + 0.9 * 3.0 * share + 0.02 <= found.high
    assert covered >= 0.94 * shown
    assert shown > 300


def test_an_interval_of_a_known_price_is_the_plain_one_scaled() -> None:
    bills, paid = [1.0] * 80, [i % 4 == 0 for i in range(80)]
    plain, thrice = ratio(bills, paid), ratio(bills, paid, times=[3.0] * 80)
    assert plain.low is not None
    assert plain.high is not None
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((0.75, 3.0 * plain.low, 3.0 * plain.high))
