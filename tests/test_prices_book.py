"""The price book: tiers, long prompts, moments, and what it refuses to say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.config.checked import validated
from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.config.yaml12 import parse_yaml
from orchestrator.errors import ConfigError
from orchestrator.records import ServiceTier, Usage

WHOLE = """\
book: house-3
prices:
  - model: m
    valid_from: 2026-01-01
    source: the provider's page, 2026-01-01
    per_million: {input: 3, output: 15, cache_read: "0.30", cache_write: "3.75", cache_write_1h: 6, input_audio: 10}
    tiers:
      batch: {input: "1.5", output: "7.5", cache_read: "0.15"}
      priority: {input: 6, output: 30}
    above:
      - prompt_tokens: 200000
        per_million: {input: 6, output: "22.5"}
        tiers: {batch: {input: 3, output: "11.25"}}
"""


def book(text: str = WHOLE) -> PriceBook:
    return validated(PriceBook, parse_yaml(text, Path("prices.yaml")))


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        book(text)
    return str(error.value)


ENTRY = book().prices[0]


@pytest.mark.parametrize(
    ("usage", "tier", "bill"),
    [
        (Usage(input=10, output=2), None, 10 * 3000 + 2 * 15000),
        (Usage(input=10, output=2), "batch", 10 * 1500 + 2 * 7500),
        (Usage(cache_read=10, reasoning=2), "batch", 10 * 150 + 2 * 7500),
        (Usage(input=10, output=2), "priority", 10 * 6000 + 2 * 30000),
        (Usage(cache_write=4, cache_write_1h=5, input_audio=6), None, 4 * 3750 + 5 * 6000 + 6 * 10000),
        (Usage(cache_write_1h=5, input_audio=6), "priority", 5 * 6000 + 6 * 6000),  # not said: as what they are of
        (Usage(input=200_000, output=2), None, 200_000 * 3000 + 2 * 15000),
        (Usage(input=200_001, output=2), None, 200_001 * 6000 + 2 * 22500),
        (Usage(input=1, cache_read=200_000, output=2), None, 200_001 * 6000 + 2 * 22500),  # the whole prompt counts
        (Usage(input=200_001, output=2), "batch", 200_001 * 3000 + 2 * 11250),
    ],
)
def test_a_call_is_billed_by_its_tier_and_by_the_length_of_its_prompt(
    usage: Usage, tier: ServiceTier | None, bill: int
) -> None:
    assert ENTRY.cost(usage, tier).nano == bill


@pytest.mark.parametrize(("prompt", "tier"), [(1, "flex"), (1, "other"), (200_001, "priority")])
def test_a_tier_the_book_is_silent_on_has_no_price(prompt: int, tier: ServiceTier) -> None:
    usage = Usage(input=prompt, output=1)
    assert not ENTRY.covers(usage, tier)
    assert ENTRY.bound(usage, tier) is None
    with pytest.raises(ValueError, match="says nothing of tier"):
        ENTRY.cost(usage, tier)


def entry_in(found: PriceBook, moment: str) -> str | None:
    entry = found.entry("m", datetime.fromisoformat(moment))
    return entry.source if entry else None


def dated(*spans: tuple[str, str | None]) -> str:
    lines = ["book: b", "prices:"]
    for i, (start, end) in enumerate(spans):
        until = f", valid_to: {end}" if end else ""
        price = f"source: p{i}, per_million: {{input: 1, output: 1}}"
        lines.append(f"  - {{model: m, valid_from: {start}{until}, {price}}}")
    return "\n".join(lines) + "\n"


def test_a_price_holds_to_the_moment() -> None:
    found = book(dated(("2026-01-01", None), ("2026-06-01T12:00:00Z", None)))
    assert entry_in(found, "2025-12-31T23:59:59+00:00") is None
    assert entry_in(found, "2026-01-01T00:00:00+00:00") == "p0"
    assert entry_in(found, "2026-06-01T11:59:59.999999+00:00") == "p0"
    assert entry_in(found, "2026-06-01T14:00:00+02:00") == "p1"


def test_after_an_offer_that_ends_the_standing_price_holds_again_and_without_one_there_is_none() -> None:
    found = book(dated(("2026-01-01", None), ("2026-03-01", "2026-04-01")))
    assert [entry_in(found, f"2026-{month}-15T00:00:00+00:00") for month in ("02", "03", "04")] == ["p0", "p1", "p0"]
    assert entry_in(book(dated(("2026-01-01", "2026-02-01"))), "2026-02-01T00:00:00+00:00") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (dated(("2026-01-01", None), ("2026-01-01T00:00:00Z", None)), "'m' has two prices from 2026-01-01"),
        (dated(("2026-01-01", "2026-07-01"), ("2026-03-01", None)), "says `valid_to: 2026-07-01`; end it where this"),
        (dated(("2026-01-01", "2025-12-31")), "is not after `valid_from:`"),
        (dated(("2026-01-01T12:00:00", None)), "names no time zone"),
        (dated(("soon", None)), "'soon' is no day or moment"),
        (WHOLE.replace("output: 15", "output: -15"), "greater than or equal to 0"),
        (WHOLE.replace('batch: {input: "1.5"', 'batch: {input: "-1.5"'), "greater than or equal to 0"),
        (WHOLE.replace("batch: {input: \"1.5\"", "batches: {input: \"1.5\""), "batches"),
        (WHOLE.replace("prompt_tokens: 200000", "prompt_tokens: 0"), "greater than 0"),
        (WHOLE + "rates: [{from: USD, to: EUR, rate: 0}]\n", "greater than 0"),
        (WHOLE + "rates: [{from: USD, to: USD, rate: 1}]\n", "to itself is 1"),
        (WHOLE + "rates: [{from: USD, to: EUR, rate: 2}, {from: EUR, to: USD, rate: 3}]\n", "two rates from"),
        (WHOLE + "accounts: {main: {name: us}}\n", "billing_account"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_line(text: str, said: str) -> None:
    message = refused(text)
    assert said in message
    assert message.startswith("prices.yaml:")


def test_thresholds_rise_and_a_gpu_has_neither_tiers_nor_thresholds() -> None:
    twice = [{"prompt_tokens": n, "per_million": {"input": 1, "output": 1}} for n in (5, 5)]
    with pytest.raises(ValidationError, match="rising"):
        PriceEntry.model_validate({"model": "m", "per_million": {"input": 1, "output": 1}, "above": twice})
    with pytest.raises(ValidationError, match="not with `gpu_hour:`"):
        PriceEntry.model_validate({
            "model": "m", "gpu_hour": {"price": 1, "tokens_per_s": 1}, "tiers": {"batch": {"input": 1, "output": 1}},
        })


def test_an_entry_read_back_from_the_ledger_is_the_same_entry() -> None:
    for entry in (*book().prices, *book(dated(("2026-06-01T12:00:00Z", "2026-07-01"))).prices):
        again = PriceEntry.model_validate_json(entry.body_json)
        assert (again, again.version_id) == (entry, entry.version_id)
    other = ENTRY.model_copy(update={"source": "another page"})
    assert PriceEntry.model_validate(other.model_dump()).version_id != ENTRY.version_id


COUNTS = st.integers(0, 300_000)
FIGURES = st.fixed_dictionaries(
    {"input": st.decimals("0", "60", places=5), "output": st.decimals("0", "60", places=5)},
    optional={name: st.decimals("0", "60", places=5) for name in
              ("cache_read", "cache_write", "cache_write_1h", "reasoning")},
)


@given(FIGURES, FIGURES, FIGURES, st.sampled_from([None, "batch"]), COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_no_split_of_a_text_costs_more_than_the_bound(
    base: Any, high: Any, batch: Any, tier: ServiceTier | None, fresh: int, read: int, write: int, hour: int, out: int,
    thought: int,
) -> None:
    entry = PriceEntry.model_validate({
        "model": "m", "per_million": base, "tiers": {"batch": batch},
        "above": [{"prompt_tokens": 1000, "per_million": high, "tiers": {"batch": high}}],
    })
    usage = Usage(input=fresh, cache_read=read, cache_write=write, cache_write_1h=hour, output=out, reasoning=thought)
    bound = entry.bound(Usage(input=usage.prompt + 5, output=out + thought), tier)
    assert bound is not None
    assert entry.cost(usage, tier).nano <= bound.nano
    assert entry.cost(usage).nano <= bound.nano  # a tier asked for may not be granted


@given(st.decimals("0", "9", places=4), st.decimals("0.1", "9999", places=1), COUNTS, COUNTS, COUNTS)
def test_no_use_of_a_gpu_costs_more_than_its_bound(price: Any, rate: Any, fresh: int, read: int, out: int) -> None:
    entry = PriceEntry.model_validate({"model": "m", "gpu_hour": {"price": str(price), "tokens_per_s": str(rate)}})
    bound = entry.bound(Usage(input=fresh + read, output=out))
    assert bound is not None
    assert entry.cost(Usage(input=fresh, cache_read=read, output=out)).nano <= bound.nano


@given(st.lists(st.builds(Usage, input=COUNTS, cache_read=COUNTS, output=COUNTS, reasoning=COUNTS), max_size=8),
       st.randoms(use_true_random=False))
def test_sums_of_costs_do_not_depend_on_order_or_grouping(usages: list[Usage], chance: Any) -> None:
    whole = sum(ENTRY.cost(usage).nano for usage in usages)
    by_class = [sum(column) for column in zip(*map(ENTRY.costs, usages), strict=True)]
    shuffled = chance.sample(usages, len(usages))
    cut = len(usages) // 2
    halves = [sum(ENTRY.cost(usage).nano for usage in part) for part in (shuffled[:cut], shuffled[cut:])]
    assert whole == sum(by_class) == sum(halves)


def test_prices_do_not_change_between_the_moments_the_book_names() -> None:
    found = book(dated(("2026-01-01", None), ("2026-03-01", "2026-04-01")))
    assert [moment.date().isoformat() for moment in found.changes()] == ["2026-01-01", "2026-03-01", "2026-04-01"]
    for moment in found.changes():
        just_before = found.entry("m", moment - timedelta(microseconds=1))
        assert just_before is not found.entry("m", moment)
    assert found.entry("m", datetime(2030, 1, 1, tzinfo=UTC)) is found.entry("m", found.changes()[-1])
