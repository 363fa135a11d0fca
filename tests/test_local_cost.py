"""What a rented GPU does in an hour, as `drafter bench` measures it, and when that costs less than an API."""

from __future__ import annotations

import json
import math
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli import cli, run_command
from orchestrator.config.prices import PriceEntry
from orchestrator.errors import InputError
from orchestrator.finance.break_even import break_even
from orchestrator.finance.break_even_told import break_evens
from orchestrator.finance.breakdown import Charge, Idle
from orchestrator.models.bench import Load, solve
from orchestrator.price_book import add_entry, load_book
from orchestrator.records import Money, Usage

DAY = date(2026, 11, 1)
LOCAL = PriceEntry.model_validate(
    {"model": "local", "gpu_hour": {"price": "2", "tokens_per_s": "1000", "input_weight": "0.1"}})
API = PriceEntry.model_validate({"model": "api", "per_million": {"input": "0.5", "output": "2"}})


@given(st.floats(10, 1e5), st.floats(0.001, 0.9), st.floats(0, 1), st.integers(1, 10**6))
def test_three_loads_give_back_the_figures_they_were_made_with(
    rate: float, weight: float, share: float, scale: int
) -> None:
    cached = weight * share

    def load(fresh: int, kept: int, written: int) -> Load:
        return Load((written + weight * fresh + cached * kept) / rate, 1, fresh, kept, written)

    found = solve(load(10 * scale, 0, 64 * scale), load(300 * scale, 0, scale), load(5 * scale, 300 * scale, scale))
    for one, true in zip(found, (rate, weight, cached), strict=True):
        assert math.isclose(one, true, rel_tol=1e-6, abs_tol=1e-6)


def test_loads_that_are_alike_measure_nothing() -> None:
    with pytest.raises(InputError, match="don't tell reading from writing"):
        solve(Load(1.0, 1, 10, 0, 64), Load(1.0, 1, 10, 0, 64), Load(1.0, 1, 10, 0, 64))


def test_break_even_is_the_volume_at_which_the_api_costs_the_gpus_hour() -> None:
    found = break_even(LOCAL, API, Usage(input=400, output=100))  # 0.0004 a call there; 140 weighted tokens here
    assert found.calls_per_hour == 5_000
    assert found.calls_per_month == 5_000 * 730
    assert found.capacity_per_hour == Fraction(3_600_000, 140)
    assert found.reachable
    assert found.api_call.nano * found.calls_per_hour == found.bill.nano


def test_a_gpu_too_slow_to_earn_its_hour_never_breaks_even() -> None:
    slow = PriceEntry.model_validate(
        {"model": "slow", "gpu_hour": {"price": "2", "tokens_per_s": "10", "input_weight": "0.1"}})
    assert not break_even(slow, API, Usage(input=400, output=100)).reachable


@pytest.mark.parametrize(("local", "api", "usage", "said"), [
    (API, API, Usage(output=1), "must be priced by `gpu_hour:`"),
    (LOCAL, PriceEntry.model_validate({**API.model_dump(), "currency": "EUR"}), Usage(output=1), "is priced in USD"),
    (LOCAL, API, Usage(), "is no work"),
])
def test_what_can_not_be_laid_side_by_side_is_refused(local: Any, api: Any, usage: Usage, said: str) -> None:
    with pytest.raises(InputError, match=said):
        break_even(local, api, usage)


def charge(model: str, role: str, version: str, allocated: int | None = None, **tokens: int) -> Charge:
    """A thousand calls."""
    return Charge(
        day=DAY, pipeline="p", version="1", owner="", cost_center="", mode="cascade", tenant="", tags={}, step="s",
        role=role, provider="vllm", model=model, account=None, tier=None, state="settled", provenance=None,
        currency="USD", price_version=version, calls=1000, tokens=tokens, costs=None, cost=Money(nano=0),
        bound=None, unpriced=0, unsettled=0, in_flight=0, unbounded=0,
        allocated=None if allocated is None else Money(nano=allocated),
    )


def gpu_price(price: str, day: str, **more: str) -> dict[str, Any]:
    return {"model": "local", "valid_from": day, "gpu_hour": {"price": price, "tokens_per_s": "1000", **more}}


ASKED = charge("api", "redo", "api", input=100_000, output=20_000)


def test_hours_are_told_from_each_bill_at_its_own_price() -> None:
    """100 hours at 2 USD, 100 at 4, and 50 idle ones at 2."""
    charges = [charge("local", "draft", version, price * 100 * 10**9, input=100_000, output=20_000)
               for version, price in (("two", 2), ("four", 4))]
    idle = Idle(day=DAY, model="local", price_version="two", cost=Money(nano=100 * 10**9))
    prices = {"two": gpu_price("2", "2026-11-01"), "four": gpu_price("4", "2026-11-15"), "api": API.model_dump()}
    (found,) = break_evens([*charges, ASKED], [idle], prices)
    assert found.hours == 250
    assert found.calls_per_hour == 8


def test_calls_that_are_no_work_are_left_out_of_the_report_and_do_not_end_it() -> None:
    free = gpu_price("2", "2026-11-01", input_weight="0", cache_read_weight="0")
    charges = [charge("local", "draft", "free", 10**9, input=100_000), ASKED]
    assert break_evens(charges, [], {"free": free, "api": API.model_dump()}) == []


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    for entry in (LOCAL, API):
        add_entry(path, entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
    return path


def test_the_command_lays_every_api_model_of_the_book_beside_the_gpu(book: Path) -> None:
    asked = ["drafter", "break-even", str(book), "--input", "400", "--output", "100"]
    found = json.loads(CliRunner().invoke(cli, [*asked, "--json"], standalone_mode=False).output)
    assert [(one["api"], one["calls_per_hour"], one["reachable"]) for one in found] == [("api", 5000.0, True)]
    shown = CliRunner().invoke(cli, asked, standalone_mode=False).output
    assert "5,000" in shown
    assert "3,650,000" in shown


def test_a_book_without_a_gpu_is_an_input_error(book: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "api.yaml"
    add_entry(path, API.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
    assert run_command(["drafter", "break-even", str(path), "--input", "4", "--output", "1"]) == 2
    assert "must have one local model" in capsys.readouterr().err


@pytest.mark.parametrize("half", ["--input", "--output"])
def test_tokens_read_without_tokens_written_are_refused(book: Path, capsys: Any, half: str) -> None:
    assert run_command(["drafter", "break-even", str(book), half, "400"]) == 2
    assert "give --input and --output, or neither" in capsys.readouterr().err


def test_an_entry_the_book_can_not_hold_leaves_it_as_it_was(book: Path) -> None:
    before = book.read_bytes()
    with pytest.raises(InputError):
        add_entry(book, {"model": "api", "per_million": {"input": 1, "output": -1}})
    assert book.read_bytes() == before
    assert len(load_book(book).prices) == 2
