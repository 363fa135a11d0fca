"""Unknown cost says "at least" on every figure it is missing from, and a budget that refused is never all clear."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest

from orchestrator.finance.breakdown import BY_COST_CENTER, Breakdown, sums
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.export.formats import written
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.finance.words import incomplete
from orchestrator.records import Money
from orchestrator.store.tables import Budget, Event
from tests.ledger import Ledger
from tests.test_focus import charge

DAY = 86400.0
REFUSED = ("budget 'day:p:1970-01-10': limit 5 USD, spent 4.9 USD, reserved 0 USD, it resets at 1970-01-11 00:00 UTC: "
           "refused a call for the first time")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    made.config(tags=("cost", "a tag with a name that is longer than a sheet's may be"))
    made.run("r", success=True, source="validator", ended_at=9 * DAY)
    for i in range(9):
        made.run(f"r{i}", success=True, source="label", ended_at=9 * DAY)
    made.call("r", 50_000_000, ended_at=9 * DAY)
    yield made
    made.close()


def made(ledger: Ledger, *by: str, pipeline: str | None = None) -> tuple[Report, Breakdown]:
    query = ReportQuery(by=by or ("pipeline",), period=parse_period(month="1970-01"), pipeline=pipeline)
    report = build_report(ledger, query, now=99 * DAY)
    return report, build_breakdown(ledger, report)


def refuse(ledger: Ledger, detail: str = REFUSED, *, pipeline: str = "p", at: float = 9 * DAY) -> None:
    ledger.add(Event, {"event_id": f"e{at}", "pipeline": pipeline, "kind": "budget_refused", "detail": detail,
                       "at": at})


def test_the_page_says_at_least_in_its_card_its_table_and_its_total(ledger: Ledger) -> None:
    assert "at least" not in written(*made(ledger), "html").decode().partition("What the words mean")[0]
    ledger.call("r", None, model="new", role="repair", ended_at=9 * DAY)
    page = written(*made(ledger), "html").decode()
    assert "<b>at least $0.05000</b> spent" in page
    assert 'data-total="0.05 USD">at least $0.05000' in page
    assert "Cost is exact;" not in page


def test_the_table_says_at_least_and_a_role_of_unknown_cost_is_unknown(ledger: Ledger) -> None:
    ledger.call("r", None, model="new", role="repair", ended_at=9 * DAY)
    table = written(*made(ledger), "table", width=200).decode()
    row = next(one for one in table.partition("per 1,000")[2].splitlines() if one.startswith(" p "))
    assert row.count("at least") == 3  # cost, per success, per 1,000
    roles = next(one for one in table.partition("Cost by role")[2].splitlines() if one.startswith(" p "))
    assert "unknown" in roles


@pytest.mark.parametrize(("role", "said"), [("draft", "at least"), ("baseline", "")])
def test_total_and_unit_cost_lack_the_same_calls(ledger: Ledger, role: str, said: str) -> None:
    ledger.call("r", None, role=role, state="unsettled", bound=20_000_000, input_tokens=None, ended_at=9 * DAY)
    (line,) = made(ledger)[0].lines
    (spend,) = line.spend
    assert (spend.per_success.qualifier, incomplete(line)) == (said, bool(said))
    assert (spend.per_success.own_low, spend.per_success.own_high) == (
        (Decimal("0.005"), Decimal("0.007")) if said else (None, None)
    )
    row = " ".join(written(*made(ledger), "table", width=200).decode().split())
    assert " ".join(f"p 10 {said} 0.05000 USD {said} 0.005000".split()) in row


def test_a_call_without_an_answer_is_missing_from_the_currency_of_its_bound_alone(ledger: Ledger) -> None:
    ledger.call("r", 40_000_000, currency="EUR", role="repair", ended_at=9 * DAY)
    ledger.call("r", None, currency="EUR", state="unsettled", bound=20_000_000, input_tokens=None, ended_at=9 * DAY)
    report, breakdown = made(ledger)
    eur, usd = report.lines[0].spend
    assert (eur.per_success.qualifier, usd.per_success.qualifier) == ("at least", "")
    assert eur.per_success.note.startswith("calls of unknown cost: 1; the high ends hold their upper bound")
    assert usd.per_success.note == ""
    page = written(report, breakdown, "html").decode()
    assert "<b>$0.05000</b> spent" in page
    assert "<b>at least €0.04000</b> spent" in page
    ledger.call("r", None, model="new", role="redo", ended_at=9 * DAY)
    assert [one.per_success.qualifier for one in made(ledger)[0].lines[0].spend] == ["at least", "at least"]


@pytest.mark.parametrize("by", ["pipeline", "tenant"])
def test_a_page_is_made_where_all_but_a_lost_call_was_free(tmp_path: Path, by: str) -> None:
    ledger = Ledger.on_disk(tmp_path)
    ledger.config()
    for i in range(40):
        ledger.run(f"r{i}", success=True, source="label", ended_at=9 * DAY, tenant="ab"[i % 2])
        ledger.call(f"r{i}", 0, ended_at=9 * DAY)
        if i < 2:
            ledger.call(f"r{i}", None, role="redo", state="unsettled", bound=20_000_000, input_tokens=None,
                        ended_at=9 * DAY)
    report, breakdown = made(ledger, by)
    assert {(line.spend[0].per_success.low, line.spend[0].per_success.high) for line in report.lines} == {(None, None)}
    page = written(report, breakdown, "html").decode()
    assert "In the long run" not in page
    assert "<path" not in page.partition('aria-label="Cost per successful outcome')[2].partition("</svg>")[0]
    ledger.close()


def test_calls_of_unknown_cost_stand_in_the_row_of_those_of_known_cost() -> None:
    known, unknown = charge(cost=Money(nano=5)), charge(cost=None, currency=None, unpriced=1)
    (one,) = sums([unknown, known], BY_COST_CENTER)
    assert (one.currency, one.cost, one.at_least) == ("USD", Money(nano=5), True)
    assert one.calls == known.calls + unknown.calls
    euros = charge(cost=Money(nano=5, currency="EUR"), currency="EUR")
    assert [one.currency for one in sums([unknown, known, euros], BY_COST_CENTER)] == [None, "EUR", "USD"]


def test_a_workbook_says_at_least_in_the_format_of_the_number(ledger: Ledger) -> None:
    ledger.call("r", None, model="new", ended_at=9 * DAY)
    sheet = openpyxl.load_workbook(io.BytesIO(written(*made(ledger), "xlsx")))["By pipeline"]
    costs = [sheet.cell(row, 3) for row in (5, 7)]  # the line and its total
    assert [cell.number_format.startswith('"at least "') for cell in costs] == [True, True]
    assert costs[0].value == 0.05


@pytest.mark.parametrize("by", ["cost_center", "cost", "a tag with a name that is longer than a sheet's may be"])
def test_a_workbook_can_be_grouped_by_anything(ledger: Ledger, by: str) -> None:
    book = openpyxl.load_workbook(io.BytesIO(written(*made(ledger, by), "xlsx")))
    assert len({name.lower() for name in book.sheetnames}) == len(book.sheetnames) == 10
    assert "ties: NO" not in [cell.value for row in book["Summary"].iter_rows() for cell in row]


def test_what_the_validator_alone_says_is_not_measured(ledger: Ledger) -> None:
    page = written(*made(ledger), "html").decode()
    assert "90.0% of the runs measured, 10.0% by the validator's word alone" in page


def test_a_small_unit_cost_is_shown_by_the_thousand(ledger: Ledger) -> None:
    page = written(*made(ledger), "html").decode()
    assert "$5.00</div>\n<p class=\"of\">per 1,000 successful outcomes; $0.005000 per successful outcome" in page


def test_a_budget_that_refused_calls_is_urgent_in_its_period_and_pipeline(ledger: Ledger) -> None:
    assert "no budget of an hour" in written(*made(ledger), "html").decode()
    refuse(ledger)
    (found,) = [one for one in made(ledger)[1].attention if one.kind == "refused"]
    assert (found.urgent, found.subject, found.count) == (True, "day:p", 1)
    assert "budget day:p (limit 5 USD) was spent in 1 day (1970-01-10): it refused calls" in found.words
    page = written(*made(ledger), "html").decode()
    assert "Nothing urgent" not in page
    assert "refused calls" in page


def test_a_budget_that_refused_in_several_buckets_is_told_once_and_counts_them(ledger: Ledger) -> None:
    for day, limit in ((10, 5), (12, 5), (12, 8), (20, 8)):
        told = REFUSED.replace("1970-01-10", f"1970-01-{day}").replace("limit 5", f"limit {limit}")
        refuse(ledger, told, at=day * DAY + limit)
    refuse(ledger, REFUSED.replace("'day:p:1970-01-10'", "'total:p'"), at=2.0)
    refuse(ledger, REFUSED.replace("'day:p:1970-01-10'", "'hour:*:1970-01-10T07'"), at=3.0)
    found = {one.subject: one for one in made(ledger)[1].attention if one.kind == "refused"}
    assert {subject: one.count for subject, one in found.items()} == {"day:p": 3, "total:p": 1, "hour:*": 1}
    assert found["day:p"].words.startswith(
        "budget day:p (limit 5 USD, then 8 USD) was spent in 3 days (1970-01-10 to 1970-01-20): it refused calls")
    assert found["total:p"].words.startswith("budget total:p (limit 5 USD) was spent: it refused calls")
    assert " in 1 hour (1970-01-10T07): " in found["hour:*"].words


@pytest.mark.parametrize(("pipeline", "at"), [("other", 9 * DAY), ("p", 40 * DAY)])
def test_a_refusal_elsewhere_or_at_another_time_is_not_listed(ledger: Ledger, pipeline: str, at: float) -> None:
    refuse(ledger, pipeline=pipeline, at=at)
    assert [one for one in made(ledger, pipeline="p")[1].attention if one.kind == "refused"] == []


@pytest.mark.parametrize(("scope", "shown"), [
    ("day:p:1970-01-10", True), ("day:p/tenant=a:1970-01-10", True), ("day:pipeline=p:1970-01-10", True),
    ("day:pp:1970-01-10", False), ("day:tenant=p:1970-01-10", False), ("total:xp", False), ("total:p", True),
])
def test_a_pipeline_takes_its_own_overruns_and_no_namesakes(ledger: Ledger, scope: str, shown: bool) -> None:
    ledger.add(Budget, {"scope": scope, "currency": "USD", "limit_nano": 10, "spent_nano": 12, "reserved_nano": 0,
                        "overrun_nano": 2})
    assert any(one.kind == "overrun" for one in made(ledger, pipeline="p")[1].attention) is shown


def test_a_month_is_as_long_as_it_is(ledger: Ledger) -> None:
    ledger.add(Budget, {"scope": "month:p:1970-01", "currency": "USD", "limit_nano": 10, "spent_nano": 12,
                        "reserved_nano": 0, "overrun_nano": 2})
    query = ReportQuery(period=parse_period(since="1970-01-30", until="1970-01-31"))
    found = build_breakdown(ledger, build_report(ledger, query, now=99 * DAY))
    assert [one.subject for one in found.attention if one.kind == "overrun"] == ["month:p:1970-01"]
