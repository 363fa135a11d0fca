"""What `certify` refuses and in which words, the costs of cascades and gates, and the advice that follows from them."""

from __future__ import annotations

import math
import subprocess
import sys
from decimal import Decimal

import pytest

from orchestrator.quality import Record, certify, records_needed
from orchestrator.quality.records import Loss


def mixed(
    sure: int, unsure: int, draft: float | None, validator: float | None, asked: bool | None = None
) -> list[Record]:
    """`sure` right drafts at score 1, `unsure` wrong ones at 0.1."""
    return [Record(1.0, True, asked, draft, validator)] * sure + [Record(0.1, False, asked, draft, validator)] * unsure


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score": "high"}, "score is 'high': give a number, NaN"),
        ({"score": None}, "score is None"),
        ({"score": 1 + 2j}, "score is"),
        ({"draft_ok": math.nan}, "draft_ok is nan: give True, False or a grade from 0 to 1"),
        ({"draft_ok": None}, "draft_ok is None: .* leave unlabelled tasks out"),
        ({"draft_ok": "yes"}, "draft_ok is 'yes'"),
        ({"draft_ok": 1.5}, "draft_ok is 1.5"),
        ({"validator_ok": -0.1}, "validator_ok is -0.1"),
        ({"validator_ok": math.nan}, "validator_ok is nan: .* None if not asked"),
        ({"draft_cost": math.nan}, "draft_cost is nan: give a finite number from 0, None if unknown"),
        ({"draft_cost": Decimal("NaN")}, "draft_cost is Decimal"),
        ({"validator_cost": -1}, "validator_cost is -1"),
        ({"validator_cost": math.inf}, "validator_cost is inf"),
        ({"validator_cost": "3"}, "validator_cost is '3'"),
        ({"propensity": 0.0}, "propensity is 0.0"),
        ({"propensity": 1.5}, "propensity is 1.5"),
        ({"propensity": math.nan}, "propensity is nan"),
    ],
)
def test_a_record_refuses_what_is_no_score_grade_cost_or_probability(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Record(**{"score": 0.5, "draft_ok": True, **values})  # type: ignore[arg-type]


def test_what_is_no_record_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"records\[1\] is \(0.5, True\): give an orchestrator.quality.Record"):
        certify([Record(0.5, True), (0.5, True)], max_regret=0.03)  # type: ignore[list-item]


@pytest.mark.parametrize("loss", ["regret", "selective"])
def test_records_and_traffic_may_come_one_by_one(loss: Loss) -> None:
    records = [*mixed(200, 50, 1, 20), *(Record(0.5, True, propensity=0.5) for _ in range(50))]
    scores = [i / 100 for i in range(100)]
    for traffic in (None, scores):
        listed = certify(records, max_regret=0.05, loss=loss, traffic=traffic)
        one_by_one = None if traffic is None else iter(traffic)
        assert certify(iter(records), max_regret=0.05, loss=loss, traffic=one_by_one) == listed


@pytest.mark.parametrize(("tolerance", "confidence", "n"), [(0.03, 0.9, 76), (0.05, 0.9, 45), (0.01, 0.9, 230)])
def test_the_records_needed_are_the_fewest_that_certify_without_a_loss(
    tolerance: float, confidence: float, n: int
) -> None:
    assert records_needed(tolerance, confidence) == n
    assert certify([Record(0.5, True)] * n, max_regret=tolerance, confidence=confidence).threshold == 0.5
    too_few = certify([Record(0.5, True)] * (n - 1), max_regret=tolerance, confidence=confidence)
    assert too_few.threshold is None
    assert f"it takes {n}" in too_few.reasons[0]


def test_a_later_try_says_how_many_more_it_takes() -> None:
    found = certify([Record(0.5, True)] * 76, max_regret=0.03, attempt=3)
    assert f"it takes {records_needed(0.03, 1 - 0.1 / 8)}" in found.reasons[0]


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, math.nan])
def test_records_needed_refuses_what_is_no_share(wrong: float) -> None:
    with pytest.raises(ValueError, match="give a share between 0 and 1"):
        records_needed(wrong)
    with pytest.raises(ValueError, match="give a share between 0 and 1"):
        records_needed(0.03, wrong)


def test_numbers_of_numpy_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    rows = [Record(np.float32(0.5), np.bool_(True), None, np.int64(1), np.float64(10))] * 100
    assert certify(rows, max_regret=0.03).threshold == 0.5


def test_for_the_selective_error_only_the_drafts_grade_matters() -> None:
    rows = [Record(i / 400, i > 20, 0.5) for i in range(400)]
    assert certify(rows, max_regret=0.1, loss="selective").method.startswith("exact binomial")


def test_all_wrong_and_all_right_under_the_selective_error() -> None:
    wrong = certify([Record(0.5, False)] * 200, max_regret=0.05, loss="selective")
    right = certify([Record(0.5, True)] * 200, max_regret=0.05, loss="selective")
    assert (wrong.threshold, wrong.recommendation) == (None, "always_validate")
    assert (right.threshold, right.recommendation) == (0.5, "always_draft")
    assert "the selective error stays within 0.05" in right.reasons[0]


def test_a_cascade_dearer_than_validating_says_that_it_pays_for_every_draft() -> None:
    found = certify(mixed(50, 150, 3, 10), max_regret=0.03)
    assert (found.recommendation, found.cost_ratio) == ("always_validate", pytest.approx((600 + 1500) / 2000))
    assert "accepts 50 of 200 drafts and costs 1.05 x always validating" in found.reasons[0]
    assert "a cascade pays for the draft on every task" in found.reasons[1]


def test_the_same_threshold_pays_as_a_gate_which_drafts_only_what_it_lets_through() -> None:
    found = certify(mixed(50, 150, 3, 10), max_regret=0.03, drafts_first=False)
    assert (found.recommendation, found.drafts_first) == ("cascade", False)
    assert found.cost_ratio == pytest.approx((50 * 3 + 1500) / 2000)
    assert "undrafted" in found.reasons[1]


def test_a_gate_that_certifies_nothing_costs_what_validating_costs() -> None:
    assert certify(mixed(0, 200, 3, 10), max_regret=0.03, drafts_first=False).cost_ratio == 1.0
    assert certify(mixed(0, 200, 3, 10), max_regret=0.03).cost_ratio == pytest.approx(1.3)


def test_a_drafter_as_dear_as_the_validator_never_pays() -> None:
    found = certify(mixed(200, 0, 10, 10), max_regret=0.03)
    assert (found.threshold, found.cost_ratio, found.recommendation) == (1.0, 1.0, "always_validate")
    assert "drafting alone costs 1 x always validating" in found.reasons[1]


def test_where_validating_is_free_there_is_nothing_to_save() -> None:
    found = certify(mixed(200, 0, 1, 0), max_regret=0.03)
    assert (found.cost_ratio, found.recommendation) == (None, "always_validate")
    assert "nothing to save" in found.reasons[0]


@pytest.mark.parametrize(
    ("asked", "why"),
    [(None, "the validator was not asked"), (True, "of 200 records 200 with no cost of a validation)")],
)
def test_an_unknown_cost_is_said_and_not_taken_for_zero(asked: bool | None, why: str) -> None:
    found = certify(mixed(150, 50, 1, None, asked), max_regret=0.03)
    assert (found.cost_ratio, found.recommendation) == (None, "cascade")
    assert f"has an unknown cost ({why}" in found.reasons[0]
    assert "goes by the guarantee alone" in found.reasons[-1]


def test_an_answer_that_never_came_is_told_apart_from_a_price_that_is_not_known() -> None:
    rows = [Record(i / 200, i >= 50, True, 1, 10) for i in range(197)]
    found = certify([*rows, *[Record(0.99, True, None, 1, None)] * 3], max_regret=0.03)
    assert "(of 200 records 3 with no answer of the validator)" in found.reasons[0]
    found = certify([*rows, *[Record(0.99, True, True, None, 10)] * 2], max_regret=0.03)
    assert "(of 199 records 2 with no cost of its draft)" in found.reasons[0]


def test_a_drafter_better_than_the_validator_is_recommended_even_where_no_regret_is_certified() -> None:
    rows = [Record(0.5, True, False, 1, 10)] * 40 + [Record(0.9, False, True, 1, 10)] * 10
    found = certify(rows, max_regret=0.03)
    assert (found.threshold, found.recommendation) == (None, "always_draft")
    assert "40 of the 50" in found.reasons[0]
    assert "it takes 76" in found.reasons[1]


def test_a_validator_that_was_not_asked_is_never_said_to_be_worse() -> None:
    found = certify([Record(0.5, True, None, 1, 10)] * 40, max_regret=0.03)
    assert (found.recommendation, found.validator_accuracy) == ("always_validate", None)
    assert "validator assumed right on 40" in found.computed_from


def test_grades_make_a_drafter_better_by_their_mean_and_not_by_how_often() -> None:
    """Better by a little on most, far worse on the others: a sign test would be fooled."""
    rows = [Record(0.5, 0.6, 0.5, 1, 10)] * 150 + [Record(0.5, 0.0, 1.0, 1, 10)] * 50
    assert certify(rows, max_regret=0.03).recommendation == "always_validate"
    assert certify([Record(0.5, 0.9, 0.2, 1, 10)] * 150, max_regret=0.03).recommendation == "always_draft"


def test_importing_the_names_loads_no_numeric_package_and_gives_the_function() -> None:
    code = (
        "import sys; from orchestrator.quality import Certificate, Record, certify, records_needed\n"
        "found = certify([Record(0.5, True)] * 100, max_regret=0.05, loss='selective', traffic=[0.5] * 9)\n"
        "assert isinstance(found, Certificate) and records_needed(0.05) == 45\n"
        "print(sorted({'numpy', 'scipy', 'sklearn', 'pydantic', 'sqlalchemy', 'langgraph'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
