"""A report as a table for people, as one JSON document, as CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from orchestrator.finance.records import Line, Report, Spend
from orchestrator.finance.words import (
    SOURCE_WORDS,
    amount,
    definition,
    interval,
    remarks,
    share,
    success_rate,
    successes,
    unit_cost,
    warnings,
)
from orchestrator.records import Money

Format = Literal["table", "json", "csv"]


def render(report: Report, format: Format, *, width: int = 100) -> str:
    """The report as text, with a line's end at its end. `width` is that of the table, in columns."""
    if format == "table":
        return render_table(report, width=width)
    if format == "csv":
        return render_csv(report)
    import json

    return json.dumps(report_json(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_table(report: Report, *, width: int = 100) -> str:
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, highlight=False, markup=False, emoji=False)
    console.print(f"Cost per successful outcome, {report.query.period}")
    for warning in warnings(report):
        console.print(f"! {warning}")
    console.print("\nA run is a success where")
    for one in report.definitions:
        console.print(f"  {definition(one)}")
    if not report.lines:
        console.print("\nNo runs and no calls in this period.")
        return text.getvalue()
    console.print()
    for table in (_by_source(report), _unit_costs(report), _by_role(report)):
        console.print(table)
    level = f"{report.query.confidence:.0%}"
    for line in report.lines:
        for remark in remarks(line, _name(line), level):
            console.print(f"- {remark}")
    return text.getvalue()


def report_json(report: Report) -> dict[str, Any]:
    """The report as JSON types: money as strings, times as ISO 8601, what is not known as null."""
    period = report.query.period
    return {
        "kind": "report",
        "format": 1,
        "created_at": datetime.fromtimestamp(report.created_at, UTC).isoformat(),
        "period": {
            "since": period.since.isoformat() if period.since else None,
            "until": period.until.isoformat() if period.until else None,
            "tz": period.tz,
        },
        "by": list(report.query.by),
        "confidence": report.query.confidence,
        "unpriced_calls": report.unpriced_calls,
        "unsettled_calls": report.unsettled_calls,
        "lapses": [{**_plain(one), "at": one.at.isoformat(timespec="seconds")} for one in report.lapses],
        "definitions": [_plain(one) for one in report.definitions],
        "totals": [_money(total) for total in report.totals],
        "lines": [{**_plain(line), "escalation_rate": line.escalation_rate} for line in report.lines],
    }


def render_csv(report: Report) -> str:
    """One row a line and currency. A cell that a spreadsheet would take for a formula gets an apostrophe in front."""
    rows = [row for line in report.lines for row in _csv_rows(report, line)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*report.query.by, *_CSV_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


_CSV_COLUMNS = (
    "since", "until", "tz", "currency", "runs", "successes", "failures", "estimated_successes", "estimated_low",
    "estimated_high", "estimate_method", "unanswered_checks", "not_estimated", "long_run_rate_low",
    "long_run_rate_high", "long_run_rate_method", "handed_off", "declined", "failed", "escalated", "cache_hits",
    "maturing", "calls", "unpriced_calls", "unsettled_calls", "cost", "cost_draft", "cost_sample", "cost_judge",
    "cost_repair", "cost_redo", "cost_guard", "cost_spot_check", "cost_baseline", "cost_calibration", "waste",
    "saved", "unsettled_bound", "cost_per_success", "qualifier", "own_low", "own_high", "low", "high",
    "per_thousand", "interval_method", "note",
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
        }


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Money):
        value = value.amount
    if isinstance(value, Decimal):
        return plain_decimal(value)
    text = str(_figure(value) if isinstance(value, float) else value)
    return f"'{text}" if isinstance(value, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _figure(value: float) -> float:
    """A statistic to nine significant digits: the rest is the processor's, not the ledger's."""
    return float(f"{value:.9g}")


def plain_decimal(value: Decimal) -> str:
    """Without an exponent and without trailing zeros."""
    return f"{value.normalize():f}"


def _plain(value: Any) -> Any:
    """Frozen records as JSON types."""
    if isinstance(value, Money):
        return _money(value)
    if isinstance(value, Decimal):
        return plain_decimal(value)
    if isinstance(value, float):
        return _figure(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def _money(value: Money) -> dict[str, str]:
    return {"amount": plain_decimal(value.amount), "currency": value.currency}


def _name(line: Line) -> str:
    return ", ".join(value or "(none)" for value in line.group.values())


def _table(title: str, report: Report, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(", ".join(report.query.by), overflow="fold")
    for column in columns:
        table.add_column(column, justify="left" if column == "source" else "right", overflow="fold")
    return table


def _by_source(report: Report) -> Any:
    table = _table("Success by source", report, "source", "runs", "share", "successes", "rate")
    for line in report.lines:
        for i, one in enumerate(line.sources):
            known = one.name != "unknown"
            table.add_row(
                _name(line) if i == 0 else "", SOURCE_WORDS[one.name], f"{one.runs:,}", share(one.share),
                f"{one.successes:,}" if known else "unknown", share(one.successes / one.runs) if known else "-",
            )
        whole = share(1.0 if line.runs else None)
        table.add_row("", "all", f"{line.runs:,}", whole, successes(line), success_rate(line))
    return table


def _unit_costs(report: Report) -> Any:
    level = f"{report.query.confidence:.0%} long run"
    table = _table(
        "Cost per successful outcome", report, "runs", "cost", "per success", level, "per 1,000", "escalated"
    )
    for line, spend in _spends(report):
        unit = spend.per_success
        table.add_row(
            _name(line), f"{line.runs:,}", f"{amount(spend.total.amount if spend.total else None)} {spend.currency}",
            unit_cost(unit), interval(unit), amount(unit.per_thousand), share(line.escalation_rate),
        )
    return table


def _by_role(report: Report) -> Any:
    roles = sorted({role for _, spend in _spends(report) for role in spend.by_role})
    table = _table("Cost by role", report, "currency", *roles, "wasted on failures", "saved by cache", "cache hits")
    for line, spend in _spends(report):
        cells = [amount(spend.by_role[role].amount) if role in spend.by_role else "-" for role in roles]
        table.add_row(
            _name(line), spend.currency, *cells, amount(spend.waste.amount), amount(spend.saved.amount),
            f"{line.cache_hits:,}",
        )
    return table


def _spends(report: Report) -> Iterator[tuple[Line, Spend]]:
    return ((line, spend) for line in report.lines for spend in line.spend)
