"""The intervals of the paired savings, against tables and by hand; how often they hold: benchmarks/paired.py."""

from __future__ import annotations

import math

import pytest

from orchestrator.finance.paired import mean_difference, rate_difference, savings_of, student_quantile
from orchestrator.finance.pairs import PairRow
from orchestrator.finance.success import Cell


def side(n: int, cost: int, success: bool | None, bound: int | None = 2_000) -> Cell:
    return Cell(runs=n, success=success, cost=n * cost, cost_squares=n * float(cost) ** 2,
                cost_cubes=n * float(cost) ** 3, bound=bound)


def pair(
    n: int, c: int, b: int, *, right: bool | None = True, alone: bool | None = True, bound: int | None = 2_000
) -> PairRow:
    d = float(b - c)
    return PairRow(group=(), judge="label", cascade=side(n, c, right, bound), alone=side(n, b, alone), d2=n * d**2,
                   d3=n * d**3)


@pytest.mark.parametrize(("p", "freedom", "expected"), [
    (0.975, 10, 2.228139), (0.975, 199, 1.971957), (0.95, 3, 2.353363),
])
def test_student_s_quantiles_are_the_tables(p: float, freedom: int, expected: float) -> None:
    assert student_quantile(p, freedom) == pytest.approx(expected, abs=1e-6)


def test_many_pairs_have_student_s_interval() -> None:
    found = mean_difference([pair(200, 100, 1_000), pair(100, 1_100, 1_000)], 0.95)
    assert found is not None
    mean, deviation = 1_700 / 3, math.sqrt(200 * 100 / 300**2) * 1_000 * math.sqrt(300 / 299)
    width = student_quantile(0.975, 299) * deviation / math.sqrt(300)
    assert (found.method, found.low, found.high) == (
        "student", pytest.approx(mean - width), pytest.approx(mean + width))


@pytest.mark.parametrize("rows", [
    [pair(20, 100, 1_000), pair(10, 1_100, 1_000)],
    [pair(2_000, 100, 110), pair(1, 100, 2_000)],
], ids=["few", "skewed"])
def test_few_or_skewed_pairs_have_the_bounded_interval_or_none(rows: list[PairRow]) -> None:
    found = mean_difference(rows, 0.95)
    mean = sum(row.alone.cost - row.cascade.cost for row in rows) / sum(row.pairs for row in rows)
    assert found is not None
    assert found.method == "bounded"
    assert found.low < mean < found.high
    unbounded = [pair(n := row.pairs, row.cascade.cost // n, row.alone.cost // n, bound=None) for row in rows]
    assert mean_difference(unbounded, 0.95) is None


def test_the_rates_differ_by_the_pairs_that_differ() -> None:
    rows = [pair(80, 1, 2), pair(6, 1, 2, alone=False), pair(10, 1, 2, right=False),
            pair(4, 1, 2, right=False, alone=False)]
    found = savings_of(rows, "USD")
    assert found is not None
    assert found.judged is not None
    assert found.judged.difference == pytest.approx(-0.04)
    assert -0.14 < found.judged.low < -0.1 < 0.0 < found.judged.high < 0.06
    same = rate_difference([pair(50, 1, 2)], 0.95, alone=True)
    assert same.low == pytest.approx(-same.high)
