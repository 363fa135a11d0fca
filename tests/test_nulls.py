"""What of a check's findings is granted to a validator that may be wrong itself: what a certificate's records tell."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline
from orchestrator.cascade.nulls import Promise, broken, promise_of, promised
from orchestrator.quality import Record, certify
from orchestrator.quality.drift import Stretch
from tests.lapsing import A, both, write_certified

MEASURED: dict[str, Any] = {
    "reference": "label", "max_regret": 0.03, "n": 600, "accepted": 291, "regretted": 12.0,
    "validator_accuracy": 0.9617, "validator_asked": 291, "validator_wrong": 9,
}
EARLIER = {key: MEASURED[key] for key in ("reference", "max_regret", "validator_accuracy")}


async def watched(folder: Path, fields: dict[str, Any], kind: str | None = None, **settings: Any) -> Promise:
    """What is watched under a certificate with these fields, and with a fitted confidence of this kind."""
    path = write_certified(folder, certificate=fields, **settings)
    async with Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline:
        rt = await pipeline.runtime()
        (step,) = rt.steps
        if kind is not None:
            fitted = replace(step.loaded.confidence, fitted={"model": {"kind": kind}})
            step = replace(step, loaded=replace(step.loaded, confidence=fitted))
        promise = promise_of(rt, step)
    assert promise is not None
    return promise


def against(wrong: int, of: int, rate: float) -> float:
    """How much more likely so many are at a rate below this one, each as likely as the others, than at it: summed."""
    below = [(i + 0.5) / 100_000 * rate for i in range(100_000)]
    times = (wrong * math.log(u / rate) + (of - wrong) * math.log((1 - u) / (1 - rate)) for u in below)
    return math.log(math.fsum(map(math.exp, times)) / 100_000)


async def test_what_the_records_say_against_a_validator_wrong_that_often_is_all_that_the_next_case_is_given(
    tmp_path: Path
) -> None:
    promise = await watched(tmp_path, MEASURED)
    assert promise.false_alarm == pytest.approx(0.1)
    assert promise.cases[0].records == 0.0
    assert promise.beyond == pytest.approx(math.log(10.0))
    granted = [case.regret.granted for case in promise.cases]
    assert granted == sorted(granted)
    assert granted[0] > 9 / 600
    said = [*(case.records for case in promise.cases[1:]), promise.beyond]
    assert [against(9, 600 - 12 - 1, rate) for rate in granted] == pytest.approx(said, abs=1e-3)


async def test_a_validator_that_is_wrong_where_drafts_escalate_hides_no_drift(tmp_path: Path) -> None:
    """The same checks, of a drafter that turned bad: 30 of 100 that were made of every tenth accepted draft."""
    stretches = [Stretch(tasks=2000, drawn=100, wrong={0.1: 30})]
    earlier = await watched(tmp_path / "earlier", EARLIER | {"validator_accuracy": 0.9})
    assert broken(earlier, stretches) is None
    promise = await watched(tmp_path / "now", MEASURED | {"validator_accuracy": 0.9})
    shown = broken(promise, stretches)
    assert shown is not None
    assert f"{shown.nulls.regret}" == "0.0619 (0.03 and about 0.0319 by which the validator itself is wrong)"


async def test_what_the_checks_show_must_stand_against_every_case_that_the_records_leave_possible(
    tmp_path: Path
) -> None:
    """So many wrong that the least which is granted could not explain it, and more could."""
    promise = await watched(tmp_path, MEASURED)
    stretches = [Stretch(tasks=40_000, drawn=2000, wrong={0.1: 270})]
    least = replace(promise, cases=promise.cases[:1])
    assert broken(least, stretches) is not None
    assert broken(promise, stretches) is None


async def test_a_certificate_of_before_grants_all_of_the_validators_error_as_it_did(tmp_path: Path) -> None:
    promise = await watched(tmp_path, EARLIER)
    (only,) = promise.cases
    assert (only.regret.granted, only.records) == (pytest.approx(0.0383), 0.0)


async def test_among_accepted_drafts_the_accepted_ones_alone_are_counted(tmp_path: Path) -> None:
    """So a selective certificate is watched, and so is a fitted confidence."""
    selective = await watched(tmp_path / "a", {**MEASURED, "loss": "selective"})
    assert against(9, 291, selective.cases[-1].regret.granted) == pytest.approx(selective.beyond, abs=1e-3)
    fitted = await watched(tmp_path / "b", MEASURED, "logistic", drift={"false_alarm": 0.08})
    assert fitted.beyond == pytest.approx(math.log(2 / 0.08))
    last = fitted.cases[-1]
    assert last.calibration is not None
    assert against(9, 291, last.calibration.granted) == pytest.approx(fitted.beyond, abs=1e-3)
    assert against(9, 587, last.regret.granted) == pytest.approx(fitted.beyond, abs=1e-3)


async def test_where_two_are_watched_one_that_is_off_suffices(tmp_path: Path) -> None:
    promise = await watched(tmp_path, MEASURED, "logistic")
    assert broken(promise, [Stretch(tasks=2000, drawn=100, wrong={0.1: 5}, gaps=(0.05,) * 100)]) is None
    shown = broken(promise, [Stretch(tasks=2000, drawn=100, wrong={0.1: 5}, gaps=(0.6,) * 100)])
    assert shown is not None
    assert shown.found.calibration is not None
    assert shown.found.calibration > shown.found.regret


@pytest.mark.parametrize("fields", [{"reference": "validator"}, {"validator_asked": 0, "validator_accuracy": None}])
async def test_nothing_is_granted_where_the_validator_is_the_reference_or_was_not_asked(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    promise = await watched(tmp_path, {**MEASURED, **fields})
    assert [case.regret.granted for case in promise.cases] == [0.0]


async def test_records_on_which_the_validator_was_asked_stand_for_the_other_accepted_ones(tmp_path: Path) -> None:
    promise = await watched(tmp_path, {**MEASURED, "reference": "proof", "validator_asked": 97})
    assert against(9, 587, promise.cases[-1].regret.granted / 3) == pytest.approx(promise.beyond, abs=1e-3)


@pytest.mark.parametrize(("wrong", "asked"), [(0, 291), (291, 291)])
async def test_a_validator_that_was_never_or_always_wrong_is_granted_what_that_leaves_possible(
    tmp_path: Path, wrong: int, asked: int
) -> None:
    counts = {"validator_wrong": wrong, "validator_asked": asked, "n": 291, "regretted": 0.0}
    promise = await watched(tmp_path, {**MEASURED, **counts}, drift={"false_alarm": 1e-30})
    least, most = promise.cases[0].regret, promise.cases[-1].regret
    assert (0.0 < least.granted < most.granted < 0.25) if wrong == 0 else least.most == most.most == 0.999


def drawn(draw: random.Random, n: int) -> list[Record]:
    """Of a draft with confidence s the regret is 0.3 (1 - s)^2, and the validator is wrong with 0.02 + 0.04 (1 - s)."""
    records = []
    for _ in range(n):
        s, u = draw.random(), draw.random()
        regret = 0.3 * (1 - s) ** 2
        wrong = regret <= u < regret + 0.02 + 0.04 * (1 - s)
        records.append(Record(score=s, draft_ok=u >= regret and not (wrong and draw.random() < 0.3),
                              validator_ok=not wrong))
    return records


@pytest.mark.parametrize(("loss", "tolerance"), [("regret", 0.05), ("selective", 0.08)])
def test_what_the_records_say_against_the_truth_is_fair_though_the_threshold_is_chosen_on_them(
    loss: Any, tolerance: float
) -> None:
    """Its e-value is 1 on average at most. So it is large with a small probability: 4 with a quarter at most."""
    draw, values = random.Random(5), []
    for _ in range(600):
        found = certify(drawn(draw, 250), max_regret=tolerance, loss=loss)
        if found.threshold is None:
            continue
        promise = promised({"reference": "label", **found.body()}, calibration_error=None, false_alarm=0.01)
        accepted = 1.0 - found.threshold
        truth = 0.02 * accepted * (1.0 + accepted) / (1.0 if loss == "regret" else accepted)
        refuted = [case.records for case, before in zip(promise.cases[1:], promise.cases, strict=False)
                   if before.regret.granted < truth]
        values.append(math.exp(max(refuted, default=0.0)))
    assert len(values) > 400
    assert sum(values) / len(values) < 1.6  # where nothing is said, 1 is counted here
    assert 0 < sum(value >= 4.0 for value in values) / len(values) < 0.1


def test_a_certificate_counts_where_the_validator_was_wrong_among_the_records_that_it_accepts() -> None:
    sure = [Record(score=1.0 - i / 1000, draft_ok=True, validator_ok=[True, False, None][i % 3]) for i in range(300)]
    rest = [Record(score=0.1, draft_ok=False, validator_ok=i > 50) for i in range(100)]
    found = certify([*sure, *rest], max_regret=0.03)
    assert (found.accepted, found.validator_asked, found.validator_wrong) == (300, 200, 100)


def test_of_grades_it_counts_nothing() -> None:
    found = certify([Record(score=i / 100, draft_ok=1.0, validator_ok=0.9) for i in range(100)], max_regret=0.1)
    assert (found.accepted, found.validator_asked, found.validator_wrong) == (100, None, None)
