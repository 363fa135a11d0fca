"""What a confidence can't be fitted on, and what the error says is needed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.quality.fitted.confidence import fit_confidence, fit_gate
from orchestrator.quality.fitted.cross_fit import Data
from orchestrator.quality.fitted.feature_table import feature_table
from tests.labelled_drafts import drafts

KNOWN = drafts(60, seed=1)
NAN_LABELS = [*KNOWN.right[:58], math.nan, math.nan]
Fault = tuple[Callable[[], Any], str]

FAULTS: dict[str, Fault] = {
    "no records": (lambda: fit_confidence([], []), "takes 50, at least 10 of them right and 10 wrong"),
    "a label missing": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right[:-1]), "59 labels for 60 records: give one each"),
    "labels that are NaN": (
        lambda: fit_confidence(KNOWN.features, NAN_LABELS), "2 of 60 labels are neither True, False nor a grade"),
    "labels that are None": (
        lambda: fit_confidence(KNOWN.features, [*KNOWN.right[:59], None]),  # type: ignore[list-item]
        "the first is record 59: None"),
    "a grade above 1": (lambda: fit_confidence(KNOWN.features, [2.0] * 60), "60 of 60 labels"),
    "all right": (lambda: fit_confidence(KNOWN.features, [True] * 60), "all 60 labelled drafts are right"),
    "all wrong": (lambda: fit_confidence(KNOWN.features, [False] * 60), "all 60 labelled drafts are wrong"),
    "an unknown name": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right, names=["lp_mena"]), "no record has the feature 'lp_mena'"),
    "a feature that is text": (
        lambda: fit_confidence([{"lp_mean": "-0.1"}] * 60, KNOWN.right),  # type: ignore[list-item,dict-item]
        "the feature 'lp_mean' is '-0.1'"),
    "tags for other records": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right, tags=[{}]), "1 tags for 60 records"),
    "a tag that could be read in two ways": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right, tags=[{"a=b": "c"}] * 60), "the tag 'a=b' has a '='"),
    "a weight of 0": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right, weights=[0.0] + [1.0] * 59), "weight of record 0 is 0.0"),
    "a weight that is NaN": (
        lambda: fit_confidence(KNOWN.features, KNOWN.right, weights=[1.0] * 59 + [math.nan]), "record 59 is nan"),
    "nothing to fall back on": (
        lambda: fit_confidence([{"chars": 1.0}] * 20, [True, False] * 10), "no record has the raw signal 'lp_mean'"),
    "a gate from few labels": (
        lambda: fit_gate(KNOWN.features[:40], KNOWN.right[:40]), "no gate: a fit takes 50 labels and there are 40"),
    "a gate of the draft": (
        lambda: fit_gate(KNOWN.features, KNOWN.right, names=["lp_mean"]), "it can't read 'lp_mean'"),
    "a gate without features": (
        lambda: fit_gate([{"lp_mean": -0.1}] * 60, KNOWN.right), "no feature varies between the records"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_not_be_fitted_on_is_told(fault: str) -> None:
    fit, told = FAULTS[fault]
    with pytest.raises(InputError) as raised:
        fit()
    assert told in str(raised.value)


def test_a_gate_that_tells_nothing_is_refused() -> None:
    features = [{"task_chars": float(i)} for i in range(100)]
    with pytest.raises(InputError, match="the task alone does not tell which drafts will be right"):
        fit_gate(features, [i % 2 == 0 for i in range(100)])


@pytest.mark.parametrize("crazy", [1e300, -1e300, math.inf, math.nan])
def test_a_crazy_value_does_not_spoil_the_fit(crazy: float) -> None:
    known = drafts(120, seed=1)
    features = [dict(row) for row in known.features]
    features[0]["task_chars"] = features[1]["lp_mean"] = crazy
    fitted, clean = fit_confidence(features, known.right), fit_confidence(known.features, known.right)
    assert "Infinity" not in json.dumps(fitted.body())
    assert "NaN" not in json.dumps(fitted.body())
    assert fitted.measured["auroc"] == pytest.approx(clean.measured["auroc"], abs=0.1)


def test_heavily_unequal_weights_count_as_the_few_labels_they_are_worth() -> None:
    known = drafts(200, seed=1)
    fitted = fit_confidence(known.features, known.right, weights=[1000.0] * 20 + [1.0] * 180)
    assert fitted.is_raw
    assert "there are 200, which tell as much as 20 of equal weight" in fitted.words


def test_equal_weights_are_no_weights() -> None:
    made = feature_table(KNOWN.features, KNOWN.right, tags=None, names=None, weights=[4.0] * 60, groups=None,
                         before_draft=False)
    assert made.weights is None


def test_the_same_features_labelled_both_ways_are_no_fault() -> None:
    known = drafts(150, seed=4)
    twice = fit_confidence([*known.features, *known.features], [*known.right, *(not r for r in known.right[:40]),
                                                                *known.right[40:]])
    assert twice.fitted_on["n"] == 300


def test_records_of_one_group_stand_in_one_fold() -> None:
    known = drafts(300, seed=5)
    groups = [i % 70 for i in range(300)]
    made = feature_table(known.features, known.right, tags=None, names=None, weights=None, groups=groups,
                         before_draft=False)
    folds = Data.of(made).folds(5, seed=1).tolist()
    assert {len({f for f, g in zip(folds, groups, strict=True) if g == group}) for group in range(70)} == {1}
    assert {folds.count(fold) for fold in range(5)} <= set(range(40, 81))


def test_right_and_wrong_are_spread_evenly_over_the_folds() -> None:
    known = drafts(200, seed=5)
    right = [i < 20 for i in range(200)]
    made = feature_table(known.features, right, tags=None, names=None, weights=None, groups=None, before_draft=False)
    folds = Data.of(made).folds(10, seed=1).tolist()
    assert {sum(r for r, f in zip(right, folds, strict=True) if f == fold) for fold in range(10)} == {2}


def test_groups_that_hold_all_of_a_kind_are_told() -> None:
    known = drafts(200, seed=5)
    right = [i >= 30 for i in range(200)]
    with pytest.raises(InputError, match="too few of 171 groups to spread over 10 folds"):
        fit_confidence(known.features, right, groups=[max(i, 29) for i in range(200)])


WITHOUT_THE_EXTRA = """
import sys
sys.modules["sklearn"] = None
from orchestrator.errors import ConfigError
from orchestrator.quality.fitted.confidence import fit_confidence
from tests.labelled_drafts import drafts
known = drafts(40, seed=1)
assert fit_confidence(known.features, known.right).is_raw
assert "numpy" not in sys.modules
known = drafts(60, seed=1)
try:
    fit_confidence(known.features, known.right)
except ConfigError as error:
    assert error.hint == "pip install 'draftgate[quality]'", error.hint
    assert "scikit-learn" in str(error)
else:
    raise AssertionError("fitted without scikit-learn")
"""


def test_without_the_extra_the_raw_signal_works_and_a_fit_says_what_to_install() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], check=True)
