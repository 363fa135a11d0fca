"""What a report says where a figure is open, and of what is no part of cost per success: in every format alike."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, update

from orchestrator.config.prices import PriceBook
from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.bridge import bridges, paid
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.export.formats import written
from orchestrator.finance.export.frozen import from_json, settled, to_json
from orchestrator.finance.noted import asked_again
from orchestrator.finance.period import parse_period
from orchestrator.finance.phrases import adding_up
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.finance.reprice import render_repriced, reprice
from orchestrator.finance.run_cells import read_runs
from orchestrator.finance.run_rows import Asked
from orchestrator.records import Money
from orchestrator.store.evidence import run
from orchestrator.store.tables import Config
from tests.ledger import Ledger

DAY = 86400.0
JANUARY = parse_period(month="1970-01")
BOOK = PriceBook.model_validate({
    "book": "theirs", "prices": [{"model": "m", "per_million": {"input": 1000, "output": 1000}}],
})


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Sixty successes of 0.001 USD each, of a pipeline with configurations for other modes."""
    found = Ledger.on_disk(tmp_path)
    found.config()
    for config_id in ("calibration", "shadow"):
        found.add(Config, {
            "config_id": config_id, "pipeline": "p", "version": "1", "owner": "desk", "cost_center": "CC-1",
            "mode": config_id, "body_json": json.dumps({"pipeline": {"pipeline": "p"}}), "created_at": 9.0,
        })
    for i in range(60):
        found.run(f"r{i}", success=True, source="label", ended_at=2 * DAY)
        found.call(f"r{i}", 1_000_000, ended_at=2 * DAY)
    yield found
    found.close()


def made(ledger: Ledger, *by: str) -> tuple[Report, Breakdown]:
    report = build_report(ledger, ReportQuery(by=by or ("pipeline",), period=JANUARY), now=99 * DAY)
    return settled(report, build_breakdown(ledger, report))


def table(ledger: Ledger, *by: str) -> str:
    return written(*made(ledger, *by), "table", width=200).decode()


def row_of(text: str, heading: str, first: str) -> list[str]:
    """Cells of the row that begins so, in the table below a heading."""
    lines = text.partition(heading)[2].splitlines()
    cells = next(one for one in lines if one.startswith(f" {first} ")).split("  ")
    return [cell.strip() for cell in cells if cell.strip()]


def calibrate(ledger: Ledger, cost: int | None = 5_286, **more: Any) -> None:
    ledger.run("c", config_id="calibration", ended_at=2 * DAY)
    ledger.call("c", cost, role="redo", output_tokens=3, ended_at=2 * DAY, **more)


# -- a figure that is open both ways -------------------------------------------------------------------------------


def leave_open(ledger: Ledger, **lost: Any) -> None:
    """Twenty runs that no spot check speaks for, and one call without an answer, of 0.02 USD at most."""
    for i in range(20):
        ledger.run(f"u{i}", ended_at=2 * DAY)
    known = {"state": "unsettled", "bound": 20_000_000, "input_tokens": None, "ended_at": 2 * DAY}
    ledger.call("r0", None, **{**known, **lost})


def test_a_figure_that_is_open_both_ways_is_a_range_in_every_format(ledger: Ledger) -> None:
    leave_open(ledger)
    both = made(ledger)
    low, high = "0.00075", "0.001333333333"  # 0.06 over 80, and 0.08 over 60
    (unit,) = (spend.per_success for spend in both[0].lines[0].spend)
    assert (unit.value, unit.own_low, unit.own_high) == (None, Decimal(low), Decimal(high))
    shown = "0.0007500 to 0.001333"
    assert row_of(written(*both, "table", width=200).decode(), "Cost per successful outcome ", "p")[3:4] == [shown]
    page = written(*both, "html").decode()
    assert 'title="0.75 USD to 1.333333333 USD">$0.750 <small>to</small> $1.33</div>' in page
    assert f'title="{low} USD to {high} USD">$0.0007500 to $0.001333</td>' in page
    sheets = openpyxl.load_workbook(io.BytesIO(written(*both, "xlsx")))
    assert shown in [cell.value for row in sheets["Summary"].iter_rows() for cell in row]
    assert shown in [cell.value for cell in sheets["By pipeline"][5]]
    (row,) = csv.DictReader(io.StringIO(written(*both, "csv").decode()))
    cells = [row[name] for name in ("cost_per_success", "qualifier", "own_low", "own_high")]
    assert cells == ["", "between", low, high]
    (spend,) = json.loads(written(*both, "json"))["lines"][0]["spend"]
    said = spend["per_success"]
    assert [said[name] for name in ("value", "qualifier", "own_low", "own_high")] == [None, "between", low, high]


def test_where_only_the_lower_end_is_known_it_is_at_least_so_much(ledger: Ledger) -> None:
    leave_open(ledger, state="settled", bound=None, input_tokens=9)  # a model without a price
    both = made(ledger)
    said = "at least 0.0007500"
    assert row_of(written(*both, "table", width=200).decode(), "Cost per successful outcome ", "p")[3:4] == [said]
    assert "<small>at least</small> $0.7500</div>" in written(*both, "html").decode()
    sheet = openpyxl.load_workbook(io.BytesIO(written(*both, "xlsx")))["By pipeline"]
    assert said in [cell.value for cell in sheet[5]]


# -- the bridge ----------------------------------------------------------------------------------------------------


@given(st.lists(st.decimals("-9999", "9999", places=9), min_size=1, max_size=4))
def test_what_is_shown_of_a_sum_adds_up_and_is_true_to_its_last_digit(parts: list[Decimal]) -> None:
    shown, whole = adding_up(parts)
    read = [Decimal(one.replace(",", "")) for one in (*shown, whole)]
    assert sum(read[:-1]) == read[-1]
    exponents = {one.as_tuple().exponent for one in read}
    unit = Decimal(1).scaleb(int(exponents.pop()))
    assert not exponents
    assert all(abs(said - exact) <= unit / 2 for said, exact in zip(read, [*parts, sum(parts)], strict=True))


def test_the_bridge_of_the_finding_is_told_as_it_was_asked_for() -> None:
    (one,) = bridges([("draft", Money(nano=1_442_253_800)), ("calibration", Money(nano=528_600_000))])
    assert one.words == "1.4423 pipeline + 0.5286 apart (calibration) = 1.9709 USD"
    assert one.whole == Money(nano=1_970_853_800)


def test_report_and_reprice_say_the_same_bridge_and_every_format_has_it(ledger: Ledger) -> None:
    calibrate(ledger, model="m")
    ledger.call("r0", 7_000, role="baseline", ended_at=2 * DAY)
    both = made(ledger)
    words = "0.060000000 pipeline + 0.000007000 apart (baseline) + 0.000005286 apart (calibration) = 0.060012286 USD"
    assert f"\nAll that was paid: {words}.\n" in written(*both, "table", width=200).decode()
    assert f"All that was paid: {words}." in written(*both, "html").decode()
    book = openpyxl.load_workbook(io.BytesIO(written(*both, "xlsx")))
    assert f"All that was paid: {words}." in [row[0].value for row in book["Summary"].iter_rows()]
    (exact,) = json.loads(written(*both, "json"))["paid"]
    assert exact["whole"] == {"amount": "0.060012286", "currency": "USD"}
    with ledger.read() as connection:
        repriced = reprice(connection, BOOK, period=JANUARY)
    assert repriced.recorded_by == paid(both[0])
    assert repriced.recorded == (repriced.recorded_by[0].whole,)
    assert [one.calls for one in repriced.lines if one.role == "calibration"] == [1]
    assert f"\nRecorded: {words}.\nBy theirs: " in render_repriced(repriced)


def test_without_anything_apart_there_is_nothing_to_bridge(ledger: Ledger) -> None:
    assert "All that was paid" not in table(ledger)
    with ledger.read() as connection:
        assert "Recorded:" not in render_repriced(reprice(connection, BOOK, period=JANUARY))


def test_a_month_that_was_closed_before_has_its_bridge_too(ledger: Ledger) -> None:
    calibrate(ledger)
    document = json.loads(to_json(*made(ledger)))
    del document["paid"]
    report, breakdown = from_json(json.dumps(document).encode())
    assert "+ 0.000005286 apart (calibration) =" in written(report, breakdown, "table").decode()


# -- what is apart, by model and by mode -----------------------------------------------------------------------------


def test_calls_and_tokens_of_what_is_apart_stand_in_a_row_of_their_own(ledger: Ledger) -> None:
    calibrate(ledger)
    both = made(ledger)
    (one,) = both[1].by_model
    own, beside = one.parts
    assert own is not None
    assert beside is not None
    assert (own.calls, own.tokens, own.cost, own.apart) == (60, {"input": 420}, Money(nano=60_000_000), None)
    assert (beside.calls, beside.tokens, beside.cost, beside.apart) == (
        1, {"input": 7, "output": 3}, None, Money(nano=5_286))
    assert (one.calls, one.tokens) == (61, {"input": 427, "output": 3})
    text = written(*both, "table", width=200).decode()
    assert row_of(text, "By model", "m")[1:] == ["60", "420", "0", "0.06000 USD", "-", "0"]
    assert row_of(text, "By model", "m, apart")[1:] == ["1", "7", "3", "-", "0.000005286", "0"]


def test_an_unknown_cost_of_a_calibration_is_missing_from_what_is_apart_alone(ledger: Ledger) -> None:
    calibrate(ledger)
    ledger.call("c", None, ended_at=2 * DAY)
    (one,) = made(ledger)[1].by_model
    assert (one.at_least, one.apart_at_least, one.unpriced) == (False, True, 1)
    assert paid(made(ledger)[0])[0].words.endswith("= at least 0.060005286 USD")


def test_a_sum_from_before_they_were_parted_stays_whole(ledger: Ledger) -> None:
    calibrate(ledger)
    document = json.loads(to_json(*made(ledger)))
    for name in ("apart_calls", "apart_tokens", "apart_unpriced", "apart_unsettled"):
        del document["breakdown"]["by_model"][0][name]
    (one,) = from_json(json.dumps(document).encode())[1].by_model
    assert one.parts == (one, None)
    assert (one.calls, one.apart) == (61, Money(nano=5_286))


def test_a_calibration_has_a_row_with_its_cost_apart_where_lines_are_by_mode(ledger: Ledger) -> None:
    calibrate(ledger)
    text = table(ledger, "mode")
    cells = row_of(text, "Cost per successful outcome ", "calibration")
    assert cells == ["calibration", "-", "0.000005286 USD apart", "-", "-", "-", "-"]
    evidence = text.partition("Success by source")[2].partition("Cost per successful outcome")[0]
    assert "calibration" not in evidence
    assert evidence.count(" all ") == 1  # of the cascade alone
    page = written(*made(ledger, "mode"), "html").decode()
    assert 'aria-label="calibration"' not in page
    assert ">0.000005286 USD apart</td>" in page
    sheet = openpyxl.load_workbook(io.BytesIO(written(*made(ledger, "mode"), "xlsx")))["By mode"]
    assert "0.000005286 USD apart" in [cell.value for cell in sheet[5]]


# -- of runs ---------------------------------------------------------------------------------------------------------


def words_of(ledger: Ledger, kind: str) -> list[str]:
    both = made(ledger)
    found = [one for one in both[1].attention if one.kind == kind]
    assert not any(one.urgent for one in found)
    for one in found:
        assert f"- {one.words}." in written(*both, "table", width=400).decode()
        assert f"<li>{one.words}.</li>" in written(*both, "html").decode()
    return [one.words for one in found]


def test_tasks_that_were_done_again_are_told(ledger: Ledger) -> None:
    assert words_of(ledger, "again") == []
    for run_id in ("r1", "r2"):
        ledger.run(f"{run_id}+", success=True, source="label", ended_at=3 * DAY)
        with ledger.engine.begin() as connection:
            connection.execute(update(run).where(run.c.run_id == f"{run_id}+").values(again_of=run_id))
    assert words_of(ledger, "again") == [
        "p: 2 tasks were done again; their earlier runs count as what they were"]


def test_verdicts_that_were_asked_for_again_are_counted_once_each(ledger: Ledger) -> None:
    for i, key in enumerate(["a", "b", "c"]):
        ledger.call(f"r{i}", 9, role="judge", request_key=key, ended_at=2 * DAY)
    ledger.call("r0", 9, role="judge", request_key="a2", sample=1, ended_at=2 * DAY, error="ServerFailed: 500")
    ledger.call("r0", 9, role="judge", request_key="a2", sample=1, ended_at=2 * DAY)
    ledger.call("r1", 9, role="redo", request_key="b2", sample=1, ended_at=2 * DAY)  # no verdict
    ledger.call("r1", 9, role="sample", request_key="b3", sample=2, ended_at=2 * DAY)
    ledger.call("r2", 9, role="judge", request_key="c2", sample=1, ended_at=40 * DAY)  # of another month
    calibrate(ledger)
    ledger.call("c", 9, role="repair", request_key="x", sample=1, ended_at=2 * DAY)  # of no run that served
    assert words_of(ledger, "unreadable") == [
        "p: of 5 calls for a verdict, 1 verdict could not be read and was asked for again"]


def test_they_are_counted_in_an_index_and_not_from_the_month_s_calls(ledger: Ledger) -> None:
    asked: list[tuple[str, Any]] = []
    with ledger.read() as connection:
        event.listen(connection, "before_cursor_execute", lambda *said: asked.append((said[2], said[3])))
        asked_again(connection, ReportQuery(period=JANUARY))
        (statement,) = asked
        plan = [row.detail for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1])]
    assert "SEARCH call USING COVERING INDEX call_asked_again (ended_at>? AND ended_at<?)" in plan


def test_after_shadow_runs_the_report_points_to_assess(ledger: Ledger) -> None:
    assert words_of(ledger, "shadow") == []
    for i in range(7):  # the half of all runs is counted in cells, the other half waits
        ledger.run(f"s{i}", config_id="shadow", success=True, source="validator", status="redone", ended_at=3 * DAY)
        ledger.call(f"s{i}", 9, ended_at=3 * DAY)
    (words,) = words_of(ledger, "shadow")
    assert words.startswith("p: 7 runs in shadow")
    assert words.endswith("orchestrator assess --pipeline PIPELINE.yaml")
    with ledger.read() as connection:
        rows = read_runs(connection, ReportQuery(by=("mode",), period=JANUARY), Asked(currency="USD"))
    assert sum(row.cell.runs for row in rows if row.group == ("shadow",)) == 7
