"""A fitted confidence as it is read and applied: what the numbers mean, and every file that is refused."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cascade.confidence import FittedConfidence, sigmoid
from orchestrator.config.confidence import read_confidence
from orchestrator.errors import ConfigError

LOGISTIC = {
    "kind": "logistic", "fill": [-0.5, None, None], "means": [-0.4, 100.0, 0.0], "scales": [0.2, 50.0, 1.0],
    "clip": 5.0, "weights": [1.5, -0.25, 0.75], "intercept": 0.5,
}
ARTEFACT: dict[str, Any] = {
    "kind": "confidence", "format": 1, "pipeline": "orders", "step": "extract", "role": "draft",
    "created": "2026-01-01T00:00:00+00:00", "features": ["lp_mean", "task_chars", "tag.lang=de"], "model": LOGISTIC,
    "calibration": {"kind": "platt", "slope": 1.2, "offset": -0.1},
    "fitted_on": {"n": 400, "right": 300, "reference": "label", "from": None, "to": None},
    "measured": {"auroc": 0.8, "reliability": []}, "fingerprint": {"prompt": "ab12"},
}
STUMPS = {
    "kind": "trees", "fill": [None, 80.0, None], "base": 0.25,
    "trees": [
        {"feature": [0, -1, 1, -1, -1], "threshold": [-0.5, 0, 90.0, 0, 0], "left": [1, 0, 3, 0, 0],
         "right": [2, 0, 4, 0, 0], "value": [0, -1.0, 0, 0.5, 0.125]},
        {"feature": [-1], "threshold": [0], "left": [0], "right": [0], "value": [0.0625]},
    ],
}


def artefact(**changed: Any) -> dict[str, Any]:
    return copy.deepcopy(ARTEFACT | changed)


def written(folder: Path, body: Any) -> Path:
    path = folder / "extract.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return path


def test_a_logistic_artefact_is_its_formula() -> None:
    z = 0.5 + 1.5 * (-0.1 + 0.4) / 0.2 - 0.25 * (40.0 - 100.0) / 50.0 + 0.75
    fitted = FittedConfidence(ARTEFACT)
    assert fitted.log_odds({"lp_mean": -0.1, "task_chars": 40.0}, {"lang": "de"}) == pytest.approx(z, abs=1e-12)
    expected = 1.0 / (1.0 + math.exp(-(1.2 * z - 0.1)))
    assert fitted.of({"lp_mean": -0.1, "task_chars": 40.0}, {"lang": "de"}) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_what_is_missing_counts_as_its_fill(missing: float | None) -> None:
    fitted = FittedConfidence(ARTEFACT)
    assert fitted.of({"lp_mean": missing, "task_chars": 40.0}, {}) == fitted.of(
        {"lp_mean": -0.5, "task_chars": 40.0}, {}
    )


def test_what_was_never_missing_when_fitted_leaves_the_confidence_unknown() -> None:
    assert FittedConfidence(ARTEFACT).of({"lp_mean": -0.1}, {"lang": "de"}) is None


@pytest.mark.parametrize(("meta", "is_there"), [
    ({"lang": "de"}, True), ({"lang": "en"}, False), ({}, False), ({"lang": None}, False), ({"lang": "de "}, False),
])
def test_a_tag_counts_where_its_text_is_equal(meta: dict[str, Any], is_there: bool) -> None:
    fitted = FittedConfidence(ARTEFACT)
    features = {"lp_mean": -0.4, "task_chars": 100.0}
    assert fitted.log_odds(features, meta) == pytest.approx(0.5 + 0.75 * is_there)


def test_a_tag_of_a_number_is_compared_as_text_and_may_hold_an_equals_sign() -> None:
    body = artefact(features=["lp_mean", "tag.tier=1", "tag.rule=a=b"])
    body["model"]["fill"] = [None, None, None]
    fitted = FittedConfidence(body)
    both = fitted.log_odds({"lp_mean": -0.4}, {"tier": 1, "rule": "a=b"})
    assert both == pytest.approx(0.5 - 0.25 * (1 - 100) / 50 + 0.75)


def test_one_crazy_value_does_not_decide_alone() -> None:
    fitted = FittedConfidence(ARTEFACT)
    crazy = fitted.log_odds({"lp_mean": -0.4, "task_chars": 1e300}, {})
    assert crazy == fitted.log_odds({"lp_mean": -0.4, "task_chars": 100.0 + 5.0 * 50.0}, {}) == 0.5 - 0.25 * 5.0


@pytest.mark.parametrize(("lp", "chars", "z"), [
    (-0.5, 10.0, -1.0), (-0.4, 90.0, 0.5), (-0.4, 90.5, 0.125), (-0.4, None, 0.5),
])
def test_trees_go_left_up_to_the_threshold_and_add_their_leaves(lp: float, chars: float | None, z: float) -> None:
    fitted = FittedConfidence(artefact(model=STUMPS, calibration={"kind": "none"}))
    assert fitted.log_odds({"lp_mean": lp, "task_chars": chars}, {}) == 0.25 + z + 0.0625
    assert fitted.of({"lp_mean": lp, "task_chars": chars}, {}) == sigmoid(0.25 + z + 0.0625)


def test_a_raw_signal_passes_through_and_is_unknown_where_it_is_missing() -> None:
    body = artefact(features=["lp_mean"], model={"kind": "signal"}, calibration={"kind": "none"})
    fitted = FittedConfidence(body)
    assert not fitted.is_probability
    assert fitted.of({"lp_mean": -0.125}, {}) == -0.125
    assert fitted.of({"lp_mean": None}, {}) is None
    assert fitted.of({}, {}) is None


ISOTONIC = {"kind": "isotonic", "x": [-2.0, -0.5, 1.0, 3.0], "y": [0.1, 0.3, 0.7, 0.95]}


def through(calibration: dict[str, Any]) -> FittedConfidence:
    """z itself is the only feature."""
    model = {"kind": "logistic", "fill": [None], "means": [0.0], "scales": [1.0], "weights": [1.0], "intercept": 0.0}
    return FittedConfidence(artefact(features=["z"], model=model, calibration=calibration))


def test_isotonic_is_linear_between_its_centres() -> None:
    fitted = through(ISOTONIC)
    for z, p in ((-2.0, 0.1), (-0.5, 0.3), (0.25, 0.5), (2.0, 0.825), (3.0, 0.95)):
        assert fitted.of({"z": z}, {}) == pytest.approx(p, abs=1e-12)


@given(st.lists(st.integers(-2000, 2000), min_size=2, max_size=30, unique=True))
@pytest.mark.parametrize("calibration", [ISOTONIC, {"kind": "platt", "slope": 0.3, "offset": 1.0}, {"kind": "none"}])
def test_calibration_keeps_the_order_and_makes_no_ties(calibration: dict[str, Any], steps: list[int]) -> None:
    fitted = through(calibration)
    probabilities = [fitted.of({"z": step / 100}, {}) for step in sorted(steps)]
    assert all(a is not None and b is not None and 0 <= a < b <= 1
               for a, b in pairwise(probabilities))


@given(st.floats(allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("calibration", [ISOTONIC, {"kind": "platt", "slope": 0.3, "offset": 1.0}, {"kind": "none"}])
def test_every_finite_number_gives_a_probability(calibration: dict[str, Any], z: float) -> None:
    p = through(calibration).of({"z": z}, {})
    assert p is not None
    assert 0.0 <= p <= 1.0


def test_sums_beyond_what_a_float_holds_are_unknown() -> None:
    model = {"kind": "logistic", "fill": [None, None], "means": [0.0, 0.0], "scales": [1e-300, 1e-300],
             "weights": [1.0, -1.0], "intercept": 0.0}
    fitted = FittedConfidence(artefact(features=["a", "b"], model=model, calibration=ISOTONIC))
    assert fitted.of({"a": 1e300, "b": 1e300}, {}) is None


def test_a_file_reads_back_as_written(tmp_path: Path) -> None:
    for body in (ARTEFACT, artefact(model=STUMPS), artefact(calibration=ISOTONIC), artefact(note="kept")):
        assert read_confidence(written(tmp_path, body)) == body


def changed(path: str, value: Any, base: dict[str, Any] = ARTEFACT) -> dict[str, Any]:
    body = copy.deepcopy(base)
    *keys, last = path.split("/")
    place: Any = body
    for key in keys:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return body


TREES = artefact(model=STUMPS)
REFUSED = {
    "another kind of file": (changed("kind", "certificate"), "kind: 'certificate' is none of confidence"),
    "a later format": (changed("format", 2), "format: 2 is none of 1"),
    "no features": (changed("features", []), "features"),
    "a feature twice": (changed("features/1", "lp_mean"), "'lp_mean' stands twice"),
    "a tag without value": (changed("features/2", "tag.lang"), "write 'tag.KEY=VALUE'"),
    "a model of no known kind": (changed("model/kind", "pickle"), "'pickle'"),
    "a key in a model that might change its meaning": (changed("model/bias", 1.0), "unknown key 'model.bias'"),
    "too few weights": (changed("model/weights", [1.0]), "model.weights has 1 entries for 3 features"),
    "a scale of 0": (changed("model/scales/1", 0.0), "greater than 0"),
    "a weight that is text": (changed("model/weights/0", "heavy"), "valid number"),
    "a number written as text": (changed("model/weights/0", "1.5"), "valid number"),
    "a truth value for a number": (changed("model/intercept", True), "valid number"),
    "a node that is no whole number": (changed("model/trees/0/left/0", 1.0, TREES), "valid integer"),
    "a weight that is no number": (changed("model/weights/0", None), "valid number"),
    "a slope that turns the order round": (changed("calibration/slope", -1.0), "greater than 0"),
    "levels that tie": (artefact(calibration=ISOTONIC | {"y": [0.1, 0.3, 0.3, 0.9]}), "y must increase"),
    "a level above 1": (artefact(calibration=ISOTONIC | {"y": [0.1, 0.3, 0.7, 1.5]}), "less than or equal to 1"),
    "one level too few": (artefact(calibration=ISOTONIC | {"y": [0.1, 0.3, 0.7]}), "x has 4 entries and y 3"),
    "a tree that never ends": (changed("model/trees/0/left/2", 0, TREES), "node 2 has the child 0"),
    "a child outside the tree": (changed("model/trees/0/right/2", 9, TREES), "node 2 has the child 9"),
    "a tree of a feature that is not there": (changed("model/trees/0/feature/0", 3, TREES), "asks for feature 3"),
    "lists of a tree that differ": (changed("model/trees/0/value", [0.0], TREES), "value has 1 entries for 5 nodes"),
    "a raw signal of two features": (
        artefact(model={"kind": "signal"}, calibration={"kind": "none"}), "one feature through, not 3"),
    "a raw signal that is calibrated": (artefact(features=["a"], model={"kind": "signal"}), "no log-odds"),
    "a gate that reads the draft": (changed("role", "gate"), "a gate stands before the draft: it can't read 'lp_mean'"),
    "no fingerprint": ({k: v for k, v in ARTEFACT.items() if k != "fingerprint"}, "'fingerprint' is missing"),
    "a list": ([], "a map of keys is needed"),
    "NaN": (json.dumps(ARTEFACT).replace("0.75", "NaN"), "NaN is not JSON"),
    "a number beyond floats": (json.dumps(ARTEFACT).replace("0.75", "1e999"), "finite"),
    "no JSON": ("{", "not JSON"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_file_that_could_not_be_applied_is_refused(fault: str, tmp_path: Path) -> None:
    body, told = REFUSED[fault]
    with pytest.raises(ConfigError) as raised:
        read_confidence(written(tmp_path, body))
    assert told in str(raised.value)
    assert "extract.json" in str(raised.value)


def test_applying_takes_nothing_but_the_language() -> None:
    code = (
        "import sys, orchestrator.cascade.confidence\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'pydantic', 'litellm', 'langgraph'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
