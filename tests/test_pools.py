"""The pools that the benchmarks of certification draw from, and the rules they measure against."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.quality import Record, certify

np = pytest.importorskip("numpy")
pytest.importorskip("scipy")
pytest.importorskip("sklearn")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
pools, public_pools, synthetic_pools, threshold_rules, certify_validity = (
    importlib.import_module(name)
    for name in ("pools", "public_pools", "synthetic_pools", "threshold_rules", "certify_validity")
)
DATA = Path(os.environ.get("ORCHESTRATOR_DATA", pools.DEFAULT_DATA))
needs_data = pytest.mark.skipif(not (DATA / "routellm").is_dir(), reason="the public records are not here")

NAN = float("nan")
ITEMS = [
    pools.Item(0.9, True, True, 1.0, 10.0), pools.Item(0.9, False, True, 2.0, 20.0),
    pools.Item(0.5, False, False, 1.0, 30.0), pools.Item(0.5, True, False, 1.0, 10.0),
    pools.Item(NAN, False, True, 1.0, 10.0), pools.Item(0.1, 0.25, 1.0, 1.0, 20.0),
]


def accepted(threshold: float) -> list[Any]:
    return [item for item in ITEMS if item.score >= threshold]


@pytest.mark.parametrize("threshold", [1.0, 0.9, 0.7, 0.5, 0.1, -1.0])
def test_the_risk_of_a_threshold_is_that_of_the_tasks_it_accepts(threshold: float) -> None:
    population = pools.population(ITEMS)
    kept = accepted(threshold)
    regret = sum(max(0.0, item.validator_ok - item.draft_ok) for item in kept)
    error = sum(1.0 - item.draft_ok for item in kept)
    assert population.accepted(threshold) == len(kept)
    assert population.risk(threshold, "regret") == pytest.approx(regret / 6)
    assert population.risk(threshold, "selective") == pytest.approx(error / len(kept) if kept else 0.0)


@pytest.mark.parametrize("threshold", [1.0, 0.9, 0.5, 0.1])
def test_a_cascade_pays_every_draft_and_a_gate_only_those_it_lets_through(threshold: float) -> None:
    population, kept = pools.population(ITEMS), accepted(threshold)
    spared, drafts = sum(item.validator_cost for item in kept), sum(item.draft_cost for item in kept)
    assert population.saving(threshold) == pytest.approx((spared - 7.0) / 100.0)
    assert population.gated_saving(threshold) == pytest.approx((spared - drafts) / 100.0)
    assert population.saving(None) == population.gated_saving(None) == 0.0


def test_hindsight_takes_the_best_threshold_within_the_tolerance() -> None:
    population = pools.population(ITEMS)
    assert population.hindsight(0.2, "regret") == pytest.approx(0.63)
    assert population.hindsight(0.1, "regret") == 0.0
    assert population.hindsight(1.0, "selective") == pytest.approx(0.83)


def test_a_part_keeps_the_tasks_and_may_change_their_scores() -> None:
    part = pools.population(ITEMS).part(np.array([1, 1, 4]), np.array([0.2, 0.3, 0.4]))
    assert part.draft_cost.tolist() == [2.0, 2.0, 1.0]
    assert [record.score for record in part.records()] == [0.2, 0.3, 0.4]
    assert part.risk(0.3, "regret") == pytest.approx(2 / 3)


def test_the_uninformative_pool_has_no_threshold_within_its_tolerance() -> None:
    pool = synthetic_pools.uninformative()
    assert pool.population.risks("selective").min() >= 0.102
    assert pool.population.risk(-1.0, "regret") == pytest.approx(0.102)


def test_every_synthetic_pool_is_the_same_for_the_same_seed() -> None:
    for one, other in zip(synthetic_pools.made(3), synthetic_pools.made(3), strict=True):
        assert one.items[:100] == other.items[:100]
        assert all(0.0 < pool_tolerance < 1.0 for pool_tolerance in one.tolerance.values())


@pytest.mark.parametrize("name", ["by_escalation", "smooth"])
def test_labels_are_seen_with_a_probability_that_depends_on_the_score(name: str) -> None:
    population = synthetic_pools.coarse(0).population
    propensity = getattr(pools, name)(population)
    assert propensity.min() >= 0.2 - 1e-12
    assert propensity.max() <= 1.0
    assert np.corrcoef(propensity, population.scores)[0, 1] < -0.5


@pytest.mark.parametrize("make", ["informative", "coarse", "graded", "weak_validator"])
def test_certify_agrees_with_the_dense_rule_written_from_its_definition(make: str) -> None:
    pool = getattr(synthetic_pools, make)(1)
    draw, tolerance = np.random.default_rng(5), pool.tolerance["regret"]
    for n in (10, 80, 300):
        sample = pool.population.part(draw.integers(len(pool.items), size=n))
        expected = threshold_rules.dense(sample.scores, sample.regret, tolerance, 0.1)
        assert certify(sample.records(), max_regret=tolerance).threshold == expected


def test_no_rule_certifies_on_too_few_records() -> None:
    scores, losses = np.linspace(0.0, 1.0, 20), np.zeros(20)
    draw = np.random.default_rng(0)
    assert threshold_rules.dense(scores, losses, 0.05, 0.1) is None
    assert threshold_rules.textbook(scores, losses, 0.05, 0.1, draw) is None
    assert threshold_rules.textbook_selective(scores, losses, 0.05, 0.1, draw) is None
    assert threshold_rules.dense(np.linspace(0.0, 1.0, 45), np.zeros(45), 0.05, 0.1) == 0.0


def test_the_validity_benchmark_fails_a_rule_that_trusts_the_sample() -> None:
    asked = argparse.Namespace(seed=0, redraws=100, redraws_traffic=100, traffic=0, confidence=0.9)
    row = certify_validity.Row(synthetic_pools.uninformative(), "selective", "plug-in")
    cell = row.cell(300, asked)
    assert cell.violations > 0.5
    assert cell.fails(0.1)


def test_the_plug_in_rule_takes_the_lowest_threshold_that_looks_good() -> None:
    records = [Record(0.9, True), Record(0.8, False), Record(0.7, True), Record(0.7, True), Record(0.1, False)]
    assert certify_validity.plug_in(records, 0.25, "selective") == 0.7
    assert certify_validity.plug_in(records, 0.0, "selective") == 0.9
    assert certify_validity.plug_in(records, 0.2, "regret") == 0.7


def test_questions_join_over_quotes_and_whitespace() -> None:
    assert public_pools.same_question("Janet\u2019s  \u201cbest\u201d\nducks ") == 'Janet\'s "best" ducks'


def test_a_question_in_one_file_only_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "anytime_gsm8k").mkdir()
    (tmp_path / "routellm").mkdir()
    (tmp_path / "anytime_gsm8k" / "preds_student_full.jsonl").write_text('{"problem": "How many?", "t": 1}\n')
    (tmp_path / "routellm" / "gsm8k_responses.csv").write_text("prompt\nHow much?\n")
    with pytest.raises(ValueError, match="2 questions are in one file only"):
        public_pools.problems(tmp_path)


@pytest.mark.parametrize("name", pools.RECORDED)
def test_a_recorded_pool_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    rows = [
        {"score": score, "draft_ok": ok, "validator_ok": True, "draft_cost": 0.001, "validator_cost": "0.02",
         "features": {"lp_mean": score, "missing": None}}
        for score, ok in ((-0.1, True), (-0.9, False), (None, False), (-0.2, True))
    ]
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = public_pools.recorded(name, file)
    assert pool.name == name
    assert pool.population.accepted(-10.0) == 3  # the draft without a score is never accepted
    assert pool.items[0].features == {"lp_mean": -0.1, "missing": None}
    assert pool.population.validator_cost.tolist() == [0.02] * 4
    with pytest.raises(FileNotFoundError, match=f"--{name}"):
        public_pools.recorded(name, None)


@needs_data
def test_every_public_gsm8k_question_joins() -> None:
    joined = public_pools.problems(DATA)
    assert len(joined) == 1319
    assert all(sorted(problem.drafts) == [1, 2, 3, 4] for problem in joined)
    right = sum(problem.drafts[2]["correct"] for problem in joined) / 1319
    assert right == pytest.approx(0.690, abs=0.001)
    assert sum(problem.validator_ok for problem in joined) / 1319 == pytest.approx(0.857, abs=0.001)


@needs_data
def test_four_drafts_cost_more_than_one_and_tell_who_agrees() -> None:
    one, four = public_pools.gsm8k(DATA), public_pools.gsm8k(DATA, four=True)
    assert "agree" in four.items[0].features
    assert "agree" not in one.items[0].features
    assert four.population.draft_cost.sum() > 3.0 * one.population.draft_cost.sum()
    assert four.population.regret.mean() == one.population.regret.mean()
