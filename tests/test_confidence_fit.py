"""Fitting a confidence: what is measured holds on new drafts, choices are honest, and bad labels are told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.config.confidence import read_confidence
from orchestrator.quality.fitted.confidence import FittedArtefact, fit_confidence, fit_gate
from orchestrator.quality.fitted.fitted_models import fit_logistic, fit_trees
from orchestrator.quality.fitted.reliability import auroc, brier
from tests.draft_arrays import data_of, table
from tests.labelled_drafts import Drafts, drafts

NEW = drafts(4000, seed=99)


@pytest.fixture(scope="module")
def some() -> FittedArtefact:
    known = drafts(400, seed=1)
    return fit_confidence(known.features, known.right, tags=known.tags)


@pytest.fixture(scope="module")
def many() -> FittedArtefact:
    known = drafts(1200, seed=2, interaction=2.0)
    return fit_confidence(known.features, known.right, tags=known.tags)


def applied(fitted: FittedArtefact, to: Drafts) -> list[float]:
    apply = FittedConfidence(fitted.body())
    found = [apply.of(f, m) for f, m in zip(to.features, to.tags, strict=True)]
    assert None not in found
    return [p for p in found if p is not None]


def test_what_is_measured_on_held_out_drafts_holds_on_new_ones(some: FittedArtefact) -> None:
    new = applied(some, NEW)
    assert some.model["kind"] == "logistic"
    assert some.calibration["kind"] == "platt"
    assert some.measured["auroc"] == pytest.approx(auroc(new, NEW.right), abs=0.06)
    assert some.measured["brier"] == pytest.approx(brier(new, NEW.right), abs=0.02)
    assert some.measured["auroc"] > some.measured["raw"]["auroc"]
    assert some.measured["folds"] == 5


def test_the_probabilities_are_near_the_true_ones(some: FittedArtefact) -> None:
    gaps = [abs(p - t) for p, t in zip(applied(some, NEW), NEW.truth, strict=True)]
    assert sum(gaps) / len(gaps) < 0.06


def test_many_labels_take_trees_where_no_line_tells_and_an_isotonic_calibration(many: FittedArtefact) -> None:
    new = drafts(4000, seed=98, interaction=2.0)
    assert many.model["kind"] == "trees"
    assert many.calibration["kind"] == "isotonic"
    assert many.measured["auroc"] == pytest.approx(auroc(applied(many, new), new.right), abs=0.03)
    assert many.measured["auroc"] > many.measured["raw"]["auroc"] + 0.1
    assert "gradient boosting taken" in many.words


def test_trees_are_not_taken_where_a_line_tells() -> None:
    known = drafts(1000, seed=3)
    fitted = fit_confidence(known.features, known.right, tags=known.tags)
    assert fitted.model["kind"] == "logistic"
    assert fitted.calibration["kind"] == "isotonic"
    assert "gradient boosting not taken" in fitted.words


def test_a_fit_is_the_same_every_time(some: FittedArtefact) -> None:
    known = drafts(400, seed=1)
    again = fit_confidence(known.features, known.right, tags=known.tags)
    assert json.dumps(again.body()) == json.dumps(some.body())
    assert again.held_out == some.held_out


@pytest.mark.parametrize("which", ["some", "many"])
def test_the_artefact_is_read_back_from_its_file(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fitted: FittedArtefact = request.getfixturevalue(which)
    path = tmp_path / "extract.json"
    caller = {"pipeline": "orders", "step": "extract", "created": "2026-01-01", "fingerprint": {}}
    path.write_text(json.dumps(fitted.body() | caller), encoding="utf-8")
    again = FittedConfidence(read_confidence(path))
    for features, meta in zip(NEW.features[:100], NEW.tags, strict=False):
        assert again.of(features, meta) == fitted.probability(features, meta)


def log_odds(names: list[str], model: dict[str, Any], rows: np.ndarray) -> list[float]:
    apply = FittedConfidence({"features": names, "model": model, "calibration": {"kind": "none"}})
    found = []
    for row in rows.tolist():
        features = dict(zip(names, row, strict=True))
        lang = [name.removeprefix("tag.lang=") for name in names if name.startswith("tag.") and features[name]]
        found.append(apply.log_odds(features, {"lang": lang[0]} if lang else {}))
    return [z for z in found if z is not None]


def crazy(names: list[str], x: np.ndarray) -> np.ndarray:
    """Rows far beyond those of `x`, and one where every number is missing. Tags stay what tags can be."""
    numbers = np.array([not name.startswith("tag.") for name in names])
    return np.vstack([np.where(numbers, x[:5] * 1e12, x[:5]), np.where(numbers, x[:5] * -1e12, x[:5]),
                      np.where(numbers, np.nan, 0.0)[None]])


def test_the_logistic_artefact_agrees_with_scikit_learn() -> None:
    names, x, right = table(500, 5)
    fitted = fit_logistic(data_of(names, x, right), 1.0)
    rows = np.vstack([x, crazy(names, x)])
    ours = log_odds(names, fitted.body([True] * len(names)), rows)
    assert ours == pytest.approx(fitted.log_odds(data_of(names, rows)).tolist(), abs=1e-9)


def test_the_trees_of_the_artefact_are_those_of_scikit_learn() -> None:
    names, x, right = table(1000, 6)
    fitted = fit_trees(data_of(names, x, right), 0)
    body = fitted.body([True] * len(names))
    on_thresholds = []
    for tree in body["trees"]:
        row = x[0].copy()
        if not names[feature := tree["feature"][0]].startswith("tag."):
            row[feature] = tree["threshold"][0]
        on_thresholds.append(row)
    rows = np.vstack([x, crazy(names, x), on_thresholds])
    assert log_odds(names, body, rows) == fitted.log_odds(data_of(names, rows)).tolist()


def test_columns_that_tell_nothing_or_are_mostly_missing_are_left_out(some: FittedArtefact) -> None:
    assert set(some.features) == {
        "lp_mean", "lp_q0", "task_chars", "schema.ok", "task_ascii", "tag.lang=de", "tag.lang=en", "tag.lang=fr",
    }
    assert "stopped (constant)" in some.words
    assert "margin (missing in " in some.words


def test_only_what_was_missing_in_the_fit_may_be_missing_later(some: FittedArtefact) -> None:
    fill = dict(zip(some.features, some.model["fill"], strict=True))
    assert [name for name in some.features if fill[name] is not None] == ["lp_q0"]
    assert some.probability(dict(NEW.features[0]) | {"lp_q0": None}, {}) is not None
    assert some.probability(dict(NEW.features[0]) | {"lp_mean": None}, {}) is None


def test_few_labels_keep_the_raw_signal_and_say_so() -> None:
    known = drafts(40, seed=1)
    fitted = fit_confidence(known.features, known.right, tags=known.tags)
    assert fitted.is_raw
    assert fitted.features == ("lp_mean",)
    assert fitted.probability(known.features[3], {}) == known.features[3]["lp_mean"]
    assert "a fit takes 50 labels and there are 40" in fitted.words
    assert fitted.measured["auroc"] == auroc([f["lp_mean"] or 0.0 for f in known.features], known.right)


def test_few_of_one_kind_keep_the_raw_signal() -> None:
    known = drafts(300, seed=1)
    fitted = fit_confidence(known.features, [i >= 9 for i in range(300)])
    assert fitted.is_raw
    assert "291 of 300 are right" in fitted.words


def test_a_fit_that_orders_no_better_keeps_the_raw_signal() -> None:
    draw = random.Random(1)
    signal = [draw.random() for _ in range(80)]
    features = [{"lp_mean": s, **{f"noise{i}": draw.random() for i in range(20)}} for s in signal]
    fitted = fit_confidence(features, [s + draw.gauss(0.0, 0.3) > 0.5 for s in signal])
    assert fitted.is_raw
    assert "orders no better (AUROC" in fitted.words


def test_unequal_propensities_are_undone_by_weights() -> None:
    known, draw = drafts(6000, seed=7), random.Random(7)
    propensity = [0.06 if right else 0.3 for right in known.right]
    seen = [i for i, p in enumerate(propensity) if draw.random() < p]
    features, right = [known.features[i] for i in seen], [known.right[i] for i in seen]
    fitted = fit_confidence(features, right, weights=[1.0 / propensity[i] for i in seen])
    blind = fit_confidence(features, right)
    rate = sum(NEW.right) / len(NEW.right)
    assert sum(applied(fitted, NEW)) / len(NEW.right) == pytest.approx(rate, abs=0.03)
    assert sum(applied(blind, NEW)) / len(NEW.right) < rate - 0.2


def test_grades_count_in_part() -> None:
    known = drafts(400, seed=8)
    fitted = fit_confidence(known.features, [0.25 + 0.5 * right for right in known.right])
    sharp = fit_confidence(known.features, known.right)
    expected = [0.25 + 0.5 * p for p in applied(sharp, NEW)]
    gaps = [abs(a - b) for a, b in zip(applied(fitted, NEW), expected, strict=True)]
    assert sum(gaps) / len(gaps) < 0.04


def test_a_gate_reads_the_task_and_its_tags_alone() -> None:
    known = drafts(600, seed=9)
    fitted = fit_gate(known.features, known.right, tags=known.tags)
    assert fitted.role == "gate"
    assert fitted.features == ("task_chars", "task_ascii", "tag.lang=de", "tag.lang=en", "tag.lang=fr")
    assert fitted.measured["raw"] is None
    task = {"task_chars": 150.0, "task_ascii": 0.5}
    german, french = fitted.probability(task, {"lang": "de"}), fitted.probability(task, {"lang": "fr"})
    assert german is not None
    assert french is not None
    assert german > french
