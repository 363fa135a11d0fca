"""The selective error: where its walks start, what they may spend, bets on grades; simulated where truth is known."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.quality import Record, certify
from orchestrator.quality.certification.p_values import p_value_of_bets, p_value_of_sum
from orchestrator.quality.certification.walks import first_failure

DELTA = 0.10


def limit(redraws: int) -> float:
    return DELTA + 3 * math.sqrt(DELTA * (1 - DELTA) / redraws)


def ranked(n: int, wrong_at: set[int]) -> list[Record]:
    """Scores from 1 down to 1/n; those ranked in `wrong_at` (from 0, the surest) are wrong."""
    return [Record(1 - i / n, i not in wrong_at) for i in range(n)]


def evenly(n: int) -> list[float]:
    return [1 - i / n for i in range(n)]


@pytest.mark.parametrize("n", [200, 1500])
def test_where_every_threshold_is_wrong_the_bound_breaks_no_more_often_than_delta(n: int) -> None:
    """A score that tells nothing and an error just above the tolerance: whatever is certified breaks the bound. With
    1500 records there are two starts."""
    generator, redraws, alpha = random.Random(n), 300, 0.1
    certified = 0
    for _ in range(redraws):
        drawn = [Record(generator.random(), generator.random() >= 1.001 * alpha) for _ in range(n)]
        certified += certify(drawn, max_regret=alpha, loss="selective").threshold is not None
    assert certified / redraws <= limit(redraws)
    assert certified / redraws > DELTA / 3  # a walk that never starts would be valid too


def test_an_error_that_only_begins_below_the_start_is_found() -> None:
    """Right above 0.6, wrong on 1.001 x what brings the whole to the tolerance below: accept-all is the violation."""
    generator, redraws, alpha, violations = random.Random(1), 300, 0.1, 0
    for _ in range(redraws):
        scores = [generator.random() for _ in range(300)]
        drawn = [Record(s, s > 0.6 or generator.random() >= 1.001 * alpha / 0.6) for s in scores]
        found = certify(drawn, max_regret=alpha, loss="selective").threshold
        violations += found is not None and found < 0.001
    assert violations / redraws <= limit(redraws)


def test_graded_losses_are_bet_on_and_the_promise_holds() -> None:
    generator, redraws, violations, some = random.Random(2), 200, 0, 0
    for _ in range(redraws):
        scores = [generator.random() for _ in range(300)]
        drawn = [Record(s, 1 - 0.4 * (1 - s) * generator.random() - 0.05 * generator.random()) for s in scores]
        found = certify(drawn, max_regret=0.1, loss="selective")
        assert found.method.startswith("betting")
        if found.threshold is not None:
            some += 1
            violations += 0.025 + 0.2 * (1 - found.threshold) / 2 > 0.1  # the mean over the scores above it
    assert some > redraws / 2
    assert violations / redraws <= limit(redraws)


@pytest.mark.parametrize(("n", "alpha"), [(8, 0.3), (12, 0.2), (12, 0.5)])
def test_over_all_sequences_of_losses_bets_are_lost_as_often_as_promised(n: int, alpha: float) -> None:
    """Right-or-wrong losses of mean alpha: summed exactly over every sequence, P(p <= delta) <= delta."""
    for delta in (0.05, 0.1, 0.3):
        small = 0.0
        for losses in product((0.0, 1.0), repeat=n):
            wrong = sum(losses)
            if p_value_of_bets(losses, alpha, delta) <= delta:
                small += alpha**wrong * (1 - alpha) ** (n - wrong)
        assert small <= delta + 1e-12


def test_bets_tell_more_than_hoeffding_bentkus_where_losses_vary_little() -> None:
    losses = [0.15, 0.05] * 50
    assert p_value_of_bets(losses, 0.15, DELTA) <= DELTA < p_value_of_sum(math.fsum(losses), 100, 0.15)


@pytest.mark.parametrize("losses", [[], [1.0] * 50, [0.1] * 50])
def test_bets_never_make_a_p_value_above_one(losses: list[float]) -> None:
    assert p_value_of_bets(losses, 0.1, DELTA) == 1.0


def test_errors_among_the_very_surest_do_not_end_the_walk() -> None:
    found = certify(ranked(400, {0, 3, 7}), max_regret=0.1, loss="selective", traffic=evenly(400))
    assert (found.accepted, found.recommendation) == (400, "always_draft")


def test_the_walk_ends_before_the_first_score_that_fails() -> None:
    """The start accepts 100 of 400. P(Bin(100, 0.1) <= 5) = 0.058 passes, P(Bin(101, 0.1) <= 6) = 0.11 does not."""
    found = certify(ranked(400, {10, 30, 50, 70, 90, *range(100, 400)}), max_regret=0.1, loss="selective",
                    traffic=evenly(400))
    assert (found.accepted, found.regretted) == (100, 5)
    assert [t.passed for t in found.tested] == sorted((t.passed for t in found.tested), reverse=True)


def test_with_many_records_a_walk_starts_high_up_and_one_lower_down_is_not_lost() -> None:
    """Two starts of 5,000: where 10 ln(delta) / ln(1 - alpha) are accepted, 219 of them, and at a quarter."""
    only_above = certify(ranked(5000, set(range(400, 5000))), max_regret=0.1, loss="selective", traffic=evenly(5000))
    assert 400 < only_above.accepted < 450
    wrong_at_the_top = set(range(0, 300, 4))
    lower = certify(ranked(5000, wrong_at_the_top | set(range(3000, 5000))), max_regret=0.1, loss="selective",
                    traffic=evenly(5000))
    assert 3000 < lower.accepted < 3400
    assert lower.p_value is not None
    assert lower.p_value <= DELTA / 2  # the walk above it failed: half is left


def test_empty_traffic_sets_records_aside_as_none_does() -> None:
    generator = random.Random(3)
    drawn = [Record(s := generator.random(), generator.random() < 0.7 + 0.3 * s) for _ in range(300)]
    alone = certify(drawn, max_regret=0.1, loss="selective")
    assert certify(drawn, max_regret=0.1, loss="selective", traffic=[]) == alone
    assert (alone.n, alone.given) == (260, 300)


def test_drafts_without_a_score_leave_what_can_be_accepted() -> None:
    rows = [Record(1.0, True)] * 60 + [Record(math.nan, False)] * 340
    found = certify(rows, max_regret=0.1, loss="selective", traffic=[r.score for r in rows])
    assert (found.threshold, found.accepted) == (1.0, 60)


@given(st.lists(st.booleans(), max_size=300), st.floats(0.05, 0.5))
@settings(max_examples=80, deadline=None)
def test_strides_end_where_one_test_after_the_other_does(wrong: list[bool], most: float) -> None:
    """A candidate passes while at most a share is wrong; a stride, when its last count does with its first n."""
    counts = [sum(wrong[: i + 1]) for i in range(len(wrong))]
    linear = next((i for i, count in enumerate(counts) if count > most * (i + 1)), len(wrong))
    assert first_failure(len(wrong), lambda first, last: counts[last] <= most * (first + 1)) == linear
