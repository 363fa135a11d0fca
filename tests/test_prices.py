"""Usage becomes money in one place: exactly, per token class, rounded once, by the version valid at the time."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.records import TOKEN_CLASSES, Usage


def entry(**more: Any) -> PriceEntry:
    return PriceEntry.model_validate({"model": "m", "per_million": {"input": "3", "output": "15"}, **more})


def test_each_token_class_has_its_own_price() -> None:
    prices = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75", "reasoning": "20"}
    usage = Usage(input=1000, cache_read=2000, cache_write=100, output=50, reasoning=10)
    assert entry(per_million=prices).cost(usage).nano == 3_000_000 + 600_000 + 375_000 + 750_000 + 200_000


def test_cached_input_and_reasoning_fall_to_input_and_output_where_no_price_is_given() -> None:
    usage = Usage(cache_read=1, cache_write=1, reasoning=1)
    assert entry().cost(usage).nano == 3000 + 3000 + 15000


def test_half_a_billionth_rounds_to_even_in_each_class_apart() -> None:
    prices = {"input": "0.0005", "output": "0.0005"}
    one = entry(per_million=prices)
    assert one.cost(Usage(input=1)).nano == 0  # 0.5
    assert one.cost(Usage(input=3)).nano == 2  # 1.5
    assert one.cost(Usage(input=1, output=3)).nano == 2  # rounded apart, not 2.0 of their sum


@given(
    st.decimals("0", "999", places=7), st.decimals("0", "999", places=7),
    st.integers(0, 10**9), st.integers(0, 10**9),
)
def test_the_cost_is_the_exact_product_rounded_once(
    price_in: Decimal, price_out: Decimal, tokens_in: int, tokens_out: int
) -> None:
    found = entry(per_million={"input": str(price_in), "output": str(price_out)}).cost(
        Usage(input=tokens_in, output=tokens_out)
    )
    assert found.nano == round(Fraction(price_in) * tokens_in * 1000) + round(Fraction(price_out) * tokens_out * 1000)


def test_a_gpu_hour_is_charged_by_share_of_busy_time() -> None:
    """2 GPUs at 1.80 USD an hour, 1,000 weighted tokens a second: 1e-6 USD a weighted token."""
    gpu = {"price": "1.80", "gpus": 2, "tokens_per_s": "1000", "input_weight": "0.1", "cache_read_weight": "0.01"}
    one = PriceEntry.model_validate({"model": "m", "gpu_hour": gpu})
    assert one.cost(Usage(output=1)).nano == 1000
    assert one.cost(Usage(input=100, cache_read=1000, cache_write=10, output=5, reasoning=5)).nano == 31_000
    hour = one.cost(Usage(output=3_600_000)).nano
    assert hour == 3_600_000_000  # a full hour's tokens cost the whole hour of both GPUs


@given(st.integers(0, 10**8), st.decimals("0.01", "99", places=2), st.decimals("0.1", "99999", places=1))
def test_a_gpu_share_is_rounded_from_the_exact_quotient(tokens: int, price: Decimal, rate: Decimal) -> None:
    gpu = {"price": str(price), "tokens_per_s": str(rate)}
    found = PriceEntry.model_validate({"model": "m", "gpu_hour": gpu}).cost(Usage(output=tokens))
    exact = Fraction(tokens) / Fraction(rate) * Fraction(price) / 3600 * 10**9
    assert found.nano == round(exact)


def test_nothing_used_costs_nothing() -> None:
    assert entry().cost(Usage()).nano == 0
    assert set(TOKEN_CLASSES) == {f for f in Usage.__dataclass_fields__ if f != "estimated"}


def test_a_price_written_as_a_float_is_taken_as_written() -> None:
    one = entry(per_million={"input": 0.1, "output": 0.3})
    assert one.cost(Usage(input=3)).nano == Decimal("300").to_integral_value(ROUND_HALF_EVEN)


@pytest.mark.parametrize("price", [-1, "-0.1", True, None, [1], "cheap", "NaN", "Infinity"])
def test_what_is_no_price_is_refused(price: object) -> None:
    with pytest.raises(ValidationError):
        entry(per_million={"input": price, "output": "1"})


def book() -> PriceBook:
    return PriceBook.model_validate({
        "book": "b", "aliases": {"served": "m"},
        "prices": [
            {"model": "m", "per_million": {"input": "1", "output": "1"}, "valid_from": "2026-01-01"},
            {"model": "m", "per_million": {"input": "2", "output": "2"}, "valid_from": "2026-06-01"},
        ],
    })


def test_a_call_is_priced_by_the_version_valid_at_its_end() -> None:
    days = [datetime(2025, 12, 31), datetime(2026, 5, 31), datetime(2026, 6, 1)]
    found = [book().entry("m", day.replace(tzinfo=UTC)) for day in days]
    assert [one and one.name for one in found] == [None, "m@2026-01-01", "m@2026-06-01"]


def test_a_model_is_found_by_name_or_alias_and_never_by_prefix() -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    assert book().entry("served", now) is not None
    assert book().entry("m-mini", now) is None
    assert book().entry("", now) is None
