"""FOCUS files: the columns and values of the specification, costs that are the ledger's, and what is left out."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.finance.breakdown import Breakdown, Charge, Idle
from orchestrator.finance.charged import with_accounts
from orchestrator.finance.export.focus import COLUMNS, columns, left_out, render_focus
from orchestrator.finance.export.focus_split import by_class, shares
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.records import TOKEN_CLASSES, Money, Usage
from tests.busy_month import busy_report

Made = tuple[Report, Breakdown]
VALIDATOR = "FOCUS_VALIDATOR"
"""Names the program `focus-validator` of an environment of its own: it can't be installed beside this package."""

MANDATORY = (  # the column table of 1.2: name, may it be null, kind of value
    ("BilledCost", False, "decimal"), ("BillingAccountId", False, "text"), ("BillingAccountName", True, "text"),
    ("BillingCurrency", False, "currency"), ("BillingPeriodEnd", False, "time"), ("BillingPeriodStart", False, "time"),
    ("ChargeCategory", False, "Usage|Purchase|Tax|Credit|Adjustment"), ("ChargeClass", True, "Correction"),
    ("ChargeDescription", True, "text"), ("ChargePeriodEnd", False, "time"), ("ChargePeriodStart", False, "time"),
    ("ContractedCost", False, "decimal"), ("EffectiveCost", False, "decimal"), ("InvoiceIssuerName", False, "text"),
    ("ListCost", False, "decimal"), ("PricingQuantity", True, "decimal"), ("PricingUnit", True, "text"),
    ("ProviderName", False, "text"), ("PublisherName", False, "text"),
    ("ServiceCategory", False, "AI and Machine Learning"), ("ServiceName", False, "text"),
)
USEFUL = (
    ("ChargeFrequency", False, "One-Time|Recurring|Usage-Based"), ("ConsumedQuantity", True, "decimal"),
    ("ConsumedUnit", True, "Tokens"), ("ContractedUnitPrice", True, "decimal"), ("InvoiceId", True, "text"),
    ("ListUnitPrice", True, "decimal"), ("PricingCategory", True, "Standard|Dynamic|Committed|Other"),
    ("ServiceSubcategory", False, "Generative AI"), ("SkuId", True, "text"), ("SkuMeter", True, "text"),
    ("SkuPriceDetails", True, "json"), ("SkuPriceId", True, "text"), ("SubAccountId", True, "text"),
    ("SubAccountName", True, "text"), ("Tags", True, "json"),
)
KINDS: Mapping[str, str] = {
    "decimal": r"-?\d+\.\d+", "text": r".+", "currency": r"[A-Z]{3}", "time": r"\d{4}-\d\d-\d\dT00:00:00Z",
    "json": r"\{.*\}",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return busy_report(tmp_path_factory.mktemp("ledger"))


def rows(made: Made) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_focus(*made).decode())))


@pytest.mark.parametrize(("name", "nullable", "kind"), [*MANDATORY, *USEFUL])
def test_every_column_of_1_2_is_there_and_holds_what_the_specification_allows(
    made: Made, name: str, nullable: bool, kind: str
) -> None:
    values = [row[name] for row in rows(made)]
    assert nullable or all(values)
    assert all(re.fullmatch(KINDS.get(kind, kind), value) for value in values if value)


def test_columns_of_our_own_lead_with_x_and_the_others_are_the_specifications() -> None:
    theirs = {name for name, _, _ in (*MANDATORY, *USEFUL)} | set(COLUMNS)
    assert {name for name in columns("1.2") if not name.startswith("x_")} == theirs
    assert "SkuMeter" not in columns("1.0")


def test_charges_lie_within_a_day_and_their_month(made: Made) -> None:
    for row in rows(made):
        first, last, start, end = (datetime.fromisoformat(row[name]) for name in (
            "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"))
        assert first.day == last.day == 1
        assert first <= start < end <= last
        assert (end - start).days == 1


def test_unit_price_times_quantity_is_the_cost(made: Made) -> None:
    for row in [*rows(made), *rows(priced(made[0]))]:
        quantity = Decimal(row["PricingQuantity"])
        assert Decimal(row["ListUnitPrice"]) * quantity == Decimal(row["ListCost"])
        assert Decimal(row["ContractedUnitPrice"]) * quantity == Decimal(row["ContractedCost"])


ENTRY = PriceEntry.model_validate({
    "model": "m", "per_million": {"input": "3", "output": "15"},
    "tiers": {"batch": {"input": "1.5", "output": "7.5"}},
})


def charge(**given: object) -> Charge:
    usage = Usage(input=1000, output=200)
    costs = ENTRY.costs(usage, "batch")
    classed = {n: Money(nano=nano) for n, nano in zip(TOKEN_CLASSES, costs, strict=True) if nano}
    known: dict[str, object] = {
        "day": date(2026, 11, 3), "pipeline": "p", "version": "1", "owner": "", "cost_center": "", "mode": "cascade",
        "tenant": "", "tags": {"team": "=cmd"}, "step": "s", "role": "draft", "provider": "litellm",
        "model": "anthropic/m", "account": "key-1", "tier": "batch", "state": "settled", "provenance": "priced",
        "price_version": ENTRY.version_id, "currency": "USD", "calls": 2, "tokens": {"input": 1000, "output": 200},
        "cost": Money(nano=sum(costs)), "costs": classed, "allocated": None, "bound": None, "unpriced": 0,
        "unsettled": 0, "in_flight": 0, "unbounded": 0, **given,
    }
    return Charge(**known)  # type: ignore[arg-type]


def priced(report: Report, *charges: Charge, idle: tuple[Idle, ...] = ()) -> Made:
    prices = {ENTRY.version_id: json.loads(ENTRY.body_json)}
    return report, Breakdown(charges=charges or (charge(),), prices=prices, idle=idle)


EMPTY = Report(query=ReportQuery(), created_at=0.0, definitions=(), lines=(), totals=(), unpriced_calls=0,
               unsettled_calls=0)


def test_a_batch_price_shows_list_and_contracted_cost_apart() -> None:
    first, second = rows(priced(EMPTY))
    assert (first["x_TokenClass"], first["PricingUnit"]) == ("input", "1000000 Tokens")
    assert first["PricingQuantity"] == "0.001"
    assert (first["ListCost"], first["ContractedCost"], first["BilledCost"]) == ("0.003", "0.0015", "0.0015")
    assert (second["x_TokenClass"], second["ListCost"], second["BilledCost"]) == ("output", "0.003", "0.0015")
    assert (first["ProviderName"], first["x_Calls"], second["x_Calls"]) == ("anthropic", "2", "")
    assert json.loads(first["Tags"]) == {"team": "=cmd"}


def test_the_price_book_names_accounts() -> None:
    book = PriceBook.model_validate({"book": "b", "accounts": {"key-1": {
        "billing_account": "org-77", "name": "Acme", "sub_account": "proj-1", "issuer": "Anthropic"}}})
    report, breakdown = priced(EMPTY)
    row = rows((report, with_accounts(breakdown, book)))[0]
    assert (row["BillingAccountId"], row["BillingAccountName"]) == ("org-77", "Acme")
    assert (row["SubAccountId"], row["InvoiceIssuerName"]) == ("proj-1", "Anthropic")
    assert rows((report, breakdown))[0]["BillingAccountId"] == "key-1"


def test_a_rented_gpu_is_billed_by_its_hours_and_its_idle_time_stands_apart() -> None:
    local = charge(provider="vllm", model="q", tier=None, allocated=Money(nano=5_000_001))
    idle = Idle(day=date(2026, 11, 3), model="q", price_version=ENTRY.version_id, cost=Money(nano=2_000_000))
    found = rows(priced(EMPTY, local, idle=(idle,)))
    billed, effective = (sum(Decimal(row[name]) for row in found) for name in ("BilledCost", "EffectiveCost"))
    assert billed == effective == Decimal("0.007000001")  # the GPU's bill
    assert found[-1]["BilledCost"] == "0.002"
    assert sum(Decimal(row["EffectiveCost"]) for row in found[:-1]) == Money(nano=3_000_000).amount  # usage


def test_a_share_without_a_cost_is_billed_and_open_hours_are_told() -> None:
    left = charge(provider="vllm", model="q", tier=None, calls=0, tokens={}, cost=None, costs=None,
                  allocated=Money(nano=5_000_001), pending=0)
    found = rows(priced(EMPTY, left))
    assert [(row["BilledCost"], row["EffectiveCost"], row["x_TokenClass"]) for row in found] == [
        ("0.005000001", "0.0", "total"), ("0.0", "0.005000001", "idle"),
    ]
    waiting = charge(allocated=Money(nano=4_500_000), pending=2)
    assert left_out(priced(EMPTY, waiting)[1]) == [
        "2 calls in hours of a rented GPU not closed yet: billed cost is usage cost"
    ]


def test_what_nobody_knows_the_cost_of_is_not_in_the_file_but_said(made: Made) -> None:
    assert all(row["x_Provenance"] not in ("unpriced", "unsettled") for row in rows(made))
    said = [words.split(":")[0] for words in left_out(made[1])]
    assert said == ["1 call without a price", "1 call without an answer"]


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=8))
def test_shares_sum_to_the_whole_exactly(whole: int, parts: list[int]) -> None:
    costs = {name: Money(nano=nano) for name, nano in zip(TOKEN_CLASSES, parts, strict=False)}
    assert sum(one.nano for one in shares(Money(nano=whole), costs).values()) == whole


def test_a_refused_call_that_cost_nothing_is_no_charge() -> None:
    assert by_class(charge(tokens={}, costs=None, cost=Money(nano=0))) == {}


@pytest.mark.skipif(VALIDATOR not in os.environ, reason=f"{VALIDATOR} names no focus-validator")
def test_focus_validator_passes_the_file_of_1_0(made: Made, tmp_path: Path) -> None:
    (tmp_path / "focus.csv").write_bytes(render_focus(*made, version="1.0"))
    program = Path(os.environ[VALIDATOR]).absolute()
    packages = next(program.parents[1].glob("lib/python*/site-packages"))  # it opens its list of currencies from there
    found = subprocess.run(
        [str(program), "--data-file", str(tmp_path / "focus.csv"), "--validate-version", "1.0"],
        cwd=packages, capture_output=True, text=True, timeout=120, check=False,
    )
    assert "Validation succeeded." in found.stdout, found.stdout + found.stderr
