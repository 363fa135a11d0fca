"""A report as one flat CSV: a row a line and currency, exact figures, nothing rounded for the eye."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from orchestrator.finance.plain import figure, plain_decimal
from orchestrator.finance.records import Line, Report, Spend
from orchestrator.records import Money

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell may not begin with: a spreadsheet would run it."""


def render_csv(report: Report) -> str:
    """One row a line and currency. A cell that a spreadsheet would take for a formula gets an apostrophe in front."""
    rows = [row for line in report.lines for row in _csv_rows(report, line)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*report.query.by, *_CSV_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


_CSV_COLUMNS = (
    "since", "until", "tz", "currency", "runs", "successes", "failures", "estimated_successes", "estimated_low",
    "estimated_high", "estimate_method", "unanswered_checks", "not_estimated", "long_run_rate_low",
    "long_run_rate_high", "long_run_rate_method", "handed_off", "declined", "failed", "escalated", "cache_hits",
    "maturing", "calls", "unpriced_calls", "unsettled_calls", "cost", "cost_draft", "cost_sample", "cost_judge",
    "cost_repair", "cost_redo", "cost_guard", "cost_spot_check", "cost_baseline", "cost_calibration", "waste",
    "saved", "unsettled_bound", "cost_per_success", "qualifier", "own_low", "own_high", "low", "high",
    "per_thousand", "interval_method", "note", "error_price", "with_errors", "with_errors_low", "with_errors_high",
    "cost_with_idle", "cost_per_success_with_idle", "paired_runs", "paired_saving_per_run", "paired_saving_low",
    "paired_saving_high",
)


def _csv_rows(report: Report, line: Line) -> Iterator[dict[str, Any]]:
    period, found, rate = report.query.period, line.estimate, line.long_run_rate
    common = {
        **line.group, "since": period.since.isoformat() if period.since else None,
        "until": period.until.isoformat() if period.until else None, "tz": period.tz, "runs": line.runs,
        "successes": line.successes, "failures": line.failures,
        "estimated_successes": found.successes if found else None, "estimated_low": found.low if found else None,
        "estimated_high": found.high if found else None, "estimate_method": found.method if found else None,
        "unanswered_checks": found.unanswered if found else None, "not_estimated": line.not_estimated,
        "long_run_rate_low": rate.low if rate else None, "long_run_rate_high": rate.high if rate else None,
        "long_run_rate_method": rate.method if rate else None,
        **{status: line.statuses.get(status, 0) for status in ("handed_off", "declined", "failed")},
        "escalated": line.escalated, "cache_hits": line.cache_hits, "maturing": line.maturing, "calls": line.calls,
        "unpriced_calls": line.unpriced_calls, "unsettled_calls": line.unsettled_calls,
    }
    for spend in line.spend:
        unit = spend.per_success
        yield {
            **common, "currency": spend.currency, "cost": spend.total, "waste": spend.waste, "saved": spend.saved,
            **{f"cost_{role}": money for role, money in spend.by_role.items()}, "cost_baseline": spend.baseline,
            "cost_calibration": spend.calibration,
            "unsettled_bound": spend.unsettled_bound, "cost_per_success": unit.value, "qualifier": unit.qualifier,
            "own_low": unit.own_low, "own_high": unit.own_high, "low": unit.low, "high": unit.high,
            "per_thousand": unit.per_thousand, "interval_method": unit.method, "note": unit.note,
            **_with_errors(spend), **_with_idle(spend), **_saving(line, spend),
        }


def _with_errors(spend: Spend) -> dict[str, Any]:
    priced = spend.with_errors
    if priced is None:
        return {}
    unit = priced.per_success
    return {"error_price": priced.price, "with_errors": unit.value, "with_errors_low": unit.low,
            "with_errors_high": unit.high}


def _with_idle(spend: Spend) -> dict[str, Any]:
    whole = spend.whole_bill
    return {"cost_with_idle": whole.total, "cost_per_success_with_idle": whole.per_success.value} if whole else {}


def _saving(line: Line, spend: Spend) -> dict[str, Any]:
    """Measured on the tasks that the validator also answered alone."""
    for one in line.savings:
        if one.currency == spend.currency:
            return {"paired_runs": one.pairs, "paired_saving_per_run": one.per_run, "paired_saving_low": one.low,
                    "paired_saving_high": one.high}
    return {}


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Money):
        value = value.amount
    if isinstance(value, Decimal):
        return plain_decimal(value)
    text = str(figure(value) if isinstance(value, float) else value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text


