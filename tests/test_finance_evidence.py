"""Which runs of a ledger enter a sample, with what logged confidence, and what the report then says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from orchestrator.finance.records import Line, ReportQuery
from orchestrator.finance.render import render, report_json
from orchestrator.finance.report import build_report
from orchestrator.store.statements import table
from orchestrator.store.tables import StepRow
from tests.ledger import Ledger

NOW = 8_640_000.0
FITTED = [{"id": "s", "confidence": {"fitted": "confidence.json"}}]
RAW = [{"id": "s", "confidence": {"from": "agreement"}}]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.on_disk(tmp_path)
    yield made
    made.close()


def line_of(ledger: Ledger) -> Line:
    (line,) = build_report(ledger, ReportQuery(), now=NOW).lines
    return line


def log_confidence(ledger: Ledger, run_id: str, confidence: float) -> None:
    step = table(StepRow)
    with ledger.engine.begin() as connection:
        connection.execute(update(step).where(step.c.run_id == run_id).values(confidence=confidence))


def checked_drafts(ledger: Ledger, drafts: int = 240) -> None:
    """Every third is checked. The confidence is .9 or .4, and right about as often as it says."""
    for i in range(drafts):
        sure = i % 2 == 0
        ledger.run(f"r{i}", propensity=0.33)
        ledger.call(f"r{i}", 100)
        log_confidence(ledger, f"r{i}", 0.9 if sure else 0.4)
        if i % 3 == 0:
            right = i % 20 < 18 if sure else i % 10 < 4
            ledger.spot_check(f"r{i}", right=right, propensity=0.33)


@pytest.mark.parametrize(("steps", "method"), [(FITTED, "augmented"), (RAW, "hypergeometric"), ([], "hypergeometric")])
def test_a_logged_confidence_counts_only_where_it_is_a_fitted_probability(
    ledger: Ledger, steps: list[dict[str, Any]], method: str
) -> None:
    ledger.config(steps=steps)
    checked_drafts(ledger)
    line = line_of(ledger)
    assert line.estimate is not None
    assert line.estimate.method == method
    assert (line.estimate.checked, line.estimate.unchecked) == (80, 160)


def test_one_draft_without_its_confidence_leaves_the_exact_interval(ledger: Ledger) -> None:
    ledger.config(steps=FITTED)
    checked_drafts(ledger)
    ledger.run("unsure", propensity=0.33)
    line = line_of(ledger)
    assert line.estimate is not None
    assert line.estimate.method == "hypergeometric"


def test_the_report_names_each_interval_it_shows(ledger: Ledger) -> None:
    ledger.config(steps=FITTED)
    checked_drafts(ledger)
    report = build_report(ledger, now=NOW)
    (line,) = report_json(report)["lines"]
    assert line["estimate"]["method"] == "augmented"
    assert line["long_run_rate"]["method"] == "augmented"
    assert line["spend"][0]["per_success"]["method"] == "square-and-add"
    text = " ".join(render(report, "table").split())
    for said in ("of this period not looked at", "in the long run", "augmented inverse propensity", "square-and-add"):
        assert said in text


def test_a_check_without_an_answer_speaks_for_those_like_it(ledger: Ledger) -> None:
    ledger.config()
    for i in range(100):
        ledger.run(f"r{i}", propensity=0.2)
    for i in range(20):
        answered = i < 18
        ledger.spot_check(f"r{i}", right=True if answered else None, propensity=0.2,
                          state="done" if answered else "unanswered")
    line = line_of(ledger)
    assert line.estimate is not None
    assert (line.estimate.checked, line.estimate.unanswered, line.estimate.unchecked) == (18, 2, 80)
    assert line.estimate.successes == 72.0  # 80 x 18/20: those like the two are not counted
    assert line.not_estimated == 2
    assert line.long_run_rate is not None
    assert line.long_run_rate.low < 18 / 20 < line.long_run_rate.high == 1.0


def test_a_checked_draft_of_a_run_that_was_escalated_elsewhere_stands_for_no_other(ledger: Ledger) -> None:
    """Unchecked, it would be known by the validator's word: it is no random member of those that are unknown."""
    ledger.config()
    for i in range(20):
        ledger.run(f"r{i}", propensity=0.5)
    for i in range(10):
        ledger.spot_check(f"r{i}", right=True, propensity=0.5)
    for i in range(5):
        ledger.run(f"e{i}", propensity=0.5, status="repaired", success=True, source="validator", escalated=True)
        ledger.spot_check(f"e{i}", right=False, propensity=0.5)
    line = line_of(ledger)
    assert line.estimate is not None
    assert (line.estimate.checked, line.estimate.right) == (10, 10)
    assert line.failures == 5
