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
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InputError
from orchestrator.finance.cost import CostPerSuccess, Missing, cost_per_success, exact_units
from orchestrator.finance.moments import heavy_tailed
from orchestrator.finance.period import parse_period
from orchestrator.finance.phrases import unit_cost
from orchestrator.finance.success import Cell
from orchestrator.intervals import bounded_mean, clopper_pearson, hypergeometric_limits

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


def test_equal_costs_leave_the_exact_interval_of_the_rate() -> None:
    found = of(*[(True, 1_000_000)] * 397, *[(False, 1_000_000)] * 3)
    share = clopper_pearson(397, 400)
    assert found.method == "square-and-add"
    assert float(found.low or 0) == pytest.approx(0.001 / share.high, rel=1e-6)
    assert float(found.high or 0) == pytest.approx(0.001 / share.low, rel=1e-6)


def test_with_many_failures_square_and_add_is_the_log_delta_interval() -> None:
    """5,000 successes at 100 and 5,000 failures at 300: theta = 400, se by hand from s_c, s_cy and s_y."""
    n = 10_000
    found = of(*[(True, 100)] * (n // 2), *[(False, 300)] * (n // 2))
    s_c, s_y, s_cy = 100 * 100 * n / (n - 1), 0.25 * n / (n - 1), -50 * n / (n - 1)
    se = math.sqrt((s_c - 2 * 400 * s_cy + 400**2 * s_y) / (n * 0.25))
    width = 1.959963984540054 * se / 400
    assert found.method == "square-and-add"
    assert math.log(400e-9 / float(found.low or 0)) == pytest.approx(width, rel=0.02)
    assert math.log(float(found.high or 0) / 400e-9) == pytest.approx(width, rel=0.02)


def test_few_runs_give_the_box_of_two_exact_intervals() -> None:
    runs = [(True, 1_000_000 + i) for i in range(77)] + [(False, 1_000_000)] * 3
    found = of(*runs)
    share = clopper_pearson(77, 80, 0.975)
    mean = sum(cost for _, cost in runs) / 80
    spread = sum((cost - mean) ** 2 for _, cost in runs) / 79
    cost = bounded_mean(80, mean, spread, CENT, 0.975)
    assert found.method == "box"
    assert float(found.low or 0) * 1e9 == pytest.approx(cost.low / share.high, rel=1e-6)
    assert float(found.high or 0) * 1e9 == pytest.approx(cost.high / share.low, rel=1e-6)


def test_heavy_tailed_costs_give_the_box() -> None:
    even = [(i % 5 > 0, 1000 + i % 7) for i in range(400)]
    assert of(*even).method == "square-and-add"
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
    found = cost_per_success(2000, some, missing=Missing(calls=2, lost=1, bound=50))
    assert (found.value, found.qualifier, found.low) == (Decimal("1E-7"), "at least", None)
    assert found.note == "calls of unknown cost: 2"


def test_calls_without_an_answer_leave_an_interval_whose_high_end_holds_their_bound() -> None:
    some = cells(*[(True, 100)] * 20)
    found, all_of_it = (
        cost_per_success(spent, some, missing=missing)
        for spent, missing in ((2000, Missing(calls=2, lost=2, bound=500)), (2500, Missing()))
    )
    assert (found.value, found.qualifier) == (Decimal("1E-7"), "at least")
    assert (found.own_low, found.own_high) == (Decimal("1E-7"), all_of_it.value)
    assert (found.low, found.high) == (cost_per_success(2000, some).low, all_of_it.high)
    assert found.high != cost_per_success(2000, some).high


def test_where_no_run_cost_anything_yet_a_call_without_an_answer_leaves_no_long_run_interval() -> None:
    free = cells(*[(True, 0)] * 200, *[(False, 0)] * 20)
    found = cost_per_success(0, free, missing=Missing(calls=1, lost=1, bound=5_000_000))
    assert (found.value, found.qualifier, found.own_high) == (Decimal(0), "at least", exact_units(Fraction(25_000)))
    assert (found.low, found.high, found.method) == (None, None, None)
    assert found.note == ("calls of unknown cost: 1; the high end holds their upper bound; "
                          "no long-run interval: all known costs of the runs are 0")


def test_runs_that_are_unknown_and_not_estimated_make_the_figure_an_upper_limit() -> None:
    found = of(*[(True, 100)] * 60, *[(False, 100)] * 20, *[(None, 100)] * 20)
    assert (found.value, found.qualifier) == (exact_units(Fraction(10_000, 60)), "at most")
    assert found.low is not None
    assert found.low < Decimal("1.3E-7")  # all twenty may be right


def test_runs_that_are_not_estimated_may_all_have_been_successes_of_this_period() -> None:
    found = of(*[(True, 100)] * 60, *[(False, 100)] * 20, *[(None, 100)] * 20)
    assert (found.own_low, found.own_high) == (exact_units(Fraction(10_000, 80)), exact_units(Fraction(10_000, 60)))


def test_both_unknowns_at_once_leave_the_range_that_the_figure_lies_in() -> None:
    some = cells(*[(True, 100)] * 60, *[(None, 100)] * 20)
    lost = cost_per_success(8000, some, missing=Missing(calls=1, lost=1, bound=40))
    assert (lost.value, lost.qualifier) == (None, "between")
    assert (lost.own_low, lost.own_high) == (exact_units(Fraction(8000, 80)), exact_units(Fraction(8040, 60)))
    assert unit_cost(lost) == "0.0000001000 to 0.0000001340"
    assert unit_cost(lost, 1000, lambda said: f"${said}") == "$0.0001000 to $0.0001340"


def test_both_unknowns_at_once_without_an_upper_bound_leave_at_least_so_much() -> None:
    some = cells(*[(True, 100)] * 60, *[(None, 100)] * 20)
    unpriced = cost_per_success(8000, some, missing=Missing(calls=1))
    assert (unpriced.value, unpriced.qualifier, unpriced.own_high) == (None, "at least", None)
    assert unpriced.own_low == exact_units(Fraction(8000, 80))  # all twenty may be right, and the call free
    assert unit_cost(unpriced) == "at least 0.0000001000"


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40), st.integers(0, 900))
def test_whatever_the_unknowns_turn_out_to_be_the_figure_is_in_the_range(
    unknown: list[tuple[bool, bool]], more: int
) -> None:
    """Drawn of each run: what it turns out to be, and whether that is known; and what the lost call cost."""
    told = [(right if known else None, 100) for right, known in unknown]
    truth = [(right, 100) for right, _ in unknown]
    sure = [(True, 100)] * 60
    spent = 100 * (60 + len(unknown))
    said = cost_per_success(spent, cells(*sure, *told), missing=Missing(calls=1, lost=1, bound=900))
    found = cost_per_success(spent + more, cells(*sure, *truth))
    assert found.value is not None
    if said.qualifier == "between":
        assert said.own_low is not None
        assert said.own_high is not None
        assert said.own_low <= found.value <= said.own_high
    else:
        assert said.own_low is None or said.own_low <= found.value


def test_without_an_upper_bound_of_a_runs_cost_there_is_no_box() -> None:
    found = of(*[(True, 100)] * 30, bound=None)
    assert (found.value, found.low) == (Decimal("1E-7"), None)
    assert "upper bound" in found.note


def test_tails_count_as_far_as_costs_make_up_the_ratio() -> None:
    """With a few checks it is the success rate that is uncertain: the shape of the costs hardly matters then."""
    costs = [1000 + (90_000 if i % 50 == 0 else 0) for i in range(800)]
    known = [(i % 3 > 0, cost) for i, cost in enumerate(costs)]
    assert of(*known).method == "box"
    checked = [(right if i % 20 == 3 else None, cost) for i, (right, cost) in enumerate(known)]
    assert of(*[(True, 1000), (False, 1000), *checked], propensity=0.05).method == "square-and-add"


def test_what_the_period_cost_a_success_is_uncertain_by_its_unchecked_runs_alone() -> None:
    known = cells(*[(True, 100)] * 40, *[(False, 100)] * 10)
    assert cost_per_success(5000, known).own_low is None  # all is known: the figure is exact
    sampled = cells(*[(True, 100)] * 18, *[(False, 100)] * 2, *[(None, 100)] * 180, propensity=0.1)
    found = cost_per_success(25_000, [*known, *sampled])
    limits = hypergeometric_limits(18, 20, 200)
    assert found.value == exact_units(Fraction(25_000, 40 + 18 + 162))
    assert found.own_low == exact_units(Fraction(25_000) / Fraction(40 + limits.high))
    assert found.own_high == exact_units(Fraction(25_000) / Fraction(40 + limits.low))


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
