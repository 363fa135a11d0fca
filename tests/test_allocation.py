"""The GPU's bill of an hour, spread over its calls when the hour closes: exact, complete, and then fixed."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.allocation import split
from orchestrator.finance.period import parse_period
from orchestrator.store.engine import Store
from tests.gpu import BILL, GPU, HOUR, START, Gpu
from tests.stores import Clock, config

pytest_plugins = ("tests.store_fixtures",)


@given(st.integers(0, 10**15), st.lists(st.fractions(0, 10**9, max_denominator=10**4), min_size=1, max_size=40))
def test_the_shares_sum_to_the_bill_and_each_is_within_one_of_its_own(bill: int, weights: list[Fraction]) -> None:
    if not any(weights):
        with pytest.raises(ValueError, match="at least one must be above 0"):
            split(bill, weights)
        return
    shares = split(bill, weights)
    assert sum(shares) == bill
    total = sum(weights)
    assert all(abs(share - bill * weight / total) < 1 for share, weight in zip(shares, weights, strict=True))
    assert all(share == 0 for share, weight in zip(shares, weights, strict=True) if not weight)


@pytest.fixture
async def gpu(store: Store, clock: Clock) -> Gpu:
    clock.now = START
    await store.record_config(config())
    return Gpu(store, clock)


async def test_an_hours_bill_is_spread_by_work_once_the_hour_is_over(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + 20, 500, step="check")
    assert await gpu.close(START + HOUR + 299) == 0  # within the grace
    assert {line.allocated for line in gpu.lines()} == {None}
    assert await gpu.close(START + HOUR + 301) == 1
    shares = {line.step: line.allocated or 0 for line in gpu.lines()}
    assert sum(shares.values()) == BILL
    assert shares["extract"] == round(Fraction(BILL * 3, 8))
    usage = {line.step: line.cost for line in gpu.lines()}
    assert usage == {"extract": 208_333, "check": 347_222}  # 0.3 s and 0.5 s of the GPU
    assert gpu.idle() == []
    assert await gpu.close(START + HOUR + 999) == 0  # once only


async def test_an_hour_without_a_call_stands_on_the_line_idle(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + 3 * HOUR, 300)
    assert await gpu.close(START + 4 * HOUR + 301) == 4
    assert gpu.idle() == [(START + HOUR, BILL), (START + 2 * HOUR, BILL)]
    assert sum(line.allocated or 0 for line in gpu.lines(grain="day")) == 2 * BILL


async def test_calls_without_work_leave_the_bill_to_idle(gpu: Gpu) -> None:
    await gpu.call(START + 10, 0)
    assert await gpu.close(START + HOUR + 301) == 1
    assert gpu.idle() == [(START, BILL)]


async def test_a_call_settled_after_its_hour_closed_bears_nothing_and_is_shown_as_late(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.close(START + HOUR + 301)
    await gpu.call(START + 30, 9_000)
    await gpu.call(START + 30, 9_000, step="check")
    assert await gpu.close(START + HOUR + 999) == 0
    for grain in ("hour", "day", "period"):
        found = {line.step: (line.calls, line.allocated, line.late) for line in gpu.lines(grain=grain)}
        assert found == {"extract": (2, BILL, 1), "check": (1, 0, 1)}


async def test_nothing_is_billed_once_the_gpu_is_given_back(gpu: Gpu) -> None:
    entry = PriceEntry.model_validate({"model": "local", "gpu_hour": GPU, "valid_to": "2026-11-01T02:00:00Z"})
    await gpu.call(START + 10, 300, price=entry)
    assert await gpu.close(START + 5 * HOUR + 301) == 5
    assert gpu.idle() == [(START + HOUR, BILL)]


async def test_an_hours_bill_belongs_to_the_one_period_it_starts_in(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + 2_000, 300)
    await gpu.close(START + HOUR + 301)
    first = parse_period(since="2026-10-31T00:00", until="2026-11-01T00:30")
    then = parse_period(since="2026-11-01T00:30", until="2026-11-02T00:00")
    billed = [sum(line.allocated or 0 for line in gpu.lines(period)) for period in (first, then)]
    assert billed == [BILL, 0]
    assert [sum(line.calls for line in gpu.lines(period)) for period in (first, then)] == [1, 1]


async def test_a_bill_is_exact_whatever_the_price(gpu: Gpu) -> None:
    entry = PriceEntry.model_validate({"model": "local", "gpu_hour": {**GPU, "price": "3.1", "gpus": 3}})
    for i in range(7):
        await gpu.call(START + i, 1 + i, step=f"s{i}", price=entry)
    await gpu.close(START + HOUR + 301)
    assert sum(line.allocated or 0 for line in gpu.lines()) == int(Decimal("9.3") * 10**9)
