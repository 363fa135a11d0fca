"""The workbook: safe cells, real numbers, formulas with their values, the same figures once it is recalculated."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.export.workbook import render_workbook
from orchestrator.finance.records import Report, ReportQuery
from tests.busy_month import busy_report

SHEETS = ["Summary", "By pipeline", "By model", "By cost centre", "Daily", "By step", "Details", "Needs attention",
          "Notes", "Definitions"]
OFFICE = shutil.which("soffice")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Breakdown]:
    return busy_report(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def content(made: tuple[Report, Breakdown]) -> bytes:
    return render_workbook(*made)


def cells(content: bytes, *, values: bool) -> dict[str, dict[str, Any]]:
    book = openpyxl.load_workbook(io.BytesIO(content), data_only=values)
    return {
        sheet.title: {c.coordinate: c.value for row in sheet.iter_rows() for c in row if c.value is not None}
        for sheet in book.worksheets
    }


def test_the_sheets_are_those_that_finance_asks_for(content: bytes) -> None:
    assert list(cells(content, values=True)) == SHEETS


def test_the_same_report_is_the_same_file(made: tuple[Report, Breakdown], content: bytes) -> None:
    assert render_workbook(*made) == content


def test_text_from_outside_is_never_a_formula(content: bytes) -> None:
    found = [cell for sheet in openpyxl.load_workbook(io.BytesIO(content)).worksheets
             for row in sheet.iter_rows() for cell in row if "=invoices" in str(cell.value)]
    assert len(found) > 5
    assert {cell.data_type for cell in found} == {"s"}


def test_every_formula_carries_the_value_it_gives(content: bytes) -> None:
    shown, formulas = cells(content, values=True), cells(content, values=False)
    count = 0
    for name, sheet in formulas.items():
        for place, value in sheet.items():
            if isinstance(value, str) and value.startswith("=") and not value.startswith("=invoices"):
                count += 1
                assert shown[name].get(place) not in (None, ""), (name, place, value)
    assert count > 50


def test_summary_checks_that_the_sheets_tie(content: bytes) -> None:
    summary = cells(content, values=True)["Summary"]
    assert [value for value in summary.values() if str(value).startswith("ties")] == ["ties: yes", "ties: yes"]


def test_numbers_are_numbers_with_the_currency_in_their_format(content: bytes) -> None:
    sheet = openpyxl.load_workbook(io.BytesIO(content))["By pipeline"]
    costs = {sheet.cell(row, 2).value: sheet.cell(row, 3) for row in (5, 6)}
    assert {code: cell.number_format.partition("#")[0] for code, cell in costs.items()} == {
        "EUR": "€", "USD": '"at least "$'}  # one call in dollars has no price
    assert all(cell.data_type == "n" for cell in costs.values())
    assert sheet.freeze_panes == "B5"
    assert sheet.auto_filter.ref is not None
    assert sheet.page_setup.orientation == "landscape"
    assert openpyxl.load_workbook(io.BytesIO(content))["Daily"]["A5"].is_date


def test_an_empty_report_is_still_a_workbook() -> None:
    empty = Report(query=ReportQuery(), created_at=0.0, definitions=(), lines=(), totals=(), unpriced_calls=0,
                   unsettled_calls=0)
    assert list(cells(render_workbook(empty, Breakdown()), values=True)) == SHEETS


def test_without_the_extra_the_error_names_it(
    made: tuple[Report, Breakdown], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(InputError) as error:
        render_workbook(*made)
    assert error.value.hint == "pip install 'draftgate[finance]'"


@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed")
def test_libreoffice_recalculates_to_the_same_figures(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.xlsx").write_bytes(content)
    every_sheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,-1"
    subprocess.run(
        [str(OFFICE), "--headless", f"-env:UserInstallation=file://{tmp_path}/office", "--convert-to", every_sheet,
         "--outdir", str(tmp_path), str(tmp_path / "report.xlsx")],
        check=True, capture_output=True, timeout=120,
    )
    compared = 0
    for name, sheet in cells(content, values=True).items():
        rows = list(csv.reader((tmp_path / f"report-{name}.csv").read_text(encoding="utf-8").splitlines()))
        for place, value in sheet.items():
            row, column = openpyxl.utils.cell.coordinate_to_tuple(place)
            if isinstance(value, int | float):
                compared += 1
                found = rows[row - 1][column - 1]
                number = float(found.rstrip("%")) / (100 if found.endswith("%") else 1)
                assert number == pytest.approx(value, rel=1e-9, abs=1e-12), (name, place)
            elif str(value).startswith("ties"):
                assert rows[row - 1][column - 1] == value
    assert compared > 300
