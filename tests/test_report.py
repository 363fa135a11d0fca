"""Reports, from a ledger written by hand: the precedence of evidence, the sums, and what is said of the unknown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError
from orchestrator.finance.explain import explain, explain_text
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import Line, ReportQuery
from orchestrator.finance.render import render, report_json
from orchestrator.finance.report import build_report
from orchestrator.records import Money
from tests.ledger import Ledger

DAY = 86400.0
NOW = 100 * DAY
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    made.config(tags=("team",), success={"require": "signals.schema.ok", "feedback_window": "7d"})
    yield made
    made.close()


def line_of(ledger: Ledger, **asked: Any) -> Line:
    report = build_report(ledger, ReportQuery(**asked), now=NOW)
    assert len(report.lines) == 1
    return report.lines[0]


def source_of(ledger: Ledger, run_id: str) -> tuple[str, bool | None]:
    found = explain(ledger, run_id)["outcome"]
    return found["success_source"], found["success"]


def test_a_failed_requirement_outranks_feedback(ledger: Ledger) -> None:
    ledger.run("r", success=False, source="require")
    ledger.feedback("r", True)
    assert source_of(ledger, "r") == ("require", False)


def test_feedback_outranks_a_label_and_the_last_word_counts(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    ledger.feedback("r", False, at=200.0)
    assert source_of(ledger, "r") == ("feedback", False)
    ledger.feedback("r", True, at=300.0)
    assert source_of(ledger, "r") == ("feedback", True)


def test_a_label_and_a_proof_outrank_a_spot_check(ledger: Ledger) -> None:
    for source in ("label", "proof"):
        ledger.run(source, success=True, source=source, propensity=0.5)
        ledger.spot_check(source, right=False, propensity=0.5)
        assert source_of(ledger, source) == (source, True)


def test_a_spot_check_outranks_the_validator_and_the_unknown(ledger: Ledger) -> None:
    ledger.run("v", success=True, source="validator")
    ledger.run("u")
    for run_id in ("v", "u"):
        ledger.feedback(run_id, False, source="spot_check")
        assert source_of(ledger, run_id) == ("spot_check", False)


@pytest.mark.parametrize("status", ["handed_off", "declined", "failed"])
def test_what_was_not_served_is_no_success_until_a_person_says_so(ledger: Ledger, status: str) -> None:
    ledger.run("r", status=status, success=False, source="status")
    assert source_of(ledger, "r") == ("status", False)
    ledger.feedback("r", True, source="hand_off")
    assert source_of(ledger, "r") == ("feedback", True)


def test_a_cache_hit_follows_its_source_run_later_feedback_included(ledger: Ledger) -> None:
    ledger.run("first", propensity=0.5)
    ledger.run("hit", from_cache=True, source_run_id="first", propensity=0.5)
    assert source_of(ledger, "hit") == ("unknown", None)
    ledger.spot_check("first", right=True, propensity=0.5)
    assert source_of(ledger, "hit") == ("spot_check", True)
    ledger.feedback("first", False)
    assert source_of(ledger, "hit") == ("feedback", False)
    ledger.feedback("hit", True)
    assert source_of(ledger, "hit") == ("feedback", True)


def test_a_recalled_draft_that_was_validated_anew_does_not_follow_its_source(ledger: Ledger) -> None:
    ledger.run("first")
    ledger.run("again", status="repaired", success=True, source="validator", source_run_id="first")
    ledger.feedback("first", False)
    assert source_of(ledger, "again") == ("validator", True)


def test_cache_hits_and_unanswered_checks_enter_no_sample(ledger: Ledger) -> None:
    for i in range(4):
        ledger.run(f"r{i}", propensity=0.5)
    ledger.spot_check("r0", right=True, propensity=0.5)
    ledger.spot_check("r1", right=None, propensity=0.5, state="unanswered")
    ledger.run("hit", from_cache=True, source_run_id="r2", propensity=0.5)
    ledger.run("two", propensity=0.5, steps=("a", "b"))
    line = line_of(ledger)
    assert line.estimate is not None
    assert (line.estimate.checked, line.estimate.unchecked) == (1, 2)
    assert line.not_estimated == 3


def test_every_call_counts_and_the_baseline_stands_apart(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    ledger.call("r", 100)
    ledger.call("r", 30, error="ServerFailed: 500")
    ledger.call("r", 5_000, role="repair")
    ledger.call("r", 7_000, role="baseline")
    ledger.call("open", 11)  # of a run that the report can't see: no configuration, no owner
    (spend,) = line_of(ledger).spend
    assert spend.total == Money(nano=5130)
    assert spend.by_role == {"draft": Money(nano=130), "repair": Money(nano=5000)}
    assert spend.baseline == Money(nano=7000)


def test_money_spent_on_failures_is_waste(ledger: Ledger) -> None:
    for i, right in enumerate([True, False, False]):
        ledger.run(f"r{i}", success=right, source="label")
        ledger.call(f"r{i}", 100 + i)
    (spend,) = line_of(ledger).spend
    assert (spend.waste, spend.total) == (Money(nano=203), Money(nano=303))


def test_unpriced_calls_are_said_at_the_top_and_never_summed_as_zero(ledger: Ledger) -> None:
    for i in range(20):
        ledger.run(f"r{i}", success=True, source="label")
        ledger.call(f"r{i}", None if i == 0 else 100)
    ledger.call("r1", None, input_tokens=0, error="RequestRefused: 400")  # refused: nothing used, nothing unknown
    report = build_report(ledger, now=NOW)
    assert report.unpriced_calls == 1
    unit = report.lines[0].spend[0].per_success
    assert (unit.qualifier, unit.value, unit.low) == ("at least", Decimal("9.5E-8"), None)
    assert render(report, "table").splitlines()[1].startswith("! 1 call without a price")


def test_a_pipeline_without_any_price_has_an_unknown_cost(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    ledger.call("r", None, bound=None)
    (spend,) = line_of(ledger).spend
    assert (spend.total, spend.per_success.value) == (None, None)
    assert "unknown USD" in render(build_report(ledger, now=NOW), "table")


def test_unsettled_calls_are_shown_with_their_bound_and_apart(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label")
    ledger.call("r", 100)
    ledger.call("r", None, state="unsettled", bound=900, input_tokens=None)
    ledger.call("r", None, state="intent", bound=800, input_tokens=None, ended_at=None)
    line = line_of(ledger)
    (spend,) = line.spend
    assert (spend.total, spend.unsettled_bound) == (Money(nano=100), Money(nano=900))
    assert (line.unsettled_calls, line.in_flight_calls, line.unpriced_calls) == (1, 1, 0)


def test_a_cache_hit_costs_nothing_and_shows_what_it_saved(ledger: Ledger) -> None:
    ledger.run("r", success=True, source="label", from_cache=True, saved_nano=120, saved_currency="USD")
    line = line_of(ledger)
    (spend,) = line.spend
    assert (spend.total, spend.saved, line.cache_hits) == (Money(nano=0), Money(nano=120), 1)


def test_currencies_are_never_mixed(ledger: Ledger) -> None:
    for i in range(5):
        ledger.run(f"r{i}", success=True, source="label")
        ledger.call(f"r{i}", 100)
        ledger.call(f"r{i}", 70, currency="EUR", role="redo")
    eur, usd = line_of(ledger).spend
    assert (eur.currency, eur.total, eur.per_success.value) == ("EUR", Money(nano=350, currency="EUR"), Decimal("7E-8"))
    assert (usd.currency, usd.total, usd.per_success.value) == ("USD", Money(nano=500), Decimal("1E-7"))


def test_periods_are_half_open(ledger: Ledger) -> None:
    for i, day in enumerate([9.999, 10.0, 19.999, 20.0]):
        ledger.run(f"r{i}", success=True, source="label", ended_at=day * DAY)
        ledger.call(f"r{i}", 10**i, ended_at=day * DAY)
    line = line_of(ledger, period=parse_period(since="1970-01-11", until="1970-01-21"))
    assert (line.runs, line.spend[0].total) == (2, Money(nano=110))


def test_later_feedback_restates_a_closed_period(ledger: Ledger) -> None:
    for i in range(5):
        ledger.run(f"r{i}", success=True, source="validator", ended_at=5 * DAY)
    ledger.feedback("r0", False, at=6 * DAY)
    ledger.feedback("r1", False, at=40 * DAY)
    line = line_of(ledger, period=parse_period(month="1970-01"))
    assert line.restated is not None
    assert (line.restated.then, line.restated.now, line.successes) == (4, 3, 3)


def test_runs_with_an_open_feedback_window_are_still_maturing(ledger: Ledger) -> None:
    for i, day in enumerate([92.9, 93.1, 99.0]):
        ledger.run(f"r{i}", success=True, source="validator", ended_at=day * DAY)
    assert line_of(ledger).maturing == 2


def test_tags_group_only_where_a_pipeline_lists_them(ledger: Ledger) -> None:
    for i, team in enumerate(["a", "a", "=cmd()", True, None]):
        ledger.run(f"r{i}", success=True, source="label", tags={} if team is None else {"team": team})
        ledger.call(f"r{i}", 100)
    report = build_report(ledger, ReportQuery(by=("team",)), now=NOW)
    assert {line.group["team"]: line.runs for line in report.lines} == {"a": 2, "=cmd()": 1, "true": 1, "": 1}
    rows = list(csv.DictReader(io.StringIO(render(report, "csv"))))
    assert "'=cmd()" in {row["team"] for row in rows}
    with pytest.raises(InputError, match="'customer'"):
        build_report(ledger, ReportQuery(by=("customer",)), now=NOW)


def test_an_empty_ledger_is_a_report_without_lines(tmp_path: Path) -> None:
    empty = Ledger.on_disk(tmp_path)
    report = build_report(empty, now=NOW)
    empty.close()
    assert report.lines == ()
    assert "No runs" in render(report, "table")


def golden_ledger(ledger: Ledger) -> None:
    """40 labelled runs (30 right), 30 validated, 50 accepted with 10 of them checked, and one of each trouble."""
    for i in range(40):
        ledger.run(f"l{i}", success=i < 30, source="label", ended_at=2 * DAY)
        ledger.call(f"l{i}", 1_000_000, bound=4_000_000, ended_at=2 * DAY)
    for i in range(30):
        ledger.run(f"v{i}", status="repaired", success=True, source="validator", escalated=True, ended_at=3 * DAY)
        ledger.call(f"v{i}", 1_000_000, bound=4_000_000, ended_at=3 * DAY)
        ledger.call(f"v{i}", 20_000_000, role="repair", bound=90_000_000, ended_at=3 * DAY)
    for i in range(50):
        ledger.run(f"a{i}", propensity=0.2, ended_at=4 * DAY)
        ledger.call(f"a{i}", 1_000_000, bound=4_000_000, ended_at=4 * DAY)
        if i < 10:
            ledger.spot_check(f"a{i}", right=i < 9, propensity=0.2)
            ledger.call(f"a{i}", 20_000_000, role="spot_check", bound=90_000_000, ended_at=5 * DAY)
    ledger.run("handed", status="handed_off", success=False, source="status", ended_at=5 * DAY)
    ledger.run("hit", success=True, source="label", from_cache=True, source_run_id="l0", saved_nano=1_000_000,
               saved_currency="USD", ended_at=6 * DAY)
    ledger.call("handed", None, state="unsettled", bound=4_000_000, input_tokens=None, ended_at=5 * DAY)


def test_the_golden_ledger_gives_the_hand_computed_report(ledger: Ledger) -> None:
    golden_ledger(ledger)
    found = report_json(build_report(ledger, ReportQuery(period=parse_period(month="1970-01")), now=NOW))
    (line,) = found["lines"]
    (spend,) = line["spend"]
    # 120 drafts at 0.001, 30 repairs and 10 checks at 0.02; right: 31 + 30 + 9 known, 36 estimated
    assert spend["total"]["amount"] == "0.92"
    assert spend["by_role"]["spot_check"]["amount"] == "0.2"
    assert spend["waste"]["amount"] == "0.031"  # ten wrong labels at 0.001 and the wrong check at 0.021
    assert (line["runs"], line["successes"], line["failures"]) == (122, 70, 12)
    assert (line["estimate"]["unchecked"], line["estimate"]["successes"]) == (40, 36.0)
    assert spend["per_success"]["value"] == "0.008679245283"  # 0.92 / 106
    assert spend["unsettled_bound"]["amount"] == "0.004"
    assert found == json.loads((GOLDEN / "report.json").read_text())


def test_postgresql_gives_the_same_report(postgres_url: str) -> None:
    ledger = Ledger(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    ledger.config(tags=("team",), success={"require": "signals.schema.ok", "feedback_window": "7d"})
    golden_ledger(ledger)
    month = parse_period(month="1970-01")
    found = report_json(build_report(ledger, ReportQuery(period=month), now=NOW))
    assert found == json.loads((GOLDEN / "report.json").read_text())
    ledger.run("tagged", success=True, source="label", tags={"team": True})
    lines = build_report(ledger, ReportQuery(by=("team", "pipeline"), period=month), now=NOW).lines
    ledger.close()
    assert [line.group["team"] for line in lines] == ["", "true"]


@pytest.mark.parametrize("format", ["table", "csv"])
def test_the_golden_ledger_reads_the_same_in_every_format(ledger: Ledger, format: Any) -> None:
    golden_ledger(ledger)
    text = render(build_report(ledger, ReportQuery(period=parse_period(month="1970-01")), now=NOW), format)
    assert max(len(one) for one in text.splitlines()) <= 100 or format == "csv"
    assert [one.rstrip() for one in text.splitlines()] == (GOLDEN / f"report.{format}").read_text().splitlines()


def test_a_run_is_explained_from_the_ledger(ledger: Ledger) -> None:
    golden_ledger(ledger)
    text = explain_text(ledger, "a9")
    for said in ("run a9 of p", "spot_check", "0.02 USD", "chosen with probability 0.2", "success no (spot_check)"):
        assert said in text
    json.dumps(explain(ledger, "a9"), allow_nan=False)
    with pytest.raises(InputError, match="'nobody'"):
        explain(ledger, "nobody")
