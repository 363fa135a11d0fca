"""`prices pin` and `prices show`: LiteLLM's packaged table becomes entries that bill what LiteLLM would."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.config.prices import PriceEntry
from orchestrator.errors import ConfigError, InputError
from orchestrator.models.frontier import load
from orchestrator.price_book import load_book, pin_price
from orchestrator.records import ServiceTier, Usage
from orchestrator.shipped_prices import shipped_price


def pinned(folder: Path, model: str) -> PriceEntry:
    path = folder / "prices.yaml"
    path.unlink(missing_ok=True)
    pin_price(path, shipped_price(model), date(2026, 1, 1))
    return load_book(path).prices[0]


@pytest.mark.parametrize("prompt", [1000, 300_000])
@pytest.mark.parametrize("model", [
    "openai/gpt-4o-mini", "openai/gpt-5.4", "gpt-5.6-sol", "claude-sonnet-4-5-20250929", "gemini/gemini-2.5-flash",
    "dashscope/qwen-flash", "mistral/mistral-large-latest",
])
def test_a_pinned_price_bills_what_litellm_computes_from_its_own_table(
    tmp_path: Path, model: str, prompt: int
) -> None:
    entry = pinned(tmp_path, model)
    usage = Usage(input=prompt, output=100)
    tiers: list[ServiceTier] = ["flex", "priority"]
    for tier in [None, *(one for one in tiers if entry.covers(usage, one))]:
        theirs = load().cost_per_token(
            model=model.partition("/")[2] or model, prompt_tokens=prompt, completion_tokens=100, service_tier=tier,
            custom_llm_provider=model.partition("/")[0] if "/" in model else None,
        )
        assert entry.cost(usage, tier).nano == round(sum(theirs) * 1e9), tier


def test_what_a_tier_does_not_list_is_taken_in_proportion_and_said(tmp_path: Path) -> None:
    shipped = load().model_cost["claude-haiku-5-5"]
    entry = pinned(tmp_path, "claude-haiku-5-5")
    assert "cache_creation_input_token_cost_above_1hr_batches" not in shipped
    assert entry.cost(Usage(cache_write_1h=1000)).nano == 2 * entry.cost(Usage(cache_write_1h=1000), "batch").nano
    assert "in proportion: above 100,000 batch cache_write_1h, batch cache_write_1h" in entry.source
    assert entry.source.startswith("litellm ")


def test_what_the_book_can_not_hold_is_remarked_upon() -> None:
    assert any("search_context_cost_per_query" in remark for remark in shipped_price("claude-haiku-5-5").remarks)
    assert any("off_peak" in remark for remark in shipped_price("deepseek-v4-pro").remarks)


def test_dated_snapshots_of_the_very_same_price_are_named_as_aliases() -> None:
    """OpenAI answers with a dated name: without it in the book, every call would be unpriced."""
    table = load().model_cost
    price = shipped_price("openai/gpt-4o-mini")
    assert price.aliases == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert "gpt-4o-2024-05-13" in table  # dearer than gpt-4o is today
    assert "gpt-4o-2024-05-13" not in shipped_price("openai/gpt-4o").aliases
    assert not any("mini" in alias for alias in shipped_price("openai/gpt-4o").aliases)


@pytest.mark.parametrize("model", ["gpt-4o-min", "openai/gpt-4o-mini-2", "nobody/nothing", "azure/gpt-4o-min"])
def test_a_name_that_only_resembles_one_is_not_pinned(model: str) -> None:
    with pytest.raises(InputError, match="LiteLLM's table has no"):
        shipped_price(model)


def test_pinning_again_is_a_noop_and_a_second_price_of_one_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    price = shipped_price("gpt-5.4")
    pin_price(path, price, date(2026, 1, 1))
    before = path.read_text()
    assert "unchanged since 2026-01-01" in pin_price(path, price, date(2026, 2, 1))
    with pytest.raises(InputError, match=r"another price of 'gpt-5\.4' from 2026-01-01"):
        pin_price(path, shipped_price_of(path, input_="9"), date(2026, 1, 1))
    assert path.read_text() == before


def shipped_price_of(path: Path, *, input_: str) -> Any:
    from dataclasses import replace
    from decimal import Decimal

    price = shipped_price("gpt-5.4")
    return replace(price, per_million={**price.per_million, "input": Decimal(input_)})


def test_a_price_that_would_fall_into_another_ones_span_leaves_the_book_untouched(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "book: b\nprices:\n  - {model: gpt-5.4, valid_from: 2026-01-01, valid_to: 2027-01-01, "
        "per_million: {input: 1, output: 2}}\n"
    )
    before = path.read_text()
    with pytest.raises(ConfigError, match="has two prices from 2026-06-01"):
        pin_price(path, shipped_price("gpt-5.4"), date(2026, 6, 1))
    assert path.read_text() == before


def test_show_tells_all_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "book: b\nprices:\n"
        "  - {model: local, gpu_hour: {price: '1.8', gpus: 2, tokens_per_s: 1000}, valid_to: 2026-12-01}\n"
        "rates: [{from: USD, to: EUR, rate: '0.91', valid_from: 2026-11-01, source: ECB}]\n"
        "accounts: {main: {billing_account: org-1, name: Ours, sub_account: proj-7, issuer: OpenAI}}\n"
    )
    moment = ["--valid-from", "2026-11-01T12:00:00Z", "--book", str(path)]
    assert run_command(["prices", "pin", "gpt-5.4", *moment]) == 0
    by_hand = ["--input", "1", "--output", "2", "--cache-write-1h", "1.5"]
    assert run_command(["prices", "pin", "own", *by_hand, *moment]) == 0
    capsys.readouterr()
    assert run_command(["prices", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    for told in (
        "2026-11-01 12:00:00+00:00", "batch", "flex", "priority", "above 272,000 tokens", "above 272,000, batch",
        "cache write 1h 1.5", "1.8 an hour and GPU, 2 GPUs", "2026-12-01", "0.91", "ECB", "org-1", "proj-7", "litellm ",
    ):
        assert told in shown
    assert run_command(["prices", "show", str(path), "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["prices"][1]
    assert entry["above"][0]["prompt_tokens"] == 272_000
    assert entry["tiers"]["batch"]["input"] == "1.25"


@pytest.mark.parametrize("figure", ["-1", "nan", "a lot", "1,5"])
def test_a_figure_that_is_no_price_is_refused_and_nothing_is_written(tmp_path: Path, figure: str) -> None:
    path = tmp_path / "prices.yaml"
    assert run_command(["prices", "pin", "m", "--input", figure, "--output", "1", "--book", str(path)]) == 2
    assert not path.exists()


def test_a_model_that_litellm_does_not_list_has_near_names_or_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = ["--book", str(tmp_path / "prices.yaml")]
    assert run_command(["prices", "pin", "nosuch-model-x", *book]) == 2
    told = capsys.readouterr().err
    assert "LiteLLM's table has no 'nosuch-model-x'\n" in told
    assert "--input, --output and --source" in told
    assert run_command(["prices", "pin", "openai/gpt-4o-mimi", *book]) == 2
    assert "near it are gpt-4o-mini" in capsys.readouterr().err


def test_figures_by_hand_without_a_source_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_hand = ["--input", "1", "--output", "2", "--book", str(tmp_path / "prices.yaml")]
    assert run_command(["prices", "pin", "own", *by_hand]) == 0
    assert "the price of own says not where it is from" in capsys.readouterr().err
    assert run_command(["prices", "pin", "other", *by_hand, "--source", "contract 7"]) == 0
    assert "where it is from" not in capsys.readouterr().err


@pytest.mark.parametrize(("text", "words"), [
    ("model,price\na,1\n", "the file is plain text"), ("- a\n", "the file is a list"), ("", "the file is empty"),
])
def test_what_is_no_price_book_is_told_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    path = tmp_path / "good.csv"
    path.write_text(text)
    assert run_command(["prices", "show", str(path)]) == 2
    assert words in capsys.readouterr().err
