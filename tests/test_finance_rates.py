"""Success rates from spot checks: exact where they claim to be, and named for what they are."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from fractions import Fraction
from itertools import product

import pytest

from orchestrator.finance.rates import augmented, estimated_right, long_run_rate, own_successes
from orchestrator.finance.success import Cell, Confidences, assume, tally
from orchestrator.intervals import (
    beta_cdf,
    beta_quantile,
    binomial_cdf,
    clopper_pearson,
    hypergeometric_cdf,
    hypergeometric_limits,
)


def stratum(propensity: float, runs: int, checked: int, right: int, unanswered: int = 0) -> list[Cell]:
    left = runs - checked - unanswered
    return [
        Cell(runs=right, success=True, propensity=propensity),
        Cell(runs=checked - right, success=False, propensity=propensity),
        Cell(runs=unanswered, success=None, propensity=propensity, unanswered=True),
        Cell(runs=left, success=None, propensity=propensity),
    ]


def known(right: int, wrong: int) -> list[Cell]:
    return [Cell(runs=right, success=True), Cell(runs=wrong, success=False)]


def confident(runs: Iterable[tuple[bool | None, float]], propensity: float) -> list[Cell]:
    """One stratum of (success, logged confidence)."""
    listed = list(runs)
    return [
        Cell(
            runs=len(fs), success=success, propensity=propensity,
            confidences=Confidences(math.fsum(fs), math.fsum(f * f for f in fs), 0.0),
        )
        for success in (True, False, None)
        if (fs := [f for said, f in listed if said is success])
    ]


def simulated(n: int, propensity: float, sharp: bool, seed: int) -> list[tuple[bool | None, float]]:
    generator, runs = random.Random(seed), list[tuple[bool | None, float]]()
    for _ in range(n):
        f = generator.betavariate(2.0, 0.5) if sharp else 0.8
        right = generator.random() < f
        runs.append((right if generator.random() < propensity else None, f if sharp else generator.random()))
    return runs


@pytest.mark.parametrize(("total", "checked"), [(80, 40), (60, 5), (30, 29), (25, 25)])
def test_the_limits_of_this_periods_count_are_exact(total: int, checked: int) -> None:
    """Over every count that can be true, the chance that the limits hold it is at least what they claim."""
    limits = [hypergeometric_limits(x, checked, total) for x in range(checked + 1)]
    for right in range(total + 1):
        below = [hypergeometric_cdf(x, total, right, checked) for x in range(-1, checked + 1)]
        held = sum(below[x + 1] - below[x] for x in range(checked + 1) if limits[x].low <= right <= limits[x].high)
        assert held >= 0.95 - 1e-9


def test_a_rates_interval_is_none_of_this_periods_count() -> None:
    """Clopper and Pearson's times the unchecked, with half of 80 checked: it promises 95% and holds less than 90%."""
    total, checked, right = 80, 40, 64
    below = [hypergeometric_cdf(x, total, right, checked) for x in range(-1, checked + 1)]
    held = 0.0
    for x in range(checked + 1):
        rate = clopper_pearson(x, checked)
        if rate.low <= (right - x) / (total - checked) <= rate.high:
            held += below[x + 1] - below[x]
    assert held < 0.9


def test_quantiles_of_the_beta_distribution_are_those_of_its_closed_forms() -> None:
    for p, shape in product((0.0125, 0.025, 0.5, 0.975), (0.3, 1.0, 7.5, 400.0)):
        assert beta_quantile(p, 1.0, shape) == pytest.approx(-math.expm1(math.log1p(-p) / shape), rel=1e-9)
        assert beta_quantile(p, shape, 1.0) == pytest.approx(p ** (1.0 / shape), rel=1e-9)
        assert beta_cdf(0.5, shape, shape) == pytest.approx(0.5, rel=1e-9)
    assert beta_cdf(0.3, 12, 30) == pytest.approx(1.0 - binomial_cdf(11, 41, 0.3), rel=1e-9)


def test_one_stratum_has_the_exact_intervals_and_says_so() -> None:
    cells = stratum(0.02, runs=2000, checked=40, right=38)
    own, rate = own_successes(cells), long_run_rate(cells)
    assert own is not None
    assert rate is not None
    limits, interval = hypergeometric_limits(38, 40, 2000), clopper_pearson(38, 40)
    assert (own.method, own.low, own.high) == ("hypergeometric", limits.low - 38, limits.high - 38)
    assert rate.method == "clopper-pearson"
    assert (rate.low, rate.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_this_period_is_known_better_than_the_long_run() -> None:
    cells = stratum(0.5, runs=400, checked=200, right=180)
    own, rate = own_successes(cells), long_run_rate(cells)
    assert own is not None
    assert rate is not None
    assert (own.high - own.low) / 400 < 0.75 * (rate.high - rate.low)


def test_all_known_is_clopper_pearson_and_leaves_nothing_to_estimate() -> None:
    assert own_successes(known(90, 10)) is None
    rate = long_run_rate(known(90, 10))
    assert rate is not None
    assert (rate.method, rate.low) == ("clopper-pearson", pytest.approx(clopper_pearson(90, 100).low))


def test_no_runs_have_no_rate() -> None:
    assert long_run_rate([]) is None


@pytest.mark.parametrize("rates", [(0.5, 0.5), (0.9, 0.6), (0.97, 0.97), (0.99, 0.8), (0.8, 0.99)])
def test_melded_strata_cover_and_are_narrower_than_bonferroni(rates: tuple[float, float]) -> None:
    """Coverage of two strata of 25 and 15 checks, summed over all that can be seen."""
    checks, runs = (25, 15), (1200, 150)
    truth = (runs[0] * rates[0] + runs[1] * rates[1]) / sum(runs)
    held = width = bonferroni = 0.0
    for seen in product(range(checks[0] + 1), range(checks[1] + 1)):
        chance = math.prod(
            math.comb(n, x) * p**x * (1 - p) ** (n - x) for n, x, p in zip(checks, seen, rates, strict=True)
        )
        if chance < 1e-7:
            continue
        found = long_run_rate([*stratum(0.02, runs[0], checks[0], seen[0]), *stratum(0.1, runs[1], checks[1], seen[1])])
        assert found is not None
        assert found.method == "melded"
        held += chance * (found.low <= truth <= found.high)
        width += chance * (found.high - found.low)
        for n, x, weight in zip(checks, seen, runs, strict=True):
            part = clopper_pearson(x, n, 0.975)
            bonferroni += chance * (part.high - part.low) * weight / sum(runs)
    assert held >= 0.95
    assert width < 0.95 * bonferroni


@pytest.mark.parametrize("right", [(30, 20), (42, 24), (54, 36), (59, 30)])
def test_this_periods_count_over_half_checked_strata_is_covered(right: tuple[int, int]) -> None:
    """Of 60 and 40 runs, half are checked: coverage over all samples that can be drawn."""
    runs, held = (60, 40), 0.0
    for seen in product(range(31), range(21)):
        chance = math.prod(
            hypergeometric_cdf(x, n, k, n // 2) - hypergeometric_cdf(x - 1, n, k, n // 2)
            for x, n, k in zip(seen, runs, right, strict=True)
        )
        if chance < 1e-7:
            continue
        found = own_successes([*stratum(0.5, 60, 30, seen[0]), *stratum(0.51, 40, 20, seen[1])])
        assert found is not None
        held += chance * (found.low <= sum(right) - sum(seen) <= found.high)
    assert held >= 0.95


def test_a_check_without_an_answer_is_wrong_below_and_right_above() -> None:
    """Two of forty: what they were like, 5% of the unchecked may be."""
    cells = stratum(0.02, runs=2000, checked=38, right=36, unanswered=2)
    counts = tally(cells)
    assert (counts.not_estimated, counts.unchecked) == (2, 1960)
    assert estimated_right(tally(assume(cells, False))) == Fraction(1960 * 36, 40)
    own, rate = own_successes(cells), long_run_rate(cells)
    assert own is not None
    assert rate is not None
    assert (own.low, own.high) == (
        hypergeometric_limits(36, 40, 2000).low - 36, hypergeometric_limits(38, 40, 2000).high - 38
    )
    assert rate.low == pytest.approx(clopper_pearson(36, 40).low)
    assert rate.high == pytest.approx(clopper_pearson(38, 40).high)


def test_runs_that_no_check_reaches_are_wrong_below_and_right_above() -> None:
    forbidden = [Cell(runs=50, success=None)]
    without, rate = long_run_rate(known(90, 10)), long_run_rate([*known(90, 10), *forbidden])
    assert without is not None
    assert rate is not None
    assert rate.low == pytest.approx(clopper_pearson(90, 150).low)
    assert rate.high == pytest.approx(clopper_pearson(140, 150).high)


def test_a_stratum_nobody_checked_is_not_estimated() -> None:
    counts = tally(stratum(0.02, runs=30, checked=0, right=0))
    assert (counts.strata, counts.not_estimated) == ((), 30)
    assert own_successes(stratum(0.02, runs=30, checked=0, right=0)) is None


def test_residuals_are_those_of_the_runs_one_by_one() -> None:
    runs = simulated(3000, 0.1, sharp=True, seed=1)
    found = tally(confident(runs, 0.1)).strata[0].residuals
    assert found is not None
    seen = [(y, f) for y, f in runs if y is not None]
    each = [y - f for y, f in seen]
    mean = math.fsum(each) / len(each)
    assert found.mean == pytest.approx(mean)
    assert found.variance == pytest.approx(math.fsum((e - mean) ** 2 for e in each) / (len(each) - 1))
    assert found.assumed == pytest.approx(math.fsum(f for _, f in runs) / len(runs))
    assert found.assumed_unchecked == pytest.approx(
        math.fsum(f for y, f in runs if y is None) / sum(y is None for y, _ in runs)
    )


def test_a_confidence_that_knows_something_sharpens_the_estimate() -> None:
    runs = simulated(4000, 0.05, sharp=True, seed=2)
    with_it = own_successes(confident(runs, 0.05))
    plain = own_successes([Cell(runs=c.runs, success=c.success, propensity=0.05) for c in confident(runs, 0.05)])
    assert with_it is not None
    assert plain is not None
    assert (with_it.method, plain.method) == ("augmented", "hypergeometric")
    assert with_it.high - with_it.low < 0.85 * (plain.high - plain.low)


def test_however_well_a_confidence_tells_right_from_wrong_the_long_run_is_known_by_the_runs_alone() -> None:
    runs = [(i % 5 > 0 if i % 2 else None, 0.98 if i % 5 > 0 else 0.02) for i in range(2000)]
    own, rate = own_successes(confident(runs, 0.5)), long_run_rate(confident(runs, 0.5))
    assert own is not None
    assert rate is not None
    assert own.method == rate.method == "augmented"
    assert own.high - own.low <= 4  # of 1,000: they are all but known
    assert rate.high - rate.low >= 2 * 1.96 * math.sqrt(0.8 * 0.2 / 2000)


@pytest.mark.parametrize(("n", "sharp"), [(4000, False), (300, True)])
def test_a_confidence_that_knows_nothing_or_too_few_failures_leave_the_exact_interval(n: int, sharp: bool) -> None:
    cells = confident(simulated(n, 0.05, sharp=sharp, seed=3), 0.05)
    found = long_run_rate(cells)
    assert found is not None
    assert not augmented(tally(cells).strata[0])
    assert found.method == "clopper-pearson"
