"""Certified thresholds: the guarantee by simulation on pools whose truth is known, and every edge of the input."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.intervals import binomial_cdf, clopper_pearson
from orchestrator.quality import Record, certify
from orchestrator.quality.certification.p_values import p_value_of_count, p_value_of_sum
from orchestrator.quality.certification.sample import keeps

ALPHA, DELTA = 0.05, 0.10


def exact_cdf(k: int, n: int, p: Fraction) -> Fraction:
    return sum((math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


def records(*rows: tuple[float, bool]) -> list[Record]:
    return [Record(score, ok) for score, ok in rows]


def surest(n: int, wrong_at: set[int]) -> list[Record]:
    """n records with scores n, n-1, ... 1; those ranked in `wrong_at` (from 0, the surest) are wrong."""
    return [Record(float(n - i), i not in wrong_at) for i in range(n)]


@dataclass(frozen=True)
class Pool:
    """A population whose losses are known: scores are uniform, so that risks are integrals."""

    name: str
    seed: int

    def draw(self, generator: random.Random) -> Record:
        s = generator.random()
        match self.name:
            case "informative":
                return Record(s, generator.random() < 0.6 + 0.4 * s)
            case "useless":
                return Record(s, generator.random() < 0.94)
            case "ties":
                level = math.floor(s * 5) / 5
                return Record(level, generator.random() < 0.7 + 0.3 * level)
        raise AssertionError(self.name)

    def regret(self, threshold: float | None) -> float:
        """P(score >= threshold, draft wrong), with the validator always right."""
        if threshold is None:
            return 0.0
        t = min(max(threshold, 0.0), 1.0)
        match self.name:
            case "informative":
                return 0.4 * (1 - t) - 0.2 * (1 - t * t)
            case "useless":
                return 0.06 * (1 - t)
            case "ties":
                return sum(0.2 * (0.3 - 0.3 * k / 5) for k in range(5) if k / 5 >= t)
        raise AssertionError(self.name)


@pytest.mark.parametrize("pool", [Pool("informative", 1), Pool("useless", 2), Pool("ties", 3)], ids=lambda p: p.name)
def test_a_certified_regret_is_exceeded_no_more_often_than_delta(pool: Pool) -> None:
    generator, redraws = random.Random(pool.seed), 300
    violations = 0
    for _ in range(redraws):
        found = certify([pool.draw(generator) for _ in range(300)], max_regret=ALPHA, confidence=1 - DELTA)
        violations += pool.regret(found.threshold) > ALPHA
    assert violations / redraws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def test_a_certified_selective_is_exceeded_no_more_often_than_delta() -> None:
    generator, redraws, violations, some = random.Random(7), 200, 0, 0
    for _ in range(redraws):
        drawn = [Record(s := generator.random(), generator.random() < 0.7 + 0.3 * s) for _ in range(400)]
        found = certify(drawn, max_regret=0.1, confidence=1 - DELTA, loss="selective")
        if found.threshold is not None:
            some += 1
            violations += 0.3 * (1 - (1 + found.threshold) / 2) > 0.1  # the mean of 0.3 (1 - s) over s >= threshold
    assert some > redraws / 2
    assert violations / redraws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def test_a_certified_graded_regret_is_exceeded_no_more_often_than_delta() -> None:
    generator, redraws, violations = random.Random(8), 200, 0
    for _ in range(redraws):
        drawn = []
        for _ in range(300):
            s = generator.random()
            drawn.append(Record(s, generator.random() ** (1 - s)))
        found = certify(drawn, max_regret=0.1, confidence=1 - DELTA)
        assert found.method.startswith("Hoeffding-Bentkus")
        if found.threshold is not None:  # E[1 - u^(1-s)] = (1-s)/(2-s), integrated from the threshold to 1
            width = 1 - found.threshold
            violations += width - math.log1p(width) > 0.1
    assert violations / redraws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def test_thinning_to_equal_propensity_keeps_the_guarantee() -> None:
    """Labels of unsure drafts are seen ten times as often: taken at face value they would mislead."""
    generator, redraws, violations = random.Random(9), 200, 0
    pool = Pool("informative", 0)
    for _ in range(redraws):
        seen = []
        while len(seen) < 600:
            one = pool.draw(generator)
            propensity = 1.0 if one.score < 0.5 else 0.3
            if generator.random() < propensity:
                seen.append(Record(one.score, one.draft_ok, propensity=propensity))
        found = certify(seen, max_regret=ALPHA, confidence=1 - DELTA, seed=generator.randrange(2**32))
        violations += pool.regret(found.threshold) > ALPHA
        assert found.n < found.given == 600
    assert violations / redraws <= DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def test_the_threshold_lies_just_above_the_first_regret_too_many() -> None:
    """n = 100, alpha = 0.05, delta = 0.10: P(Bin <= 1) = 0.037 passes, P(Bin <= 2) = 0.118 does not."""
    found = certify(surest(100, {20, 40, 60}), max_regret=0.05)
    assert (found.threshold, found.accepted, found.regretted) == (61.0, 40, 1)
    assert found.p_value == pytest.approx(float(exact_cdf(1, 100, Fraction(1, 20))))
    assert [t.passed for t in found.tested] == [True] * 4 + [False] * 3
    assert found.tested[4].threshold == 60.0


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=80), st.floats(0.01, 0.6))
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_lowest_score_that_passes(rows: list[tuple[int, bool]], alpha: float) -> None:
    found = certify([Record(float(s), ok) for s, ok in rows], max_regret=alpha)
    best = None
    for candidate in sorted({s for s, _ in rows}, reverse=True):
        k = sum(s >= candidate and not ok for s, ok in rows)
        if exact_cdf(k, len(rows), Fraction(alpha)) > Fraction(1 - 0.9):
            break
        best = float(candidate)
    assert found.threshold == best


@given(st.lists(st.tuples(st.floats(-5, 0), st.booleans()), min_size=80, max_size=120))
@settings(max_examples=30, deadline=None)
def test_asking_less_never_raises_the_threshold(rows: list[tuple[float, bool]]) -> None:
    def lowest(**asked: float) -> float:
        found = certify(records(*rows), **asked).threshold  # type: ignore[arg-type]
        return math.inf if found is None else found

    assert lowest(max_regret=0.10) <= lowest(max_regret=0.05)
    assert lowest(max_regret=0.05, confidence=0.8) <= lowest(max_regret=0.05, confidence=0.95)


def test_tied_scores_are_accepted_together_or_not_at_all() -> None:
    rows = [Record(1.0, True)] * 90 + [Record(0.5, True)] * 50 + [Record(0.5, False)] * 10
    found = certify(rows, max_regret=0.05)
    assert (found.threshold, found.accepted) == (1.0, 90)


def test_the_order_of_the_records_does_not_matter() -> None:
    rows = surest(200, {30, 90, 91, 150})
    shuffled = random.Random(3).sample(rows, len(rows))
    assert certify(rows, max_regret=0.05) == certify(shuffled, max_regret=0.05)


@pytest.mark.parametrize(
    ("rows", "threshold", "recommendation"),
    [
        ([], None, "always_validate"),
        ([Record(0.5, True)] * 75, None, "always_validate"),  # 76 are needed at 0.03 and 0.10
        ([Record(0.5, True)] * 76, 0.5, "always_draft"),
        ([Record(0.5, False)] * 200, None, "always_validate"),
        ([Record(math.nan, True)] * 200, None, "always_validate"),
        ([Record(-math.inf, True)] * 200, None, "always_validate"),
        ([Record(math.inf, True)] * 200, sys.float_info.max, "always_draft"),
        ([Record(0.5, False, False)] * 200, 0.5, "always_draft"),  # the validator is wrong too: nothing is missed
        ([Record(0.5, True, None, 9, 8)] * 200, 0.5, "always_validate"),  # the drafter is the dearer one
        ([Record(0.5, True, None, 1, 10)] * 150 + [Record(0.1, False, None, 1, 10)] * 50, 0.5, "cascade"),
        ([Record(0.5, True, None, 3, 10)] * 50 + [Record(0.1, False, None, 3, 10)] * 150, 0.5, "always_validate"),
    ],
)
def test_every_edge_is_defined(rows: list[Record], threshold: float | None, recommendation: str) -> None:
    found = certify(rows, max_regret=0.03)
    assert (found.threshold, found.recommendation) == (threshold, recommendation)
    json.dumps(found.body(), allow_nan=False)


def test_a_draft_without_a_score_counts_as_a_task_and_is_never_accepted() -> None:
    found = certify([Record(1.0, True)] * 150 + [Record(math.nan, False)] * 50, max_regret=0.03)
    assert (found.n, found.accepted, found.coverage) == (200, 150, 0.75)
    assert found.base_loss == 0.25
    assert found.least_escalation == pytest.approx(0.22)


def test_a_drafter_that_beats_the_validator_is_recommended_alone() -> None:
    rows = [Record(1.0, True, True, 1, 10)] * 150 + [Record(0.5, True, False, 1, 10)] * 40 + [
        Record(0.1, False, True, 1, 10)
    ] * 10
    found = certify(rows, max_regret=0.03)
    assert found.recommendation == "always_draft"
    assert "40 of the 50" in found.reasons[0]


def test_costs_are_compared_with_always_validating_and_an_unknown_one_is_not_zero() -> None:
    rows = [Record(1.0, True, None, 1, 10)] * 150 + [Record(0.1, False, None, 1, 10)] * 50
    assert certify(rows, max_regret=0.03).cost_ratio == pytest.approx((200 + 500) / 2000)
    assert certify([*rows, Record(0.1, False, None, 1, None)], max_regret=0.03).cost_ratio is None


def test_a_second_try_spends_less() -> None:
    rows = surest(90, set())
    assert certify(rows, max_regret=0.03).threshold is not None
    again = certify(rows, max_regret=0.03, attempt=2)
    assert (again.threshold, again.delta) == (None, pytest.approx(0.025))


@pytest.mark.parametrize(
    "wrong", [{"max_regret": 0.0}, {"max_regret": 1.0}, {"confidence": 90}, {"loss": "risk"}, {"attempt": -1}]
)
def test_what_makes_no_sense_is_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give|count"):
        certify([], **{"max_regret": 0.03, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="propensity"):
        Record(0.5, True, propensity=0.0)
    with pytest.raises(ValueError, match="draft_ok"):
        Record(0.5, 1.5)


def test_thinning_keeps_the_rarest_labels_whole() -> None:
    rows = [Record(0.1, True, propensity=1.0)] * 4000 + [Record(0.9, True, propensity=0.25)] * 100
    kept = [r for r, keep in zip(rows, keeps(rows, random.Random(0)), strict=True) if keep]
    assert sum(r.propensity == 0.25 for r in kept) == 100
    assert sum(r.propensity == 1.0 for r in kept) == pytest.approx(1000, abs=120)


@pytest.mark.parametrize(("k", "n", "p"), [(0, 10, 0.1), (3, 40, 0.07), (55, 60, 0.9), (199, 200, 0.999), (9, 10, 0.5)])
def test_the_binomial_tail_is_exact(k: int, n: int, p: float) -> None:
    assert binomial_cdf(k, n, p) == pytest.approx(float(exact_cdf(k, n, Fraction(p))), rel=1e-12)


def test_the_binomial_tail_agrees_with_scipy_at_large_n() -> None:
    stats = pytest.importorskip("scipy.stats")
    for k, n, p in [(2_900, 100_000, 0.03), (30_100, 1_000_000, 0.03), (5, 1_000_000, 1e-5), (60, 100, 0.5)]:
        assert binomial_cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-9)
        found, beta = clopper_pearson(k, n), stats.beta
        assert found.low == pytest.approx(beta.ppf(0.025, k, n - k + 1), rel=1e-8)
        assert found.high == pytest.approx(beta.ppf(0.975, k + 1, n - k), rel=1e-8)


def test_a_graded_test_is_never_nan_and_never_beats_the_exact_one() -> None:
    for n, k in [(100, 0), (100, 3), (7, 7), (1, 0), (49, 29)]:
        graded = p_value_of_sum(float(k), n, 0.05)
        assert p_value_of_count(k, n, 0.05) <= graded + 1e-12 <= 1.0 + 1e-12


def test_certify_loads_no_numeric_package() -> None:
    code = (
        "import sys; from orchestrator.quality import certify; certify([], max_regret=0.1);"
        "print(sorted({'numpy', 'scipy', 'sklearn', 'pydantic', 'sqlalchemy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
