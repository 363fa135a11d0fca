"""A report as text: a table for people, one JSON document, CSV for spreadsheets.

The formats of files are in `export`: all of them are written from the same two records, a Report and its Breakdown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from orchestrator.finance.attention import OF_GPUS, OF_RUNS, PERIOD
from orchestrator.finance.breakdown import Breakdown, Sum, group_of_charge
from orchestrator.finance.breakdown import incomplete as incomplete_charges
from orchestrator.finance.bridge import paid
from orchestrator.finance.export.flat import render_csv
from orchestrator.finance.export.frozen import from_json, report_json, to_json
from orchestrator.finance.phrases import amount, at_least, interval, share, unit_cost
from orchestrator.finance.records import Line, Report, Spend
from orchestrator.finance.text_table import new_table, plain_console
from orchestrator.finance.words import (
    SOURCE_WORDS,
    apart,
    apart_only,
    definition,
    incomplete_in,
    remarks,
    success_rate,
    successes,
    warnings,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["Format", "from_json", "render", "render_csv", "render_table", "report_json", "to_json"]

Format = Literal["table", "json", "csv"]


def render(report: Report, format: Format, *, breakdown: Breakdown | None = None, width: int = 100) -> str:
    """The report as text, with a line's end at its end. `width` is that of the table, in columns."""
    if format == "table":
        return render_table(report, breakdown, width=width)
    if format == "csv":
        return render_csv(report)
    if breakdown is not None:
        return to_json(report, breakdown).decode()
    import orjson

    return orjson.dumps(report_json(report), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def render_table(report: Report, breakdown: Breakdown | None = None, *, width: int = 100) -> str:
    console, text = plain_console(width)
    console.print(f"Cost per successful outcome, {report.query.period}")
    attention = breakdown.attention if breakdown is not None else ()
    urgent = [f"{one.words}." for one in attention if one.urgent] if breakdown is not None else warnings(report)
    for warning in urgent:
        console.print(f"! {warning}")
    for one in attention:
        if one.kind in PERIOD:
            console.print(f"* {one.words}.")
    console.print("\nA run is a success where")
    for said in report.definitions:
        console.print(f"  {definition(said)}")
    if not report.lines:
        console.print("\nNo runs and no calls in this period.")
        _print_restated(console, report)
        return text.getvalue()
    console.print()
    for table in (_by_source(report), _unit_costs(report)):
        console.print(table)
    for bridge in paid(report):
        if bridge.apart:
            console.print(f"All that was paid: {bridge.words}.\n")
    console.print(_by_role(report, breakdown))
    if breakdown is not None and breakdown.by_model:
        console.print(_by_model(breakdown.by_model))
    level = f"{report.query.confidence:.0%}"
    for line in report.lines:
        for remark in remarks(line, level):
            console.print(f"- {remark}")
    for one in attention:
        if one.kind in OF_GPUS | OF_RUNS:
            console.print(f"- {one.words}.")
    _print_restated(console, report)
    return text.getvalue()


def _print_restated(console: Console, report: Report) -> None:
    for month in report.restatements:
        console.print(f"- {month.words}.")


def _table(title: str, report: Report, *columns: str) -> Table:
    return new_table(title, ", ".join(report.query.by), *columns, words=("source",))


def _by_source(report: Report) -> Table:
    table = _table("Success by source", report, "source", "runs", "share", "successes", "rate")
    for line in report.lines:
        if not line.runs:
            continue  # calls alone: of a calibration, or of runs that ended in another period
        for i, one in enumerate(line.sources):
            known = one.name != "unknown"
            table.add_row(
                line.name if i == 0 else "", SOURCE_WORDS[one.name], f"{one.runs:,}", share(one.share),
                f"{one.successes:,}" if known else "unknown", share(one.successes / one.runs) if known else "-",
            )
        table.add_row("", "all", f"{line.runs:,}", share(1.0), successes(line), success_rate(line))
    return table


def _unit_costs(report: Report) -> Table:
    level = f"{report.query.confidence:.0%} long run"
    priced = any(spend.with_errors for _, spend in _spends(report))
    table = _table(
        "Cost per successful outcome", report, "runs", "cost", "per success", level, "per 1,000",
        *(["errors priced"] if priced else []), "escalated",
    )
    for line, spend in _spends(report):
        unit, more = spend.per_success, incomplete_in(line, spend)
        if apart_only(line):
            table.add_row(line.name, "-", f"{apart(line, spend)} {spend.currency} apart", *["-"] * (5 if priced else 4))
            continue
        table.add_row(
            line.name, f"{line.runs:,}",
            f"{at_least(more, amount(spend.total.amount if spend.total else None))} {spend.currency}",
            unit_cost(unit), interval(unit), unit_cost(unit, 1000),
            *([unit_cost(spend.with_errors.per_success) if spend.with_errors else "-"] if priced else []),
            share(line.escalation_rate),
        )
    return table


def _by_role(report: Report, breakdown: Breakdown | None) -> Table:
    unknown = _unknown_roles(report, breakdown)
    roles = sorted({role for _, spend in _spends(report) for role in spend.by_role} | {role for _, role in unknown})
    table = _table("Cost by role", report, "currency", *roles, "wasted on failures", "saved by cache", "cache hits")
    for line, spend in _spends(report):
        if apart_only(line):
            continue
        cells = [_of_role(spend, role, (line.name, role) in unknown) for role in roles]
        table.add_row(
            line.name, spend.currency, *cells, at_least(incomplete_in(line, spend), amount(spend.waste.amount)),
            amount(spend.saved.amount),
            f"{line.cache_hits:,}",
        )
    return table


def _of_role(spend: Spend, role: str, unknown: bool) -> str:
    if role in spend.by_role:
        return at_least(unknown, amount(spend.by_role[role].amount))
    return "unknown" if unknown else "-"


def _unknown_roles(report: Report, breakdown: Breakdown | None) -> set[tuple[str, str]]:
    """Lines and roles of which the cost of some calls is unknown."""
    return {
        (", ".join(value or "(none)" for value in group_of_charge(one, report.query.by)), one.role)
        for one in (breakdown.charges if breakdown is not None else ()) if incomplete_charges((one,))
    }


def _by_model(sums: tuple[Sum, ...]) -> Table:
    table = new_table("By model that answered", "model", "calls", "tokens in", "tokens out", "cost", "apart",
                      "unpriced")
    for one in sums:
        own, beside = one.parts
        if own is not None:
            cost = at_least(own.at_least, amount(own.cost.amount if own.cost else None))
            more = "-" if own.apart is None else amount(own.apart.amount)  # of a month closed before they were parted
            table.add_row(own.group["model"], *_used(own), f"{cost} {own.currency or ''}".strip(), more,
                          f"{own.unpriced:,}")
        if beside is not None:
            cost = at_least(beside.apart_at_least, amount(beside.apart.amount if beside.apart else None))
            table.add_row(f"{beside.group['model']}, apart", *_used(beside), "-", cost, f"{beside.unpriced:,}")
    return table


def _used(one: Sum) -> tuple[str, str, str]:
    """Calls, tokens read and tokens written."""
    out = sum(n for name, n in one.tokens.items() if name.startswith(("output", "reasoning")))
    return f"{one.calls:,}", f"{sum(one.tokens.values()) - out:,}", f"{out:,}"


def _spends(report: Report) -> Iterator[tuple[Line, Spend]]:
    return ((line, spend) for line in report.lines for spend in line.spend)
