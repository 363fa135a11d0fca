"""Invoices that can't be read are refused with the line, and the command says by its exit code what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.errors import InputError
from orchestrator.finance.period import parse_period
from tests.ledger import Ledger
from tests.test_invoice import NOON, OPENAI_COST, USD, compare, ledger, openai_cost, spend

__all__ = ["ledger"]  # a fixture


@pytest.mark.parametrize(("text", "columns", "words"), [
    ("", None, "the file is empty"),
    (" \n", None, "the file is empty"),
    (OPENAI_COST, None, "no line with usage or cost"),
    ("a,b\n1,2\n", None, "no export of OpenAI or Anthropic has these columns: a, b"),
    ("{", None, "not JSON"),
    ('{"data": []}', None, "no results"),
    ('{"data": [], "has_more": true}', None, "there are more pages"),
    (OPENAI_COST + ',,2026-11-02,,1.2.3,usd,,,"gpt-4o, input",,,,,\n', None, r"i.csv:2: amount_value is '1.2.3'"),
    (OPENAI_COST + ',,2026-11-02,,1,usd,-5,tokens,"gpt-4o, input",,,,,\n', None, "tokens can't be negative"),
    (OPENAI_COST + ',,11/02/2026,,1,usd,,,"gpt-4o, input",,,,,\n', None, "date is '11/02/2026'|start_time"),
    ("d,c\n2026-11-02,1\n", "date=d,cost=c", "in which currency"),
    ("d,c,k\n2026-11-02,1,USD\n2026-11-02,1,EUR\n", "date=d,cost=c,currency=k", "several currencies: EUR, USD"),
    ("d,c\n2026-11-02,1\n", "date=d,cost=x,currency=USD", "no column 'x' for cost"),
    ("d,c\n2026-11-02,1\n", "date=d,price=c", "names 'price', which is none"),
    ("d,c\n2026-11-02,1\n", "cost=c", "needs date"),
    ("d,c\n2026-11-02,\"1,5\"\n", "date=d,cost=c,currency=USD", "cost|c is '1,5'"),
])
def test_a_bad_file_is_refused_with_the_line(
    ledger: Ledger, tmp_path: Path, text: str, columns: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        compare(ledger, tmp_path, text, columns=columns)


def test_up_to_ten_bad_lines_are_named(ledger: Ledger, tmp_path: Path) -> None:
    text = "d,c\n" + "x,1\n" * 12
    with pytest.raises(InputError) as caught:
        compare(ledger, tmp_path, text, columns="date=d,cost=c,currency=USD")
    said = str(caught.value).splitlines()
    assert (len(said), said[-1]) == (11, "and 2 more")
    assert "i.csv:11:" in said[9]


def test_days_outside_of_the_period_are_refused(ledger: Ledger, tmp_path: Path) -> None:
    text = openai_cost(("2026-10-31", "1", "gpt-4o, input"))
    with pytest.raises(InputError, match=r"i.csv:2: 2026-10-31 is outside of 2026-11-01 to 2026-12-01"):
        compare(ledger, tmp_path, text, period=parse_period(month="2026-11"))
    with pytest.raises(InputError, match="invoices go by UTC days"):
        compare(ledger, tmp_path, text, period=parse_period(month="2026-11", tz="Europe/Berlin"))


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_exits_0_within_the_tolerance_1_beyond_and_2_for_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    written = Ledger(url)
    written.config()
    written.run("r", ended_at=NOON)
    spend(written, USD)
    written.close()
    file = tmp_path / "openai.csv"

    def report(text: str, *more: str) -> int:
        file.write_text(text)
        return run_command(["report", "--month", "2026-11", "--invoice", str(file), "--store", url, *more])

    good = openai_cost(("2026-11-02", "1.02", "gpt-4o, input"))
    assert report(good) == 1
    told = capsys.readouterr().out
    assert "DIFFERENT (total +0.02000 USD, +2.0%): 1 of 1 line of day, model and account beyond 0.01 or 0.5%" in told
    assert "invoice 1.02000, ledger 1.00000 USD, difference +0.02000 USD, +2.0%: BEYOND 0.5%" in told
    assert report(good, "--tolerance", "0.001,2%") == 0
    assert "AGREED (total +0.02000 USD, +2.0%): all 1 line" in capsys.readouterr().out
    assert report(good, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["ok"], found["invoiced"], found["recorded"]) == ("invoice", False, "1.02", "1")
    assert found["rows"][0]["difference"] == "0.02"
    assert report("what,is,this\n1,2,3\n") == 2
    assert report(good, "--tolerance", "much") == 2
    assert "'much' is no tolerance" in capsys.readouterr().err
