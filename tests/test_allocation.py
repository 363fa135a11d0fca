"""The GPU's bill of an hour, spread over its calls when the hour closes: exact, complete, and then fixed."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.prices import PriceEntry
from orchestrator.errors import InputError
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.closing.reported import reported
from orchestrator.finance.export.focus import render_focus
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.finance.verify.totals import gpu_hours
from orchestrator.pipeline import Pipeline
from orchestrator.records import Money
from orchestrator.store.allocations import NOBODY, allocated, split
from orchestrator.store.engine import Store
from orchestrator.store.entries import PriceRecord
from tests.gpu import BILL, GPU, HOUR, START, Gpu
from tests.pipelines import PRICES, dump, write_pipeline
from tests.stores import Clock, claim, config


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
    assert [(one.allocated, one.pending) for one in gpu.charges()] == [(one.cost, 1) for one in gpu.charges()]
    assert await gpu.close(START + HOUR + 301) == 1
    shares = {one.step: one.allocated.nano for one in gpu.charges() if one.allocated}
    assert sum(shares.values()) == BILL
    assert shares["extract"] == round(Fraction(BILL * 3, 8))
    usage = {one.step: one.cost.nano for one in gpu.charges() if one.cost}
    assert usage == {"extract": 208_333, "check": 347_222}  # 0.3 s and 0.5 s of the GPU
    assert gpu.idle() == []
    assert await gpu.close(START + HOUR + 999) == 0  # once only


async def test_an_open_hour_stands_at_its_usage_cost_beside_the_closed_ones(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + HOUR + 10, 500)
    await gpu.close(START + HOUR + 301)
    for grain in ("day", "period"):
        (one,) = gpu.charges(grain=grain)
        assert (one.allocated, one.pending, one.late) == (Money(nano=BILL + 347_222), 1, 0)
    cut = parse_period(since="2026-11-01T00:00", until="2026-11-01T01:30")
    assert [(one.allocated, one.pending) for one in gpu.charges(cut)] == [(Money(nano=BILL + 347_222), 1)]


async def test_an_hour_without_a_call_stands_on_the_line_idle(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + 3 * HOUR, 300)
    assert await gpu.close(START + 4 * HOUR + 301) == 4
    assert gpu.idle() == [(START + HOUR, BILL), (START + 2 * HOUR, BILL)]
    assert gpu.shares() == [2 * BILL]


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
    for grain in ("day", "period"):
        found = {one.step: (one.calls, one.allocated, one.late) for one in gpu.charges(grain=grain)}
        assert found == {"extract": (2, Money(nano=BILL), 1), "check": (1, Money(nano=0), 1)}


async def test_nothing_is_billed_once_the_gpu_is_given_back(gpu: Gpu) -> None:
    entry = PriceEntry.model_validate({"model": "local", "gpu_hour": GPU, "valid_to": "2026-11-01T02:00:00Z"})
    await gpu.call(START + 10, 300, price=entry)
    assert await gpu.close(START + 5 * HOUR + 301) == 5
    assert gpu.idle() == [(START + HOUR, BILL)]


def _price(price: str = "2.500000001", **more: str) -> PriceEntry:
    return PriceEntry.model_validate({"model": "local", "gpu_hour": {**GPU, "price": price}, **more})


async def _book(gpu: Gpu, *entries: PriceEntry) -> None:
    """A pipeline with this price book is opened."""
    await gpu.store.record_gpu_hours([
        PriceRecord(version=one.version_id, model=one.model, body_json=one.body_json, created_at=gpu.clock.now)
        for one in entries
    ])


async def test_an_older_price_without_an_end_is_not_gone_back_to(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + HOUR + 10, 300, price=_price(valid_to="2026-11-01T03:00:00Z"))
    assert await gpu.close(START + 9 * HOUR + 301) == 9
    assert gpu.idle() == [(START + 2 * HOUR, BILL)]


async def test_an_hour_is_billed_by_the_price_of_its_own_calls(gpu: Gpu) -> None:
    right, typo = _price(), _price("25")
    for hour, price in enumerate((right, typo, right)):
        await gpu.call(START + hour * HOUR + 10, 300, price=price)
    assert await gpu.close(START + 4 * HOUR + 301) == 4
    assert {one.price_version: one.allocated for one in gpu.charges()} == {
        right.version_id: Money(nano=2 * BILL), typo.version_id: Money(nano=25 * 10**9)}
    assert gpu.idle() == [(START + 3 * HOUR, BILL)]


async def test_a_price_is_valid_for_its_calls_hour_though_it_began_within_it(gpu: Gpu) -> None:
    await gpu.call(START + 2_000, 300, price=_price(valid_from="2026-11-01T00:30:00Z"))
    await gpu.close(START + HOUR + 301)
    assert gpu.shares() == [BILL]


async def test_a_gpu_given_back_in_the_book_is_not_billed_on_though_no_call_comes(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.close(START + 2 * HOUR + 301)
    await _book(gpu, _price(valid_to="2026-11-01T03:00:00Z"))
    await gpu.close(START + 9 * HOUR + 301)
    assert gpu.idle() == [(START + HOUR, BILL), (START + 2 * HOUR, BILL)]


async def test_hours_without_a_call_go_by_the_book_opened_last(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await _book(gpu, _price("25"))
    await _book(gpu, _price(), _price("3", valid_from="2026-11-01T02:00:00Z"))
    await gpu.close(START + 3 * HOUR + 301)
    assert gpu.idle() == [(START + HOUR, BILL), (START + 2 * HOUR, 3 * 10**9)]


async def test_opening_a_pipeline_makes_the_gpu_prices_of_its_book_known(gpu: Gpu, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "labels")
    rent = {"model": "local", "gpu_hour": GPU, "valid_to": "2026-11-01T03:00:00Z"}
    dump(path.parent / "prices.yaml", {**PRICES, "prices": [*PRICES["prices"], rent]})
    await gpu.call(START + 10, 300)
    async with Pipeline.load(path, store=gpu.store, clock=gpu.clock):
        await gpu.close(START + 9 * HOUR + 301)
    assert gpu.idle() == [(START + HOUR, BILL), (START + 2 * HOUR, BILL)]


async def test_verify_finds_shares_that_do_not_sum_to_the_bill(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + HOUR + 10, 300, price=_price(valid_to="2026-11-01T03:00:00Z"))
    await gpu.close(START + 5 * HOUR + 301)
    with gpu.store.read() as connection:
        assert list(gpu_hours(connection, Period())) == []
    with gpu.store._writing.begin() as connection:
        connection.execute(allocated.update().where(allocated.c.key_id != NOBODY).values(nano=7))
    with gpu.store.read() as connection:
        told = [one.words for one in gpu_hours(connection, Period())]
    assert told == [
        f"the GPU hour 2026-11-01 0{hour}:00 of local: 7 billionths are spread, its bill is {BILL:,}"
        for hour in (0, 1)
    ]


async def test_all_hours_are_closed_at_once_when_asked_for(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    gpu.clock.now = START + 500 * HOUR + 301
    assert await gpu.store.close_hours() == 500
    assert await gpu.store.close_hours() == 0


async def test_a_month_is_closed_with_all_its_gpu_hours(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.end(START + 11, True)
    december = START + 30 * 24 * HOUR
    gpu.clock.now = december + 299
    with pytest.raises(InputError, match="2026-11 has hours of local whose bill is not spread yet"):
        await close_month(gpu.store, "2026-11", now=gpu.clock.now)
    gpu.clock.now = december + 301
    await close_month(gpu.store, "2026-11", now=gpu.clock.now)
    _, breakdown = reported(gpu.store, ReportQuery(period=parse_period(month="2026-11")))
    shares = [one.allocated.nano for one in breakdown.charges if one.allocated]
    assert sum(shares) + sum(one.cost.nano for one in breakdown.idle) == 30 * 24 * BILL


async def test_a_run_that_goes_on_under_another_configuration_leaves_its_share_behind(gpu: Gpu) -> None:
    await gpu.store.record_config(replace(config("c2"), version="2"))
    await gpu.call(START + 10, 300)
    await gpu.close(START + HOUR + 301)
    await gpu.store.claim([claim("1", config_id="c2")])
    found = {one.version: (one.calls, one.allocated, one.late) for one in gpu.charges()}
    assert found == {"1": (0, Money(nano=BILL), 0), "2": (1, Money(nano=0), 0)}
    report = build_report(gpu.store, ReportQuery(), now=gpu.clock.now)
    breakdown = build_breakdown(gpu.store, report)
    rows = list(csv.DictReader(io.StringIO(render_focus(report, breakdown).decode())))
    for name in ("BilledCost", "EffectiveCost"):
        assert sum(Decimal(row[name]) for row in rows) == Decimal(BILL).scaleb(-9)


async def test_an_hours_bill_belongs_to_the_one_period_it_starts_in(gpu: Gpu) -> None:
    await gpu.call(START + 10, 300)
    await gpu.call(START + 2_000, 300)
    await gpu.close(START + HOUR + 301)
    first = parse_period(since="2026-10-31T00:00", until="2026-11-01T00:30")
    then = parse_period(since="2026-11-01T00:30", until="2026-11-02T00:00")
    assert [gpu.shares(period) for period in (first, then)] == [[BILL], [0]]
    for period in (first, then):
        (one,) = gpu.charges(period)
        assert (one.calls, one.pending) == (1, 0)


async def test_a_bill_is_exact_whatever_the_price(gpu: Gpu) -> None:
    entry = PriceEntry.model_validate({"model": "local", "gpu_hour": {**GPU, "price": "3.1", "gpus": 3}})
    for i in range(7):
        await gpu.call(START + i, 1 + i, step=f"s{i}", price=entry)
    await gpu.close(START + HOUR + 301)
    assert sum(nano or 0 for nano in gpu.shares()) == int(Decimal("9.3") * 10**9)
