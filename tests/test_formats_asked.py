"""What is asked of `report` is done or refused: no option is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import run_command
from tests.ledger import Ledger

BOOK = "book: b\nprices:\n  - {model: m, per_million: {input: 1, output: 2}}\n"


@pytest.fixture
def store(tmp_path: Path) -> str:
    ledger = Ledger.on_disk(tmp_path)
    ledger.config("orders")
    ledger.run("r", pipeline="orders", success=True, source="label")
    ledger.call("r", 5, pipeline="orders")
    ledger.call("r", None, pipeline="orders")
    ledger.close()
    (tmp_path / "book.yaml").write_text(BOOK)
    (tmp_path / "invoice.csv").write_text("date,model,cost,currency\n2026-11-01,m,1,USD\n")
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.mark.parametrize(("asked", "said"), [
    (["--reprice", "BOOK", "--format", "csv"], "as a table or as JSON, not as csv"),
    (["--reprice", "BOOK", "-o", "x.html"], "as a table or as JSON, not as html"),
    (["--invoice", "INVOICE", "--format", "xlsx", "-o", "x.xlsx"], "as a table or as JSON, not as xlsx"),
    (["--invoice", "INVOICE", "--reprice", "BOOK"], "two reports"),
    (["--reprice", "BOOK", "--by", "tenant"], "--by has no part in --reprice"),
    (["--format", "csv", "-o", "x.xlsx"], "ends as xlsx, and csv was asked for"),
    (["--json", "-o", "x.html"], "ends as html, and json was asked for"),
    (["--json", "--format", "csv"], "two formats"),
    (["--columns", "date=Day"], "--columns belongs to --invoice"),
    (["--tolerance", "1"], "--tolerance belongs to --invoice"),
    (["--account", "a"], "--account belongs to --invoice"),
    (["--focus-version", "1.0"], "--focus-version belongs to --format focus"),
    (["--currency", "EUR"], "--currency needs --prices"),
    (["--currency", "EUR", "--prices", "BOOK", "--format", "html"], "said in the table, not in html"),
    (["--currency", "EUR", "--prices", "BOOK"], "no rate from USD to EUR"),
    (["--pipeline", "order"], "the pipelines of this ledger are orders"),
])
def test_what_would_be_ignored_is_refused_before_anything_is_printed(
    store: str, tmp_path: Path, asked: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"BOOK": str(tmp_path / "book.yaml"), "INVOICE": str(tmp_path / "invoice.csv")}
    assert run_command(["report", *(paths.get(one, one) for one in asked), "--store", store]) == 2
    printed = capsys.readouterr()
    assert said in " ".join(printed.err.split())
    assert printed.out == ""


@pytest.mark.parametrize(("name", "begins"), [
    ("guess.xlsx", b"PK"), ("guess.HTML", b"<!doctype html>"), ("guess.json", b"{"), ("guess.csv", b"pipeline,"),
    ("guess.txt", b"Cost per"), ("guess", b"Cost per"),
])
def test_the_ending_of_the_file_says_its_format(store: str, tmp_path: Path, name: str, begins: bytes) -> None:
    assert run_command(["report", "-o", str(tmp_path / name), "--store", store]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_converted_total_says_at_least_and_goes_where_the_table_goes(store: str, tmp_path: Path) -> None:
    book = tmp_path / "rates.yaml"
    book.write_text("book: b\nrates:\n  - {from: USD, to: EUR, rate: 0.5}\n")
    asked = ["report", "--currency", "EUR", "--prices", str(book), "-o", str(tmp_path / "t.txt"), "--store", store]
    assert run_command(asked) == 0
    assert (tmp_path / "t.txt").read_text().endswith("each day at its rate: at least 0.000000002 EUR\n")
