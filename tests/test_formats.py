"""All formats say the same, to the last digit, and a frozen report says it again for ever."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema_rs
import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import Pipeline, Task
from orchestrator.cli import run_command
from orchestrator.errors import InputError
from orchestrator.finance.breakdown import BY_COST_CENTER, BY_DAY, BY_MODEL, BY_STEP, Breakdown, sums
from orchestrator.finance.configured import APART
from orchestrator.finance.export.focus import render_focus
from orchestrator.finance.export.formats import written
from orchestrator.finance.export.frozen import from_json, report_schema, settled, to_json
from orchestrator.finance.export.workbook import render_workbook
from orchestrator.finance.phrases import amount
from orchestrator.finance.plain import decode, encode, plain_decimal
from orchestrator.finance.records import Report
from orchestrator.records import Money
from orchestrator.testing import ScriptedModel
from tests.busy_month import ODD, VALIDATOR, busy_report
from tests.pipelines import write_pipeline

Made = tuple[Report, Breakdown]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return busy_report(tmp_path_factory.mktemp("ledger"))


def totals(made: Made) -> dict[str, Decimal]:
    return {total.currency: total.amount for total in made[0].totals}


def summed(rows: list[tuple[str, Decimal]]) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for code, value in rows:
        found[code] = found.get(code, Decimal(0)) + value
    return found


def test_json_csv_focus_and_workbook_give_the_totals_of_the_report_exactly(made: Made) -> None:
    assert set(totals(made)) == {"EUR", "USD"}
    document = json.loads(written(*made, "json"))
    assert {one["currency"]: Decimal(one["amount"]) for one in document["totals"]} == totals(made)
    rows = list(csv.DictReader(io.StringIO(written(*made, "csv").decode())))
    assert summed([(row["currency"], Decimal(row["cost"])) for row in rows]) == totals(made)
    charged = list(csv.DictReader(io.StringIO(render_focus(*made).decode())))
    billed = [(r["BillingCurrency"], Decimal(r["BilledCost"])) for r in charged if r["x_Role"] not in APART]
    assert summed(billed) == totals(made)
    sheet = openpyxl.load_workbook(io.BytesIO(render_workbook(*made)), data_only=True)["By pipeline"]
    shown = {str(row[1].value): row[2].value for row in sheet.iter_rows() if str(row[0].value).startswith("Total")}
    assert shown == {code: float(value) for code, value in totals(made).items()}


def test_table_and_page_give_them_rounded_for_the_eye_and_the_page_exactly_behind(made: Made) -> None:
    page, table = written(*made, "html").decode(), written(*made, "table", width=200).decode()
    for code, value in totals(made).items():
        assert f'data-total="{plain_decimal(value)} {code}"' in page
    for line in made[0].lines:
        for spend in line.spend:
            assert spend.total is not None
            assert f"{amount(spend.total.amount)} {spend.currency}" in table


@pytest.mark.parametrize("keys", [BY_MODEL, BY_DAY, BY_COST_CENTER, BY_STEP])
def test_every_breakdown_sums_to_the_totals(made: Made, keys: tuple[str, ...]) -> None:
    rows = [(one.currency or "", one.cost.amount) for one in sums(made[1].charges, keys) if one.cost is not None]
    assert summed(rows) == totals(made)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_sums_are_independent_of_the_order_of_charges(made: Made, draw: Any) -> None:
    shuffled = list(made[1].charges)
    draw.shuffle(shuffled)
    assert sums(shuffled, BY_MODEL) == sums(made[1].charges, BY_MODEL)


@pytest.mark.parametrize("format", ["table", "json", "csv", "xlsx", "html", "focus"])
def test_a_frozen_report_is_rendered_again_byte_for_byte(made: Made, format: Any) -> None:
    frozen = from_json(to_json(*made))
    assert frozen == made
    assert written(*frozen, format) == written(*made, format)


def test_the_document_is_as_its_schema_says_and_the_schema_as_the_docs_have_it(made: Made) -> None:
    document = json.loads(to_json(*made))
    jsonschema_rs.validator_for(report_schema()).validate(document)
    kept = Path(__file__).parents[1] / "docs/report.schema.json"
    assert json.loads(kept.read_text()) == report_schema(), "orchestrator schema report > docs/report.schema.json"


def test_what_is_no_frozen_report_is_refused() -> None:
    for broken in (b"{", b"[]", b'{"kind": "report", "format": 99}'):
        with pytest.raises(InputError):
            from_json(broken)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["USD", "EUR", "JPY"]))
def test_money_survives_json_to_the_last_billionth(nano: int, code: str) -> None:
    money = Money(nano=nano, currency=code)
    assert decode(Money, json.loads(json.dumps(encode(money)))) == money


def test_a_figure_that_is_not_finite_is_never_written() -> None:
    with pytest.raises(ValueError, match="no figure"):
        encode(float("nan"))


def test_attention_names_the_models_and_puts_the_urgent_first(made: Made) -> None:
    found = made[1].attention
    assert [one.urgent for one in found] == sorted((one.urgent for one in found), reverse=True)
    by_kind = {(one.kind, one.subject): one for one in found}
    assert by_kind["unpriced", ODD].count == 1
    assert by_kind["unsettled", VALIDATOR].amounts == (Money(nano=90_000_000),)
    assert by_kind["estimated", VALIDATOR].amounts == (Money(nano=7_000_001),)


def test_settling_twice_changes_nothing(made: Made) -> None:
    assert settled(*made) == made


@pytest.mark.parametrize(("format", "begins"), [
    ("table", b"Cost per successful outcome"), ("json", b"{"), ("csv", b"pipeline,"), ("xlsx", b"PK"),
    ("html", b"<!doctype html>"), ("focus", b"BilledCost,"),
])
async def test_the_command_writes_every_format_from_a_store(tmp_path: Path, format: str, begins: bytes) -> None:
    said = {name: ScriptedModel(lambda _: '{"label": "a"}', name=name) for name in ("drafter", "validator")}
    url = f"sqlite:///{tmp_path / 's.db'}"
    async with Pipeline.load(write_pipeline(tmp_path), store=url, clients=said) as pipeline:
        await pipeline.arun(Task(id="t", input={"text": "x"}))
    asked = ["report", "--format", format, "-o", str(tmp_path / "out"), "--store", url]
    asked += ["--prices", str(tmp_path / "prices.yaml")] if format == "focus" else []
    assert await asyncio.to_thread(run_command, asked) == 0
    assert (tmp_path / "out").read_bytes().startswith(begins)


def test_a_workbook_needs_a_file_to_be_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", "--format", "xlsx"]) == 2
    assert "add -o FILE.xlsx" in capsys.readouterr().err


def test_options_before_a_subcommand_are_refused_rather_than_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", "--month", "2026-10", "close", "2026-11"]) == 2
    assert "after 'close'" in capsys.readouterr().err
