"""What the comparison of an invoice says to people: sums that add up, totals that are judged, reasons that are true."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.errors import InputError
from orchestrator.finance.bridge import paid
from orchestrator.finance.invoice.records import Tolerance
from orchestrator.finance.invoice.words import invoice_table
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.store.tables import Config
from tests.ledger import Ledger
from tests.test_invoice import DAY, NOON, USD, compare, ledger, only, openai_cost, spend

__all__ = ["ledger"]  # a fixture
BY = "date=d,model=m,cost=c,currency=USD"


def row_of(table: str, first: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.lstrip().startswith(first))


def test_a_model_missing_in_the_invoice_stands_in_money_not_in_tokens(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 2 * USD, "billed", input_tokens=10)
    spend(ledger, 3 * USD, "unbilled", input_tokens=38_331)
    table = invoice_table(compare(ledger, tmp_path, "d,m,c\n2026-11-02,billed,2\n", columns=BY))
    assert "38,331" not in table
    assert row_of(table, "unbilled")[2:5] == ["0.00", "3.00", "-3.00"]
    assert row_of(table, "all")[1:4] == ["2.00", "5.00", "-3.00"]


def test_an_account_that_the_file_has_not_is_refused_with_those_it_has(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(ledger, USD)
    text = openai_cost(("2026-11-02", "1", "gpt-4o, input"))
    with pytest.raises(InputError, match=r"no line of .*i.csv belongs to the account 'proj_9'") as caught:
        compare(ledger, tmp_path, text, accounts=("proj_9",))
    assert caught.value.hint == "the file has proj_a"
    url = f"sqlite:///{tmp_path / 'other.db'}"
    Ledger(url).close()
    assert run_command(["report", "--invoice", str(tmp_path / "i.csv"), "--account", "proj_9", "--store", url]) == 2
    assert "proj_a" in capsys.readouterr().err


@pytest.mark.parametrize("unit", [Decimal("0.000001"), Decimal("0.01"), Decimal(1), Decimal(100_000)])
@pytest.mark.parametrize(("percent", "ok"), [(Decimal("0.4"), True), (Decimal(5), False)])
def test_an_invoice_five_percent_too_high_is_different_however_small_its_lines(
    ledger: Ledger, tmp_path: Path, unit: Decimal, percent: Decimal, ok: bool
) -> None:
    days = range(2, 9)
    for day in days:
        spend(ledger, int(unit * USD), at=NOON + (day - 2) * DAY)
    billed = unit * (100 + percent) / 100
    found = compare(ledger, tmp_path, openai_cost(
        *((f"2026-11-{day:02}", f"{billed:.15f}", "gpt-4o, input") for day in days)
    ))
    assert found.ok is ok
    table = invoice_table(found)
    assert table.splitlines()[1].startswith(
        f"{'AGREED' if ok else 'DIFFERENT'} (total +"), table
    assert f"+{percent / (100 + percent):.1%}" in table.splitlines()[1]
    assert ("Where they differ" in table) is not ok


def test_what_rounding_to_cents_can_have_done_to_the_total_is_no_difference(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD * 14 // 1000, "a")
    spend(ledger, USD * 24 // 1000, "b")
    rounded = compare(ledger, tmp_path, "d,m,c\n2026-11-02,a,0.01\n2026-11-02,b,0.02\n", columns=BY)
    assert (rounded.ok, rounded.rounding) == (True, Decimal("0.01"))
    assert "or the file's rounding of 0.01000" in invoice_table(rounded)
    exact = compare(ledger, tmp_path, "d,m,c\n2026-11-02,a,0.0100\n2026-11-02,b,0.0200\n", columns=BY)
    assert not exact.ok
    assert exact.tolerance == Tolerance()


def test_a_price_that_differs_names_the_price_though_the_file_tells_no_tokens(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 2 * USD, "m", price_version="m@2026-01-01#abc")
    row = only(compare(ledger, tmp_path, "d,m,c\n2026-11-02,m,3\n", columns=BY))
    assert row.status == "price"
    assert row.why == (
        "the file tells no tokens, so it may be the price or the usage: priced by m@2026-01-01#abc",)


def test_calls_of_local_models_are_named_where_the_invoice_stands_alone(ledger: Ledger, tmp_path: Path) -> None:
    for model in ("qwen", "qwen", "gpt-4o"):
        spend(ledger, USD, model, provider="vllm")
    found = compare(ledger, tmp_path, openai_cost(
        ("2026-11-02", "1", "gpt-4o, input"), ("2026-11-02", "1", "o3, input"),
    ))
    why = {row.model: row.why[0] for row in found.rows}
    assert why["gpt-4o"].startswith("the ledger has 1 call of this model on this day from a local server, set apart")
    assert "(its 3 calls of local models on this day are set apart)" in why["o3"]
    assert "the ledger has of these days only 3 calls of local models" in invoice_table(found)


@pytest.mark.parametrize(("model", "what", "other"), [
    ("VAT 19%", "", True), ("Sales tax", "", True), ("Credits", "", True), ("Tax: reverse charge", "", True),
    ("", "MwSt.", True), ("monthly", "German VAT 19%", True),
    ("ft:gpt-4o:acme:tax", "", False), ("vatican-7b", "", False), ("tax-gpt", "", False),
    ("gpt-4o", "gpt-4o usage, tax not included", False), ("gpt-4o", "usage excl. VAT", False),
])
def test_tax_and_credits_are_no_models(ledger: Ledger, tmp_path: Path, model: str, what: str, other: bool) -> None:
    spend(ledger, USD)
    text = f'd;m;c;w\n2026-11-02;gpt-4o;1;usage\n2026-11-02;{model};0.19;"{what}"\n'
    found = compare(ledger, tmp_path, text, columns=f"{BY},what=w")
    assert [one.what for one in found.apart] == ([what or model] if other else [])


def test_the_grand_total_ties_to_the_provider_s_bill(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD)
    text = "d;m;c\n2026-11-02;gpt-4o;1.00\n2026-11-02;VAT 19%;0.19\n2026-11-02;gpt-4o;-0.50\n"
    found = compare(ledger, tmp_path, text, columns=BY)
    assert (found.grand_total, found.ok) == (Decimal("0.69"), True)
    assert (
        "The file's grand total: 0.6900 USD = compared 1.00 + tax and other 0.1900 + credits -0.5000"
        in invoice_table(found))


def test_the_rate_and_the_currency_of_what_is_set_apart_are_told(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 2 * USD, "m")
    spend(ledger, 5 * USD, "qwen", provider="vllm")
    rates = [{"from": "USD", "to": "EUR", "rate": "0.90", "valid_from": "2026-11-01", "source": "bank"}]
    text = "d\tm\tc\n2026-11-02\tm\t1.80\n2026-11-02\tVAT\t0.34\n"
    found = compare(ledger, tmp_path, text, columns="date=d,model=m,cost=c,currency=EUR", book={"rates": rates})
    assert found.ok
    assert found.notes == (
        "the ledger's USD are told in EUR at the pinned rate: 1 USD = 0.90 EUR (from 2026-11-01, bank)",)
    assert [(one.side, one.cost, one.currency) for one in found.apart] == [
        ("invoice", Decimal("0.34"), "EUR"), ("ledger", Decimal(5), "USD")]


@pytest.mark.parametrize(("carried", "named", "words"), [
    (None, False, "the price book names none of the file's"), (None, True, "the ledger's calls carry none"),
    ("other", True, "the ledger's calls carry other, and the file has proj_a"),
])
def test_why_accounts_are_not_compared_is_told(
    ledger: Ledger, tmp_path: Path, carried: str | None, named: bool, words: str
) -> None:
    spend(ledger, USD, account=carried)
    book = {"accounts": {"desk": {"billing_account": "org", "sub_account": "proj_a"}}} if named else None
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", "gpt-4o, input")), book=book)
    assert [note for note in found.notes if words in note]


def test_a_file_of_credits_alone_is_not_said_to_tell_no_models(ledger: Ledger, tmp_path: Path) -> None:
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "-1", "gpt-4o, input")))
    assert found.notes == ("no line of the file is usage to compare: all of it is set apart below",)


def test_a_stated_difference_can_be_checked_by_eye(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, 1_942_515_000, "m")
    table = invoice_table(compare(ledger, tmp_path, "d,m,c\n2026-11-02,m,1.95\n", columns=BY))
    assert "Total: invoice 1.950000, ledger 1.942515 USD, difference +0.007485 USD" in table
    assert row_of(table, "all")[1:4] == ["1.950000", "1.942515", "+0.007485"]


def test_the_ledger_s_side_is_told_as_the_report_parts_it(ledger: Ledger, tmp_path: Path) -> None:
    """1.25 of runs and 0.5 of a calibration are compared; 0.03 more are of a local model, of a run."""
    ledger.add(Config, {
        "config_id": "cal", "pipeline": "p", "version": "1", "owner": "", "cost_center": "", "mode": "calibration",
        "body_json": "{}", "created_at": 9.0,
    })
    ledger.run("c", config_id="cal", ended_at=NOON)
    spend(ledger, 5 * USD // 4)
    spend(ledger, 3 * USD // 100, "qwen", provider="vllm")
    ledger.call("c", USD // 2, model="gpt-4o", provider="openai", role="redo", ended_at=NOON)
    found = compare(ledger, tmp_path, openai_cost(("2026-11-02", "1.75", "gpt-4o, input")))
    assert found.ok
    table = invoice_table(found)
    assert "The ledger: 1.2800 pipeline + 0.5000 apart (calibration) = 1.7800 USD.\n" in table
    assert "Of it compared: 1.2500 pipeline + 0.5000 apart (calibration) = 1.7500 USD.\n" in table
    assert found.compared is not None
    assert found.compared.whole.amount == found.recorded
    report = build_report(ledger, ReportQuery(period=parse_period(month="2026-11")), now=NOON + DAY)
    assert paid(report) == found.ledger


def test_where_all_of_it_is_the_report_s_total_nothing_is_parted(ledger: Ledger, tmp_path: Path) -> None:
    spend(ledger, USD)
    table = invoice_table(compare(ledger, tmp_path, openai_cost(("2026-11-02", "1", "gpt-4o, input"))))
    assert "The ledger:" not in table
