"""The first sheet: the figure, what it rests on, what needs attention, and whether all sheets agree."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.bridge import paid
from orchestrator.finance.export.figures import maturing, places, spell
from orchestrator.finance.export.workbook.charts import daily_charts, unit_charts
from orchestrator.finance.export.workbook.sheet import (
    ACCENT,
    NUMBERS,
    RULE,
    SOFT,
    Column,
    Formats,
    Table,
    money_format,
    printed,
    write,
)
from orchestrator.finance.export.workbook.tables import (
    BY_WORD,
    COST,
    ESTIMATED,
    HIGH,
    KNOWN,
    LOW,
    MEASURED,
    PRICED,
    RUNS,
    THOUSAND,
    UNIT,
)
from orchestrator.finance.records import Report

SHOWN = (UNIT, PRICED, "reads", LOW, HIGH, THOUSAND, COST, RUNS, KNOWN, ESTIMATED, MEASURED, BY_WORD)
"""Those of them that the report has."""
TIE = "ROUND({0}-{1},9)=0"


def write_summary(
    book: Any, formats: Formats, report: Report, breakdown: Breakdown, lines: Table, others: Sequence[Table]
) -> None:
    """Every number here is a formula that reads it from the sheet it stands on."""
    sheet = book.add_worksheet("Summary")
    sheet.hide_gridlines(2)
    sheet.set_default_row(18)
    made = datetime.fromtimestamp(report.created_at, UTC)
    sheet.write_string(0, 0, "Cost per successful outcome", formats.get(bold=True, font_size=20, font_color=ACCENT))
    sheet.write_string(1, 0, f"{spell(report.query.period)}. Made {made:%Y-%m-%d %H:%M} UTC.",
                       formats.get(font_color="#52606D"))
    row = _write_attention(sheet, formats, report, breakdown, 3)
    row = _write_figures(sheet, formats, report, lines, row + 1)
    row = _write_totals(sheet, formats, lines, others, row + 1)
    for words in (f"All that was paid: {one.words}." for one in paid(report) if one.apart):
        sheet.write_string(row, 0, words, formats.get())
        row += 1
    unit_charts(book, sheet, lines, (row + 1, 0))
    daily_charts(book, sheet, others[-1], (row + 1, 6))  # as wide as the first chart: 30 and five times 16 characters
    sheet.set_column(0, 0, 30)
    sheet.set_column(1, len(SHOWN) + 1, 16)
    sheet.set_column(1, 1, 24 if None in lines.columns[lines.place(UNIT)].values else 16)  # a range has two figures
    sheet.set_row(0, 32)
    printed(sheet)


def _write_attention(sheet: Any, formats: Formats, report: Report, breakdown: Breakdown, row: int) -> int:
    urgent = [one for one in breakdown.attention if one.urgent]
    if not urgent:
        words = " ".join(["Nothing urgent needs attention.", maturing(report)]).strip()
        sheet.write_string(row, 0, words, formats.get(font_color="#2F855A", bold=True))
        return row + 1
    sheet.write_string(row, 0, "Needs attention", formats.get(font_color="#B5442E", bold=True, font_size=13))
    for i, one in enumerate(urgent, 1):
        sheet.write_string(row + i, 0, f"•  {one.words}.", formats.get(font_color="#B5442E"))
    return row + 1 + len(urgent)


def _write_figures(sheet: Any, formats: Formats, report: Report, lines: Table, row: int) -> int:
    dark = {"bold": True, "font_color": "#FFFFFF", "bg_color": ACCENT, "text_wrap": True, "valign": "vcenter"}
    head, left = formats.get(**dark, align="right"), formats.get(**dark)
    sheet.set_row(row, 32)
    sheet.write_string(row, 0, lines.name, left)
    level = f"{report.query.confidence:.0%}"
    titles = {"reads": "", LOW: f"{LOW} ({level})", HIGH: f"{HIGH} ({level})"}
    shown = [title for title in SHOWN if any(column.title == title for column in lines.columns)]
    for at, title in enumerate(shown, 1):
        sheet.write_string(row, at, titles.get(title, title), head)
    for i in range(lines.rows):
        column = lines.columns[lines.place("name")]
        sheet.write_string(row + 1 + i, 0, column.values[i], formats.get(bold=True, bottom=1, bottom_color=RULE))
        for at, title in enumerate(shown, 1):
            _write_figure(sheet, formats, lines, lines.columns[lines.place(title)], i, (row + 1 + i, at))
    return row + 1 + lines.rows


def _write_figure(
    sheet: Any, formats: Formats, lines: Table, column: Column, i: int, cell: tuple[int, int]
) -> None:
    value = column.shown(i)
    look: dict[str, Any] = {"bottom": 1, "bottom_color": RULE, "align": "right"}
    if column.title == UNIT:
        look |= {"bold": True, "bg_color": SOFT, "font_size": 13}
    if isinstance(value, str):
        sheet.write_string(*cell, value, formats.get(**{**look, "font_size": 11}))
        return
    code = lines.currencies[i] or ""
    number = NUMBERS.get(column.kind) or money_format(code, places(column.values), least=column.is_least(i))
    formula = f"='{lines.name}'!{lines.letter(column.title)}{lines.first + i}"
    write(sheet, *cell, value, formats.get(**look, num_format=number), formula)


def _write_totals(sheet: Any, formats: Formats, lines: Table, others: Sequence[Table], row: int) -> int:
    """What each sheet sums to, a currency a row, and whether they all say the same."""
    sheet.write_string(row, 0, "Total cost, sheet by sheet", formats.get(bold=True, font_size=13, font_color=ACCENT))
    head = formats.get(bold=True, bottom=1, bottom_color=ACCENT, align="right")
    sheet.write_string(row + 1, 0, "currency", formats.get(bold=True, bottom=1, bottom_color=ACCENT))
    shown = [lines, *others]
    for at, table in enumerate(shown, 1):
        sheet.write_string(row + 1, at, table.name, head)
    sheet.write_string(row + 1, len(shown) + 1, "check", head)
    for i, code in enumerate(lines.codes, row + 2):
        sheet.write_string(i, 0, code, formats.get())
        held = [table for table in shown if code in table.codes]
        decimals = places(table.total(COST, code) for table in held)
        for at, table in enumerate(shown, 1):
            least = code in table.codes and table.total_is_least(COST, code)
            money = formats.get(num_format=money_format(code, decimals, least=least), align="right")
            if code in table.codes:
                write(sheet, i, at, table.total(COST, code), money, f"={table.total_cell(COST, code)}")
            else:
                write(sheet, i, at, 0, money)
        first, *rest = (f"{chr(ord('A') + at)}{i + 1}" for at in range(1, len(shown) + 1))
        checks = ",".join(TIE.format(first, other) for other in rest)
        same = len({table.total(COST, code) if code in table.codes else 0 for table in shown}) == 1
        sheet.write_formula(i, len(shown) + 1, f'=IF(AND({checks}),"ties: yes","ties: NO")',
                            formats.get(bold=True, align="right", font_color="#2F855A" if same else "#B5442E"),
                            "ties: yes" if same else "ties: NO")
    return row + 2 + len(lines.codes)
