"""Cost per success with the idle time of rented GPUs: beside the usage cost, and complete."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.records import Report, ReportQuery, Spend
from orchestrator.finance.render import render
from orchestrator.finance.report import build_report
from orchestrator.records import Usage
from orchestrator.store.engine import Store
from orchestrator.store.entries import PriceRecord
from tests.gpu import BILL, HOUR, START, Gpu
from tests.stores import Clock, config, intent, settlement


@pytest.fixture
async def gpu(store: Store, clock: Clock) -> Gpu:
    clock.now = START
    await store.record_config(config())
    return Gpu(store, clock)


async def _ended(gpu: Gpu, at: float, output: int, *, success: bool = True) -> None:
    await gpu.call(at, output)
    await gpu.end(at + 1, success)


def _report(gpu: Gpu, **query: object) -> Report:
    return build_report(gpu.store, ReportQuery(**query), now=gpu.clock.now)  # type: ignore[arg-type]


def _spend(gpu: Gpu, **query: object) -> Spend:
    (line,) = _report(gpu, **query).lines
    (spend,) = line.spend
    return spend


async def test_the_whole_bill_holds_idle_time_within_hours_and_hours_without_a_call(gpu: Gpu) -> None:
    for second in range(12):
        await _ended(gpu, START + second, 300)
    await _ended(gpu, START + 2 * HOUR, 300, success=False)
    await gpu.close(START + 3 * HOUR + 301)
    spend = _spend(gpu)
    assert spend.whole_bill is not None
    assert spend.total is not None
    assert spend.whole_bill.total.nano == 3 * BILL  # the hour between is idle altogether
    assert spend.whole_bill.idle.nano == 3 * BILL - spend.total.nano
    assert spend.whole_bill.per_success.value == Decimal(round(3 * BILL * 1000 / 12)).scaleb(-12)
    assert spend.whole_bill.per_success.low is None  # a long run's idle time is not known from this one
    assert spend.whole_bill.pending == 0


async def test_calls_of_an_hour_not_closed_stand_at_their_usage_cost(gpu: Gpu) -> None:
    for second in range(12):
        await _ended(gpu, START + second, 300)
    spend = _spend(gpu)
    assert spend.whole_bill is not None
    assert spend.whole_bill.total == spend.total
    assert spend.whole_bill.pending == 12


async def test_open_hours_stand_at_their_usage_cost_beside_closed_ones(gpu: Gpu) -> None:
    for second in range(12):
        await _ended(gpu, START + second, 300)
    await _ended(gpu, START + HOUR, 600)
    await gpu.close(START + HOUR + 301)
    spend = _spend(gpu)
    assert spend.whole_bill is not None
    assert spend.whole_bill.total.nano == BILL + 416_667
    assert spend.whole_bill.pending == 1


async def test_a_pipeline_asked_for_alone_bears_what_it_bears_beside_the_others(gpu: Gpu) -> None:
    await gpu.store.record_config(config("c2", pipeline="q"))
    for second in range(12):
        await _ended(gpu, START + second, 300)
    await gpu.call(START + 60, 1200, pipeline="q", config_id="c2")
    await gpu.call(START + 2 * HOUR, 100)
    await gpu.close(START + 3 * HOUR + 301)
    whole = {line.group["pipeline"]: line.spend[0].whole_bill for line in _report(gpu).lines}
    assert sum(one.total.nano for one in whole.values() if one) == 3 * BILL
    assert _spend(gpu, pipeline="p").whole_bill == whole["p"]


async def test_configurations_that_go_by_the_same_names_bear_an_idle_hour_once(gpu: Gpu) -> None:
    await gpu.store.record_config(config("c2"))
    for second, config_id in enumerate(("c1", "c2") * 6):
        await gpu.call(START + second, 300, config_id=config_id)
        await gpu.end(START + second + 1, True)
    await gpu.call(START + 2 * HOUR, 100)
    await gpu.close(START + 3 * HOUR + 301)
    spend = _spend(gpu)
    assert spend.whole_bill is not None
    assert spend.whole_bill.total.nano == 3 * BILL


async def test_the_figure_stands_in_the_table_and_in_the_csv(gpu: Gpu) -> None:
    for second in range(12):
        await _ended(gpu, START + second, 300)
    await gpu.close(START + HOUR + 301)
    report = _report(gpu)
    assert "with the idle time of its GPUs" in render(report, "table")
    assert "cost_per_success_with_idle" in render(report, "csv").splitlines()[0]


def _told(gpu: Gpu) -> list[str]:
    report = _report(gpu)
    breakdown = build_breakdown(gpu.store, report)
    table = " ".join(render(report, "table", breakdown=breakdown).split())
    words = [one.words for one in breakdown.attention if one.kind == "break_even"]
    assert all(one in table for one in words)
    return words


async def _validate(gpu: Gpu, at: float, role: str = "repair", per_million: str = "10") -> None:
    """A call of a validator that is priced per token, in the run of the last call."""
    entry = PriceEntry.model_validate({"model": "frontier", "per_million": {"input": "1", "output": per_million}})
    name, usage = f"v{gpu.calls}", Usage(input=100, output=20)
    await gpu.store.intend(intent(name, f"{gpu.calls}", role=role, model="frontier", provider="litellm"))
    await gpu.store.settle(
        settlement(name, ended_at=at, usage=usage, cost=entry.cost(usage), price_version=entry.version_id),
        PriceRecord(version=entry.version_id, model="frontier", body_json=entry.body_json, created_at=START),
    )


async def test_a_report_tells_from_which_volume_a_gpu_pays_beside_its_validator(gpu: Gpu) -> None:
    for second in range(12):
        await gpu.call(START + second, 300)
        await _validate(gpu, START + second)
        await gpu.end(START + second + 1, success=True)
    assert "in the hours billed" not in _told(gpu)[0]
    await gpu.close(START + HOUR + 301)
    (words,) = _told(gpu)  # 300 tokens at 10 USD a million: 0.003 there; 2.500000001 / 0.003; 730 hours a month
    assert words == (
        "the GPUs of local (2.50 USD an hour) beside frontier pay from 834 calls an hour on, or 608,334 a month (a "
        "call like those of this period would cost 0.003000 USD there); in the hours billed they made 12 each"
    )


async def test_a_gpu_that_an_api_undercuts_even_at_full_load_never_pays(gpu: Gpu) -> None:
    await gpu.call(START, 300)
    await _validate(gpu, START, per_million="0.1")
    await gpu.end(START + 1, success=True)
    (words,) = _told(gpu)
    assert "beside frontier never pay: at full load they make 12,000 calls an hour" in words


async def test_without_a_validator_priced_per_token_there_is_no_break_even(gpu: Gpu) -> None:
    await gpu.call(START, 300)
    await _validate(gpu, START, role="draft")
    await gpu.end(START + 1, success=True)
    assert _told(gpu) == []
