"""Cost per successful outcome: exact figures, honest intervals, and words where a number would mislead."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.finance.cost import CostPerSuccess, cost_per_success, exact_units, heavy_tailed
from orchestrator.finance.period import parse_period
from orchestrator.finance.success import Cell, tally
from orchestrator.intervals import bounded_mean, clopper_pearson

BELLWETHER = Path(__file__).resolve().parents[2] / "shared/data/bellwether"
CENT = 10_000_000


def cells(*runs: tuple[bool | None, int], propensity: float | None = None, bound: int | None = CENT) -> list[Cell]:
    """One cell for each kind of success among `runs` of (success, cost)."""
    costs: dict[bool | None, list[int]] = defaultdict(list)
    for success, cost in runs:
        costs[success].append(cost)
    return [
        Cell(
            runs=len(some), success=success, propensity=propensity if success is None or propensity else None,
            cost=sum(some), cost_squares=math.fsum(float(c) ** 2 for c in some),
            cost_cubes=math.fsum(float(c) ** 3 for c in some), bound=bound,
        )
        for success, some in costs.items()
    ]


def of(*runs: tuple[bool | None, int], **more: Any) -> CostPerSuccess:
    some = cells(*runs, **more)
    return cost_per_success(sum(c.cost for c in some), some)


def test_failures_are_paid_for_by_the_successes() -> None:
    found = of((True, 100), (True, 100), (True, 150), (False, 50))
    assert found.value == Decimal("0.000000133333")  # 400 billionths over 3
    assert found.per_thousand == Decimal("0.000133333")


def test_a_quotient_is_rounded_once_half_even() -> None:
    assert exact_units(Fraction(1, 2000)) == Decimal(0)
    assert exact_units(Fraction(3, 2000)) == Decimal("2E-12")
    assert exact_units(Fraction(10**30 + 1)) == Decimal(10**30 + 1).scaleb(-9)


def test_the_log_delta_interval_is_the_textbook_one() -> None:
    """50 successes at 100 and 50 failures at 300: theta = 400, computed by hand from s_c, s_cy and s_y."""
    runs = [(True, 100)] * 50 + [(False, 300)] * 50
    found = of(*runs)
    s_c, s_y, s_cy = 100 * 100 * 100 / 99, 0.25 * 100 / 99, -50 * 100 / 99
    se = math.sqrt((s_c - 2 * 400 * s_cy + 400**2 * s_y) / (100 * 0.25))
    factor = math.exp(1.959963984540054 * se / 400)
    assert found.method == "log-delta"
    assert float(found.low or 0) == pytest.approx(400e-9 / factor, rel=1e-5)
    assert float(found.high or 0) == pytest.approx(400e-9 * factor, rel=1e-5)


def test_few_failures_give_the_box_of_two_exact_intervals() -> None:
    runs = [(True, 1_000_000 + i) for i in range(97)] + [(False, 1_000_000)] * 3
    found = of(*runs)
    share = clopper_pearson(97, 100, 0.975)
    mean = sum(cost for _, cost in runs) / 100
    spread = sum((cost - mean) ** 2 for _, cost in runs) / 99
    cost = bounded_mean(100, mean, spread, CENT, 0.975)
    assert found.method == "box"
    assert float(found.low or 0) * 1e9 == pytest.approx(cost.low / share.high, rel=1e-6)
    assert float(found.high or 0) * 1e9 == pytest.approx(cost.high / share.low, rel=1e-6)


def test_heavy_tailed_costs_give_the_box() -> None:
    even = [(i % 5 > 0, 1000 + i % 7) for i in range(400)]
    assert of(*even).method == "log-delta"
    spiked = [*even, (True, 900_000)]
    assert heavy_tailed(cells(*spiked))
    assert of(*spiked).method == "box"


@pytest.mark.parametrize(
    ("runs", "note"),
    [
        ([(False, 100)] * 50, "too few successes (0 known of 50 runs)"),
        ([(True, 100)] * 3 + [(False, 100)] * 997, "too few successes (3 known of 1,000 runs)"),
        ([(None, 100)] * 10, "too few successes (0 known of 10 runs)"),
    ],
)
def test_too_few_successes_are_said_and_no_number_is_shown(runs: list[tuple[bool | None, int]], note: str) -> None:
    found = of(*runs)
    assert (found.value, found.low, found.high, found.note) == (None, None, None, note)


def test_no_runs_at_all_give_no_number() -> None:
    assert cost_per_success(0, []).value is None
    assert cost_per_success(500, []).note == "no runs ended in this period"


def test_without_any_price_the_cost_is_unknown_and_not_zero() -> None:
    assert cost_per_success(None, cells((True, 0), (True, 0))).note == "no call has a price"


def test_a_missing_cost_makes_the_figure_a_lower_limit() -> None:
    some = cells(*[(True, 100)] * 20)
    found = cost_per_success(2000, some, missing_costs=2)
    assert (found.value, found.qualifier, found.low) == (Decimal("1E-7"), "at least", None)


def test_runs_that_are_unknown_and_not_estimated_make_the_figure_an_upper_limit() -> None:
    found = of(*[(True, 100)] * 60, *[(False, 100)] * 20, *[(None, 100)] * 20)
    assert (found.value, found.qualifier) == (exact_units(Fraction(10_000, 60)), "at most")
    assert found.low is not None
    assert found.low < Decimal("1.3E-7")  # all twenty may be right


def test_both_unknowns_at_once_leave_nothing_to_say() -> None:
    some = cells(*[(True, 100)] * 60, *[(None, 100)] * 20)
    assert cost_per_success(8000, some, missing_costs=1).value is None


def test_without_an_upper_bound_of_a_runs_cost_there_is_no_box() -> None:
    found = of(*[(True, 100)] * 30, bound=None)
    assert (found.value, found.low) == (Decimal("1E-7"), None)
    assert "upper bound" in found.note


def test_spot_checks_estimate_what_nobody_looked_at() -> None:
    known = cells(*[(True, 100)] * 40, *[(False, 100)] * 10)
    sampled = cells(*[(True, 100)] * 18, *[(False, 100)] * 2, *[(None, 100)] * 180, propensity=0.1)
    counts = tally([*known, *sampled])
    assert counts.estimated_right == 162  # 180 x 18/20
    assert counts.successes == 40 + 18 + 162
    rate = clopper_pearson(18, 20)
    assert counts.estimated_interval().low == pytest.approx(180 * rate.low)
    found = cost_per_success(25_000, [*known, *sampled])
    assert found.value == exact_units(Fraction(25_000, 220))
    assert found.method == "box"


def test_strata_of_unequal_propensity_share_the_error_by_bonferroni() -> None:
    rare = cells(*[(True, 1)] * 9, *[(False, 1)] * 1, *[(None, 1)] * 190, propensity=0.05)
    often = cells(*[(True, 1)] * 30, *[(False, 1)] * 20, *[(None, 1)] * 50, propensity=0.5)
    counts = tally([*rare, *often])
    assert counts.estimated_right == Fraction(190 * 9, 10) + Fraction(50 * 30, 50)
    low, high = clopper_pearson(9, 10, 0.975), clopper_pearson(30, 50, 0.975)
    assert counts.estimated_interval().low == pytest.approx(190 * low.low + 50 * high.low)


def test_a_stratum_nobody_checked_is_not_estimated() -> None:
    counts = tally(cells(*[(None, 1)] * 30, propensity=0.02))
    assert (counts.strata, counts.not_estimated) == ((), 30)


@pytest.mark.parametrize(("share", "propensity"), [(0.9, None), (0.995, None), (0.9, 0.2)])
def test_the_interval_covers_the_truth(share: float, propensity: float | None) -> None:
    generator, redraws, covered = random.Random(5), 120, 0
    truth = (0.75 * 10_000 + 0.25 * 510_000) / share
    for _ in range(redraws):
        runs: list[tuple[bool | None, int]] = []
        for _ in range(400):
            right: bool | None = generator.random() < share
            if propensity is not None and generator.random() >= propensity:
                right = None
            runs.append((right, 10_000 + (500_000 if generator.random() < 0.25 else 0)))
        found = of(*runs, propensity=propensity)
        covered += float(found.low or "nan") <= truth * 1e-9 <= float(found.high or "nan")
    assert covered / redraws >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / redraws)


@pytest.mark.skipif(not BELLWETHER.is_dir(), reason="public data are not here")
def test_published_costs_per_success_are_reproduced() -> None:
    """Total spend, failures included, over successes, against the aggregates that the data's authors published."""
    spent: dict[str, Decimal] = defaultdict(Decimal)
    runs: dict[str, set[Any]] = defaultdict(set)
    right: dict[str, set[Any]] = defaultdict(set)
    for line in (BELLWETHER / "attempts.jsonl").read_text().splitlines():
        one = json.loads(line, parse_float=Decimal)
        run = (one["instance"], one["run"])
        spent[one["file"]] += one["cost_usd"]
        runs[one["file"]].add(run)
        if one["passed"]:
            right[one["file"]].add(run)
    compared = few = 0
    for line in (BELLWETHER / "reported_aggregates.jsonl").read_text().splitlines():
        one = json.loads(line)
        file, said = one["file"], one["aggregate"]
        n = len(right[file])
        assert (len(runs[file]), n) == (said["n_instances"], said["n_successes"])
        nano, wrong = round(spent[file] * 10**9), len(runs[file]) - n
        found = cost_per_success(nano, [Cell(runs=n, success=True, cost=nano), Cell(runs=wrong, success=False)])
        if found.value is None:
            few += n > 0
            continue
        assert float(found.value) == pytest.approx(said["effective_tcot"], rel=1e-6), file
        compared += 1
    assert (compared, few) == (169, 2)  # of the 171 with a success, two have one or two in many runs


def test_a_month_is_half_open_in_the_readers_time_zone() -> None:
    month = parse_period(month="2026-03", tz="Europe/Berlin")
    assert month.since_at == datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp()
    assert month.until_at == datetime(2026, 3, 31, 22, tzinfo=UTC).timestamp()  # summer time has begun
    assert parse_period(month="2026-12").until_at == datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"month": "2026-13"}, "2026-13"), ({"month": "november"}, "november"), ({"since": "yesterday"}, "--from"),
        ({"tz": "Mars/Olympus"}, "Mars/Olympus"), ({"tz": "../etc"}, "time zone"),
        ({"since": "2026-02-01", "until": "2026-02-01"}, "not after"),
        ({"month": "2026-01", "until": "2026-02-01"}, "not both"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(asked: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_period(**asked)
