"""Drift: the bet against a certificate is fair while it holds, however long it runs and whatever is checked."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.quality import drift
from orchestrator.quality.drift import Stretch, evidence

QUIET = Stretch(tasks=500, drawn=100)
some_stretches = st.lists(
    st.builds(
        lambda tasks, drawn, wrong: Stretch(tasks=tasks, drawn=drawn, wrong=Counter(wrong)),
        st.integers(20, 800), st.integers(0, 150), st.lists(st.sampled_from([0.02, 0.05, 1.0]), max_size=9),
    ),
    min_size=1, max_size=12,
)


def value(stretches: list[Stretch], **nulls: float) -> float:
    return math.exp(evidence(stretches, **nulls).total)


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@pytest.mark.parametrize("propensity", [0.02, 0.3, 1.0])
def test_at_a_regret_of_exactly_the_tolerance_the_expected_evidence_is_one(propensity: float) -> None:
    tolerance, tasks = 0.1, 7
    expected = 0.0
    for found in product(range(tasks + 1), repeat=3):
        chance = math.prod(binomial(k, tasks, tolerance * propensity) for k in found)
        stretches = [Stretch(tasks=tasks, drawn=100, wrong={propensity: k}) for k in found]
        expected += chance * value(stretches, max_regret=tolerance)
    assert expected == pytest.approx(1.0, abs=1e-9)


def test_unequal_propensities_that_go_with_unequal_regret_keep_the_bet_fair() -> None:
    """Half of the tasks have all of the regret and are seldom checked, or often: the whole is at the tolerance."""
    tolerance, rare, often = 0.1, 0.05, 0.8
    for where in (rare, often):
        in_one_task = 0.5 * 2 * tolerance * where
        expected = sum(
            binomial(k, 12, in_one_task) * value([Stretch(tasks=12, wrong={where: k})], max_regret=tolerance)
            for k in range(13)
        )
        assert expected == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_confidence_off_by_exactly_the_error_allowed_wins_nothing_on_average(sign: int) -> None:
    error = 0.05
    low, high = -0.5 * sign, 0.7 * sign
    p_high = (sign * error - low) / (high - low)
    expected = 0.0
    for gaps in product((low, high), repeat=8):
        chance = math.prod(p_high if gap == high else 1 - p_high for gap in gaps)
        found = evidence([Stretch(tasks=8, gaps=gaps)], max_regret=0.5, calibration_error=error).calibration
        assert found is not None
        expected += chance * math.exp(found)
    assert 0.5 < expected <= 1.0 + 1e-9


def test_two_nulls_share_one_alarm() -> None:
    found = evidence([Stretch(tasks=50, gaps=(0.9,) * 12)], max_regret=0.1, calibration_error=0.05)
    assert found.calibration is not None
    assert math.exp(found.total) == pytest.approx((math.exp(found.regret) + math.exp(found.calibration)) / 2)
    assert found.trips(0.05)
    assert found.regret < 0.0


@given(stretches=some_stretches, place=st.integers(0, 11), propensity=st.sampled_from([0.02, 0.05, 1.0]))
def test_a_check_that_finds_a_wrong_draft_speaks_against_and_a_task_without_one_for(
    stretches: list[Stretch], place: int, propensity: float
) -> None:
    at = place % len(stretches)
    one = stretches[at]
    before = evidence(stretches, max_regret=0.03).total
    wrong = Stretch(tasks=one.tasks, drawn=one.drawn, wrong=Counter(one.wrong) + Counter([propensity]))
    more = Stretch(tasks=one.tasks + 1, drawn=one.drawn, wrong=one.wrong)
    assert evidence([*stretches[:at], wrong, *stretches[at + 1 :]], max_regret=0.03).total > before
    assert evidence([*stretches[:at], more, *stretches[at + 1 :]], max_regret=0.03).total < before


def test_a_change_after_a_long_good_time_is_found_almost_as_soon_as_one_at_the_start() -> None:
    bad = Stretch(tasks=5000, drawn=100, wrong={0.02: 13})

    def stretches_until_alarm(good: int) -> int:
        stretches = [Stretch(tasks=5000, drawn=100)] * good
        return next(n for n in range(1, 50) if evidence([*stretches, *[bad] * n], max_regret=0.03).trips(0.1))

    assert stretches_until_alarm(0) == 1
    assert stretches_until_alarm(1000) == 2


def test_it_says_since_when() -> None:
    stretches = [QUIET] * 30 + [Stretch(tasks=500, drawn=100, wrong={0.2: 13})] * 3
    assert evidence(stretches, max_regret=0.03).since == 30


def test_the_weights_of_all_starts_that_may_ever_come_sum_to_one() -> None:
    n = 200_000
    tail = 0.5 / drift._ZETA * 4 * n**-0.25  # the integral of what is left
    assert math.fsum(map(drift._weight, range(n))) + tail == pytest.approx(1.0, abs=1e-6)


def test_without_a_task_there_is_no_evidence() -> None:
    nothing = evidence([], max_regret=0.03, calibration_error=0.05)
    assert nothing.total == pytest.approx(0.0)
    assert not nothing.trips(0.5)


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, math.nan])
def test_a_tolerance_outside_of_zero_and_one_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="max_regret"):
        evidence([QUIET], max_regret=wrong)
    with pytest.raises(ValueError, match="calibration_error"):
        evidence([QUIET], max_regret=0.1, calibration_error=wrong)
