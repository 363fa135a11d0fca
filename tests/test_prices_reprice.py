"""What another book would have said, and what the same money is in another currency."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cli import run_command
from orchestrator.config.prices import PriceBook, Rate
from orchestrator.errors import InputError
from orchestrator.finance.convert import convert, utc_day
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.reprice import Repriced, render_repriced, reprice
from orchestrator.records import TOKEN_CLASSES, Money, Usage
from tests.ledger import Ledger

JUNE = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
BOOK = PriceBook.model_validate({
    "book": "ours", "aliases": {"m-2026": "m", "alias-of-ours": "m"},
    "prices": [
        {"model": "m", "per_million": {"input": "0.1234", "output": "0.5", "cache_read": "0.0375"},
         "tiers": {"batch": {"input": "0.05", "output": "0.25"}},
         "above": [{"prompt_tokens": 1000, "per_million": {"input": "0.2", "output": "0.7"}}]},
        {"model": "m", "valid_from": "2026-06-01", "per_million": {"input": "0.3", "output": "0.9"}},
        {"model": "e", "currency": "EUR", "per_million": {"input": 2, "output": 4}},
    ],
})
DEARER = PriceBook.model_validate({
    "book": "theirs", "prices": [{"model": "m", "per_million": {"input": 1, "output": 2}}],
})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger.on_disk(tmp_path)
    found.config(models={"drafter": {"use": "vllm:served", "price": "alias-of-ours"}})
    found.run("r")
    yield found
    found.close()


def call(ledger: Ledger, usage: Usage, *, model: str = "m", tier: str | None = None, at: float = 100.0,
         provenance: str = "priced", cost: int | None = None, **more: Any) -> None:
    """A call as it is settled: priced by BOOK, unless a cost is given."""
    entry = BOOK.entry_of(asked=model, kind=more.get("provider", "x"), answered=more.get("model_answered"),
                          price=None, at=datetime.fromtimestamp(at, UTC))
    if cost is None and entry is not None and entry.covers(usage, tier):  # type: ignore[arg-type]
        cost = entry.cost(usage, tier).nano  # type: ignore[arg-type]
    tokens = {f"{name}_tokens": getattr(usage, name) for name in TOKEN_CLASSES}
    ledger.call("r", cost, currency=entry.currency if entry else "USD", model=model, tier=tier, ended_at=at,
                provenance=provenance, **{**tokens, **more})


def by(ledger: Ledger, book: PriceBook, period: Period | None = None) -> Repriced:
    with ledger.read() as connection:
        return reprice(connection, book, period=period or Period())


def test_another_book_says_what_it_would_have_cost_and_rewrites_nothing(ledger: Ledger) -> None:
    call(ledger, Usage(input=1000, output=10))
    call(ledger, Usage(input=3, output=4), model="unknown")
    found = by(ledger, DEARER)
    assert found.recorded == (Money(nano=1000 * 123 + 400 + 10 * 500),)
    assert found.repriced == (Money(nano=1000 * 1000 + 10 * 2000),)
    assert [(one.model, one.unpriced, one.still_unpriced) for one in found.lines] == [("m", 0, 0), ("unknown", 1, 1)]
    assert by(ledger, BOOK).repriced == found.recorded


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(
    st.builds(Usage, input=st.integers(0, 2000), cache_read=st.integers(0, 900), output=st.integers(0, 99),
              reasoning=st.integers(0, 99)),
    st.sampled_from(["m", "m-2026", "e", "unknown"]), st.sampled_from([None, "batch", "flex"]),
    st.sampled_from([100.0, JUNE - 0.001, JUNE, JUNE + 1e6]), st.sampled_from(["priced", "estimated"]),
), min_size=1, max_size=12))
def test_repricing_with_the_book_that_priced_is_the_identity(tmp_path: Path, calls: list[Any]) -> None:
    path = tmp_path / "identity"
    path.mkdir(exist_ok=True)
    (path / "ledger.db").unlink(missing_ok=True)
    ledger = Ledger.on_disk(path)
    ledger.config()
    ledger.run("r")
    for usage, model, tier, at, provenance in calls:
        call(ledger, usage, model=model, tier=tier, at=at, provenance=provenance)
    found = by(ledger, BOOK)
    ledger.close()
    assert found.repriced == found.recorded
    assert all((line.repriced, line.still_unpriced) == (line.recorded, line.unpriced) for line in found.lines)


def test_the_model_that_answered_counts_and_the_pipelines_alias_only_where_it_was_asked(ledger: Ledger) -> None:
    call(ledger, Usage(input=1), model="served", provider="vllm", cost=1)
    call(ledger, Usage(input=1), model="served", provider="vllm", model_answered="other", cost=1)
    found = by(ledger, BOOK)
    assert {line.model: line.still_unpriced for line in found.lines} == {"served": 0, "other": 1}


def test_what_a_provider_billed_itself_and_what_was_never_answered_stay_as_they_are(ledger: Ledger) -> None:
    call(ledger, Usage(input=1), provenance="provider", cost=77)
    ledger.call("r", None, state="unsettled", provenance="unsettled", input_tokens=None)
    ledger.call("r", 0, model="refused", provenance="priced", input_tokens=0)
    found = by(ledger, DEARER)
    assert (found.repriced, found.unsettled) == ((Money(nano=77),), 1)
    assert sum(line.still_unpriced for line in found.lines) == 0  # a refused call used nothing: nothing is unknown


def test_only_the_calls_of_the_period_are_repriced(ledger: Ledger) -> None:
    for at in (JUNE - 1, JUNE):
        call(ledger, Usage(input=10), at=at)
    assert by(ledger, BOOK, parse_period(month="2026-06")).repriced == (Money(nano=3000),)


def test_the_command_prints_a_table_or_json_and_refuses_what_is_no_book(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(ledger, Usage(input=1000, output=10))
    book = tmp_path / "theirs.yaml"
    book.write_text("book: theirs\nprices:\n  - {model: m, per_million: {input: 1, output: 2}}\n")
    store = ["--store", f"sqlite:///{tmp_path}/ledger.db"]
    assert run_command(["report", "--reprice", str(book), *store]) == 0
    printed = capsys.readouterr().out
    assert "by theirs" in printed
    assert "0.00102 USD" in printed
    assert run_command(["report", "--reprice", str(book), "--json", *store]) == 0
    assert json.loads(capsys.readouterr().out)["repriced"] == [{"amount": "0.00102", "currency": "USD"}]
    book.write_text("book: theirs\nprices:\n  - {model: m, per_million: {input: -1, output: 2}}\n")
    assert run_command(["report", "--reprice", str(book), *store]) == 2
    assert "theirs.yaml:3" in capsys.readouterr().err


def test_the_table_names_what_no_book_can_price(ledger: Ledger) -> None:
    ledger.call("r", None, state="unsettled", provenance="unsettled", input_tokens=None)
    assert "1 unsettled calls have no usage" in render_repriced(by(ledger, BOOK))


# -- another currency -------------------------------------------------------------------------------------------------

RATES = (
    Rate.model_validate({"from": "USD", "to": "EUR", "rate": "0.9", "valid_from": "2026-01-01", "source": "ECB"}),
    Rate.model_validate({"from": "USD", "to": "EUR", "rate": "0.8", "valid_from": "2026-06-02", "source": "ECB"}),
    Rate.model_validate({"from": "GBP", "to": "EUR", "rate": "1.15"}),
)


def of(day: str, nano: int, currency: str = "USD") -> tuple[date, Money]:
    return date.fromisoformat(day), Money(nano=nano, currency=currency)


def test_a_days_sum_is_converted_at_the_rate_of_that_day_with_one_rounding() -> None:
    june = [of("2026-06-01", 5), of("2026-06-01", 5), of("2026-06-02", 10), of("2026-06-03", 10)]
    sums = [*june, of("2026-06-03", 1, "EUR")]
    assert convert(sums, "EUR", RATES) == Money(nano=9 + 8 + 8 + 1, currency="EUR")
    assert convert([of("2026-06-01", 1)], "EUR", RATES).nano == 1  # 0.9
    assert convert([of("2026-06-02", 100)], "EUR", RATES).nano == 80


def test_a_rate_given_the_other_way_round_is_divided_by_exactly() -> None:
    assert convert([of("2026-06-01", 9, "EUR")], "USD", RATES).nano == 10
    pounds = convert([of("2026-06-01", 1_000_000, "EUR")], "GBP", RATES)
    assert pounds.nano == round(Fraction(1_000_000) / Fraction("1.15"))


def test_a_day_without_a_rate_is_an_error_that_says_what_to_add_and_rates_are_not_chained() -> None:
    with pytest.raises(InputError, match="no rate from USD to EUR for 2025-12-31"):
        convert([of("2025-12-31", 1)], "EUR", RATES)
    with pytest.raises(InputError, match="no rate from USD to GBP"):
        convert([of("2026-06-01", 1)], "GBP", RATES)
    assert convert([of("2025-12-31", 0)], "EUR", RATES).nano == 0  # nothing spent needs no rate


def test_the_day_is_the_utc_day_on_which_the_calls_ended() -> None:
    assert utc_day(JUNE - 0.001) == date(2026, 5, 31)
    assert utc_day(JUNE) == date(2026, 6, 1)


@given(st.lists(st.tuples(st.sampled_from(["2026-06-01", "2026-06-02"]), st.integers(0, 10**12)), max_size=9),
       st.decimals("0.0001", "9999", places=4), st.randoms(use_true_random=False))
def test_pieces_of_a_days_sum_convert_as_one(pieces: list[tuple[str, int]], rate: Decimal, chance: Any) -> None:
    rates = [Rate.model_validate({"from": "USD", "to": "JPY", "rate": str(rate)})]
    sums = [of(day, nano) for day, nano in pieces]
    days = {day: sum(nano for one, nano in pieces if one == day) for day, _ in pieces}
    expected = sum(round(Fraction(nano) * Fraction(rate)) for nano in days.values())
    assert convert(chance.sample(sums, len(sums)), "JPY", rates).nano == expected
