"""The figures of a confidence, against their definitions, and the two calibrations."""

from __future__ import annotations

import itertools
import math
import random
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.intervals import clopper_pearson
from orchestrator.quality.fitted.fitted_models import fit_isotonic, fit_platt
from orchestrator.quality.fitted.reliability import auroc, brier, calibration, diagram, log_losses

ROWS = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 3)), max_size=25)


def by_definition(rows: list[tuple[int, float, int]]) -> float | None:
    """Over all ordered pairs of different records: right in the one, wrong in the other."""
    ordered = pairs = 0.0
    for (s, r, w), (t, q, v) in itertools.permutations(rows, 2):
        weight = w * r * v * (1.0 - q)
        pairs += weight
        ordered += weight * (1.0 if s > t else 0.5 if s == t else 0.0)
    return ordered / pairs if pairs else None


@given(ROWS)
def test_auroc_is_its_definition_with_ties_weights_and_grades(rows: list[tuple[int, float, int]]) -> None:
    found = auroc([float(s) for s, _, _ in rows], [r for _, r, _ in rows], [float(w) for _, _, w in rows])
    expected = by_definition(rows)
    assert found == (pytest.approx(expected, abs=1e-9) if expected is not None else None)


def test_auroc_with_folds_compares_within_them_only() -> None:
    scores, right = [0.1, 0.2, 0.8, 0.9], [False, True, False, True]
    assert auroc(scores, right) == 0.75
    assert auroc(scores, right, folds=[1, 1, 2, 2]) == 1.0


def test_a_score_of_minus_infinity_comes_last() -> None:
    assert auroc([-math.inf, -5.0, -1.0], [False, True, True]) == 1.0


def test_brier_and_log_loss_are_their_definitions() -> None:
    assert brier([0.9, 0.2], [True, False]) == pytest.approx((0.01 + 0.04) / 2)
    assert brier([0.9, 0.2], [True, False], [3.0, 1.0]) == pytest.approx((3 * 0.01 + 0.04) / 4)
    assert log_losses([0.9, 0.2, 0.5], [True, False, 0.5]) == pytest.approx(
        [-math.log(0.9), -math.log(0.8), -math.log(0.5)]
    )
    assert log_losses([0.0], [True])[0] < 30.0


def test_bins_are_equally_full_and_hold_every_record() -> None:
    draw = random.Random(1)
    p = [draw.random() for _ in range(1003)]
    found = calibration(p, [draw.random() < x for x in p])
    assert len(found.bins) == 10
    assert sum(b.n for b in found.bins) == 1003
    assert {b.n for b in found.bins} <= {100, 101}
    assert [b.predicted for b in found.bins] == sorted(b.predicted for b in found.bins)
    for b in found.bins:
        interval = clopper_pearson(round(b.right * b.n), b.n)
        assert (b.low, b.high) == (interval.low, interval.high)


def test_equal_predictions_are_one_bin() -> None:
    found = calibration([0.7] * 100, [True] * 60 + [False] * 40)
    assert [(b.predicted, b.right, b.n) for b in found.bins] == [(pytest.approx(0.7), 0.6, 100)]
    assert found.error == pytest.approx(0.1)


def test_a_calibrated_prediction_errs_by_chance_alone_and_a_shifted_one_by_its_shift() -> None:
    draw, true, chance, shifted = random.Random(2), [], [], []
    for _ in range(60):
        p = [0.2 + 0.5 * draw.random() for _ in range(400)]
        right = [draw.random() < x for x in p]
        found = calibration(p, right)
        true.append(found.error)
        chance.append(found.by_chance)
        shifted.append(calibration([x + 0.2 for x in p], right).error)
    assert sum(true) / 60 == pytest.approx(sum(chance) / 60, rel=0.1)
    assert sum(shifted) / 60 == pytest.approx(0.2, abs=0.01)


def test_weights_move_what_was_observed_and_show_no_interval() -> None:
    found = calibration([0.5] * 4, [True, True, False, False], [3.0, 3.0, 1.0, 1.0])
    assert found.bins[0].right == pytest.approx(0.75)
    assert found.bins[0].body() == {"predicted": 0.5, "right": pytest.approx(0.75), "n": 4}


def test_no_records_have_no_calibration() -> None:
    with pytest.raises(ValueError, match="no records"):
        calibration([], [])


def test_the_diagram_is_well_formed_and_has_a_mark_a_bin() -> None:
    draw = random.Random(3)
    p = [draw.random() for _ in range(300)]
    bins = [b.body() for b in calibration(p, [draw.random() < x for x in p]).bins]
    drawn = ElementTree.fromstring(diagram(bins, title="<extract> & co"))
    name = "{http://www.w3.org/2000/svg}"
    assert drawn.findtext(f"{name}title") == "<extract> & co"
    assert len(drawn.findall(f"{name}circle")) == 10
    for mark in drawn.findall(f"{name}circle"):
        assert 32 <= float(mark.attrib["cy"]) <= 322
    ElementTree.fromstring(diagram([]))


def z_and_right(n: int, slope: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=n) * 2.0
    return z, (draw.random(n) < 1.0 / (1.0 + np.exp(-(slope * z + offset)))).astype(float)


def test_platt_finds_slope_and_offset() -> None:
    z, right = z_and_right(20_000, 0.6, -0.4, 1)
    found = fit_platt(z, right, np.ones(len(z)))
    assert found["slope"] == pytest.approx(0.6, abs=0.03)
    assert found["offset"] == pytest.approx(-0.4, abs=0.05)


def test_platt_stays_finite_where_z_tells_all_and_rising_where_it_tells_the_contrary() -> None:
    z = np.linspace(-3.0, 3.0, 60)
    perfect = fit_platt(z, (z > 0).astype(float), np.ones(60))
    assert 0.0 < perfect["slope"] < 100.0
    inverted = fit_platt(z, (z < 0).astype(float), np.ones(60))
    assert inverted["slope"] == 0.05
    assert inverted["offset"] == pytest.approx(0.0, abs=1e-6)


def test_isotonic_is_the_pooled_blocks_at_their_centres() -> None:
    z, right = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.0, 1.0, 0.0, 1.0, 1.0])
    found = fit_isotonic(z, right, np.full(5, 1000.0))
    assert found is not None
    assert found["x"] == pytest.approx([1.0, 2.5, 4.5], abs=0.01)
    assert found["y"] == pytest.approx([0.0005, 0.5, 0.99975], abs=1e-4)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=60))
def test_isotonic_rises_strictly_and_is_never_sure(rows: list[tuple[int, bool]]) -> None:
    z, right = np.array([float(z) for z, _ in rows]), np.array([float(r) for _, r in rows])
    found = fit_isotonic(z, right, np.ones(len(rows)))
    if found is not None:
        assert all(a < b for a, b in itertools.pairwise(found["x"]))
        assert all(a < b for a, b in itertools.pairwise(found["y"]))
        assert found["y"][0] > 0.0
        assert found["y"][-1] < 1.0


def test_isotonic_keeps_the_mean() -> None:
    z, right = z_and_right(2000, 1.0, 0.5, 4)
    found = fit_isotonic(z, right, np.ones(len(z)))
    assert found is not None
    model = {"kind": "logistic", "fill": [None], "means": [0.0], "scales": [1.0], "weights": [1.0], "intercept": 0.0}
    apply = FittedConfidence({"features": ["z"], "model": model, "calibration": found})
    p = [apply.of({"z": value}, {}) or 0.0 for value in z.tolist()]
    assert sum(p) / len(p) == pytest.approx(float(right.mean()), abs=0.01)
