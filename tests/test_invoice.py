"""The ledger beside a provider's own account of it: every shape of file, every kind of difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.prices import PriceBook
from orchestrator.errors import InputError
from orchestrator.finance.invoice.compare import reconcile
from orchestrator.finance.invoice.mapped import parse_map
from orchestrator.finance.invoice.read import read_invoice
from orchestrator.finance.invoice.records import ComparedRow, Reconciled, Tolerance
from orchestrator.finance.invoice.words import invoice_table
from tests.ledger import Ledger

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()
DAY = 86400.0
USD = 1_000_000_000
OPENAI_COST = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,quantity,quantity_unit,line_item,"
    "user_id,api_key_id,project_id,organization_id,project_name\n"
)
ANTHROPIC_COST = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,"
    "inference_geo,speed,api_key_id,api_key_status\n"
)
ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    made.config()
    made.run("r", ended_at=NOON)
    yield made
    made.close()


def spend(ledger: Ledger, cost: int | None, model: str = "gpt-4o", *, at: float = NOON, **more: Any) -> None:
    ledger.call("r", cost, model=model, ended_at=at, **{"provider": "openai", **more})


def compare(ledger: Ledger, tmp_path: Path, text: str, *, name: str = "i.csv", columns: str | None = None,
            book: dict[str, Any] | None = None, **asked: Any) -> Reconciled:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    read = read_invoice(path, parse_map(columns) if columns else None)
    made = PriceBook.model_validate({"book": "b", **book}) if book else None
    with ledger.read() as connection:
        return reconcile(connection, read, book=made, **asked)


def openai_cost(*rows: tuple[str, str, str], project: str = "proj_a", quantity: str = "") -> str:
    return OPENAI_COST + "".join(
        f',,{day}T00:00:00+00:00,,{cost},usd,{quantity},tokens,"{item}",,,{project},org,P\n' for day, cost, item in rows
    )


def only(found: Reconciled) -> ComparedRow:
    assert len(found.rows) == 1
    return found.rows[0]


# -- the shapes ------------------------------------------------------------------------------------------------------


def test_openai_s_cost_export_is_summed_by_model_and_laid_beside_the_calls(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 3 * USD)
    text = openai_cost(("2026-11-02", "1.25000000000000000000000001", "gpt-4o, input"),
                       ("2026-11-02", "0.5", "gpt-4o, cached input"), ("2026-11-02", "1.25", "gpt-4o, output"))
    found = compare(ledger, tmp_path, text)
    row = only(found)
    assert (found.shape, found.currency, found.ok) == ("OpenAI cost export", "USD", True)
    assert (row.status, row.model) == ("matched", "gpt-4o")
    assert row.difference == Decimal("0.00000000000000000000000001")


@pytest.mark.parametrize("item", [
    "gpt-4o, input", "gpt-4o, output", "gpt-4o, cached input", "priority | gpt-4o, output, long context",
    "gpt-4o audio, input", "gpt-4o, input_tokens",
])
def test_an_openai_line_item_names_its_model(ledger: Ledger, tmp_path: Path, item: str) -> None:
    spend(ledger, USD)
    assert only(compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", item)))).status == "matched"


def test_openai_s_costs_api_is_read_exactly(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 130_804_380)
    body = {"object": "page", "has_more": False, "data": [{
        "object": "bucket", "start_time": int(NOON - 12 * 3600), "end_time": int(NOON + 12 * 3600), "results": [
            {"object": "organization.costs.result", "amount": {"value": 0.13080438, "currency": "usd"},
             "line_item": "gpt-4o, input", "project_id": None},
        ]}]}
    row = only(compare(ledger, tmp_path, json.dumps(body), name="i.json"))
    assert (row.status, row.difference) == ("matched", Decimal(0))


def test_openai_s_usage_counts_cached_tokens_once(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, input_tokens=600, cache_read_tokens=400, output_tokens=300, reasoning_tokens=200)
    body = {"object": "page", "has_more": False, "data": [{
        "object": "bucket", "start_time": int(NOON - 12 * 3600), "end_time": int(NOON + 12 * 3600), "results": [
            {"object": "organization.usage.completions.result", "input_tokens": 1000, "input_cached_tokens": 400,
             "output_tokens": 500, "num_model_requests": 5, "model": "gpt-4o", "project_id": None},
        ]}]}
    row = only(compare(ledger, tmp_path, json.dumps([body]), name="i.json"))
    assert row.tokens == {"input": 0, "cache_read": 0, "cache_write": 0, "output": 0}
    assert (row.status, row.difference) == ("matched", None)


def test_the_console_s_model_names_need_an_alias_and_the_message_suggests_it(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 7 * USD // 100, "claude-haiku-4-5", provider="litellm")
    row = "2026-11-02,Claude Haiku 4.5,Default,key,message,≤ 200k,{},{},0,{},not_available,,apikey_1,active\n"
    text = ANTHROPIC_COST + row.format("input_no_cache", "0.05", "token") + row.format("output", "0.02", "token")
    found = compare(ledger, tmp_path, text)
    assert not found.ok
    assert [note for note in found.notes if "Claude Haiku 4.5: claude-haiku-4-5" in note]
    book = {"aliases": {"Claude Haiku 4.5": "claude-haiku-4-5"}}
    assert only(compare(ledger, tmp_path, text, book=book)).status == "matched"


def test_anthropic_s_usage_export_has_tokens_alone(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, "claude-haiku-4-5", input_tokens=10, cache_read_tokens=30, cache_write_tokens=20,
          cache_write_1h_tokens=5, output_tokens=40, provider="litellm")
    text = ANTHROPIC_USAGE + "2026-11-02,claude-haiku-4-5,key,Default,message,≤ 200k,10,20,5,30,41,0,,\n"
    found = compare(ledger, tmp_path, text)
    row = only(found)
    assert (row.status, found.ok) == ("tokens", False)
    assert row.tokens == {"input": 0, "cache_read": 0, "cache_write": 0, "output": 1}
    assert compare(ledger, tmp_path, text, tolerance=Tolerance(percent=Decimal(3))).ok


def test_the_cost_report_of_anthropic_is_in_cents(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 1_237_891_200, "claude-opus-5", provider="litellm")
    body = {"data": [{"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z", "results": [
        {"amount": "123.78912", "currency": "USD", "cost_type": "tokens", "model": "claude-opus-5",
         "description": "Claude Opus 5 Usage - Input Tokens", "token_type": "uncached_input_tokens",
         "workspace_id": None},
        {"amount": "100", "currency": "USD", "cost_type": "web_search", "description": "Web Search Usage",
         "model": None, "workspace_id": None},
    ]}], "has_more": False, "next_page": None}
    found = compare(ledger, tmp_path, json.dumps(body), name="i.json")
    assert only(found).difference == Decimal(0)
    assert [(one.what, one.cost) for one in found.apart] == [("Web Search Usage", Decimal(1))]


def test_any_csv_is_read_by_a_map(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 1_234_500_000_000, currency="EUR", model="m")
    (tmp_path / "map.yaml").write_text(
        'date: Tag\nmodel: SKU\ncost: Betrag\ncurrency: EUR\ndecimal: ","\ndate_format: "%d.%m.%Y"\ndelimiter: ";"\n'
    )
    text = "Tag;SKU;Betrag\n02.11.2026;m;1.234,50\n02.11.2026;;19,00\n"
    found = compare(ledger, tmp_path, text, columns=str(tmp_path / "map.yaml"))
    assert only(found).status == "matched"
    assert [(one.reason, one.cost) for one in found.apart] == [("no usage of a model", Decimal("19.00"))]


# -- the differences -------------------------------------------------------------------------------------------------


def test_each_kind_of_difference_is_told(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 2 * USD, "same", input_tokens=100)
    spend(ledger, 2 * USD, "price", input_tokens=100, price_version="price@2026-01-01#abc")
    spend(ledger, 2 * USD, "tokens", input_tokens=100)
    spend(ledger, 2 * USD, "there", input_tokens=100)
    text = "d,m,c,i\n" + "".join(f"2026-11-02,{m},{c},{i}\n" for m, c, i in [
        ("same", 2, 100), ("price", 3, 100), ("tokens", 3, 150), ("here", 4, 10),
    ])
    found = compare(ledger, tmp_path, text, columns="date=d,model=m,cost=c,input=i,currency=USD")
    assert {row.model: row.status for row in found.rows} == {
        "same": "matched", "price": "price", "tokens": "tokens", "here": "missing_here", "there": "missing_there",
    }
    assert {row.model: row.difference for row in found.rows} == {
        "same": 0, "price": 1, "tokens": 1, "here": 4, "there": -2,
    }
    assert (found.invoiced, found.recorded) == (Decimal(12), Decimal(8))
    price = next(row for row in found.rows if row.model == "price")
    assert "price@2026-01-01#abc" in price.why[0]
    table = invoice_table(found)
    assert "DIFFERENT (total +4.00 USD, +33.3%): 4 of 5 lines" in table
    assert "missing in the ledger" in table


def test_a_dated_snapshot_is_another_model_until_an_alias_says_so(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, "gpt-4o")
    text = openai_cost(("2026-11-02", "1", "gpt-4o-2024-08-06, input"))
    found = compare(ledger, tmp_path, text)
    assert sorted(row.status for row in found.rows) == ["missing_here", "missing_there"]
    assert "gpt-4o-2024-08-06: gpt-4o" in found.notes[-1]
    assert compare(ledger, tmp_path, text, book={"aliases": {"gpt-4o-2024-08-06": "gpt-4o"}}).ok


def test_a_mini_model_is_never_taken_for_its_big_brother(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, "gpt-4o-mini")
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", "gpt-4o, input")))
    assert {row.model: row.status for row in found.rows} == {"gpt-4o": "missing_here", "gpt-4o-mini": "missing_there"}


def test_unanswered_and_estimated_calls_stand_beside_the_difference_they_may_have_made(
    ledger: Ledger, tmp_path: Path
) -> None:
    spend(ledger, USD)
    spend(ledger, None, state="unsettled", bound=USD // 2, provenance="unsettled")
    spend(ledger, USD // 10, provenance="estimated")
    row = only(compare(ledger, tmp_path, openai_cost(("2026-11-02", "1.4", "gpt-4o, input"))))
    assert (row.difference, row.ledger.bound) == (Decimal("0.3"), Decimal("0.5"))
    assert row.why[0] == "1 call of ours without an answer, 0.5000 at most: they may be all of it"
    assert "1 call of ours with estimated usage" in row.why[1]


@pytest.mark.parametrize(("tolerance", "ok"), [
    ({}, False), ({"amount": Decimal("0.5")}, True), ({"amount": Decimal("0.49")}, False),
    ({"amount": Decimal(0), "percent": Decimal(5)}, True), ({"amount": Decimal(0), "percent": Decimal("4.9")}, False),
    ({"amount": Decimal("0.5"), "total": Decimal("4.9")}, False),
])
def test_a_difference_may_be_within_an_amount_or_a_percentage(
    ledger: Ledger, tmp_path: Path, tolerance: dict[str, Decimal], ok: bool
) -> None:
    spend(ledger, 95 * USD // 10)
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "10", "gpt-4o, input")),
                    tolerance=Tolerance(**{"total": Decimal(5), **tolerance}))
    assert found.ok is ok


def test_days_are_utc_days_and_each_is_a_line(ledger: Ledger, tmp_path: Path) -> None:
    midnight = NOON + 12 * 3600
    spend(ledger, USD, at=midnight - 0.001)
    spend(ledger, 2 * USD, at=midnight)
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", "gpt-4o, input"),
                                                  ("2026-11-03", "2", "gpt-4o, input")))
    assert [(row.day.day, row.status) for row in found.rows] == [(2, "matched"), (3, "matched")]


# -- what is not compared --------------------------------------------------------------------------------------------


def test_what_is_no_usage_of_a_model_is_set_apart_and_summed(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD)
    found = compare(ledger, tmp_path, openai_cost(
        ("2026-11-02", "1", "gpt-4o, input"), ("2026-11-02", "0.25", "web search tool calls"),
        ("2026-11-02", "0.5", "web search tool calls"), ("2026-11-02", "-3", "gpt-4o, output"),
    ))
    assert found.ok
    assert [(one.reason, one.lines, one.cost) for one in found.apart] == [
        ("a credit", 1, Decimal(-3)), ("no usage of a model", 2, Decimal("0.75"))]


def test_another_project_s_usage_is_set_apart_where_it_is_known_which_is_ours(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, account="desk")
    text = openai_cost(("2026-11-02", "1", "gpt-4o, input")) + openai_cost(
        ("2026-11-02", "8", "gpt-4o, input"), project="proj_b").partition("\n")[2]
    book = {"accounts": {"desk": {"billing_account": "org", "sub_account": "proj_a"}}}
    for asked in ({"book": book}, {"accounts": ("proj_a",)}):
        found = compare(ledger, tmp_path, text, **asked)
        assert found.ok
        assert [(one.what, one.cost) for one in found.apart] == [("proj_b", Decimal(8))]
    assert only(compare(ledger, tmp_path, text, book=book)).account == "desk"
    assert not compare(ledger, tmp_path, text).ok


def test_local_models_are_nobody_s_invoice(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD)
    spend(ledger, 5 * USD, "qwen", provider="vllm")
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", "gpt-4o, input")))
    assert found.ok
    assert [(one.side, one.what, one.cost) for one in found.apart] == [("ledger", "local models", Decimal(5))]


def test_another_currency_is_an_error_until_a_rate_is_pinned(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD, currency="EUR")
    text = openai_cost(("2026-11-02", "1.25", "gpt-4o, input"))
    with pytest.raises(InputError, match="the invoice is in USD, and the ledger's calls were priced in EUR"):
        compare(ledger, tmp_path, text)
    rates = [{"from": "EUR", "to": "USD", "rate": "1.25", "valid_from": "2026-01-01", "source": "bank"}]
    assert compare(ledger, tmp_path, text, book={"rates": rates}).ok
