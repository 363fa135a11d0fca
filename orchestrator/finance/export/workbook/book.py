"""The workbook put together: the summary first, then a sheet for each way of looking at the money."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.export.figures import MEANINGS
from orchestrator.finance.export.workbook import tables
from orchestrator.finance.export.workbook.charts import below, daily_charts, unit_charts
from orchestrator.finance.export.workbook.sheet import ACCENT, RULE, Formats, printed, write_table
from orchestrator.finance.export.workbook.summary import write_summary
from orchestrator.finance.records import Report
from orchestrator.finance.words import definition


def render_workbook(report: Report, breakdown: Breakdown) -> bytes:
    """An .xlsx file: the same bytes for the same report. Raises InputError where XlsxWriter is not installed."""
    try:
        from xlsxwriter import Workbook
    except ImportError as error:
        words = "a workbook needs XlsxWriter, which is not installed"
        raise InputError(words, hint="pip install 'draftgate[finance]'") from error
    written = io.BytesIO()
    book = Workbook(written, {
        "in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False,
    })
    made = datetime.fromtimestamp(report.created_at, UTC).replace(tzinfo=None)
    book.set_properties({"title": "Cost per successful outcome", "subject": str(report.query.period), "created": made})
    formats = Formats(book)
    by_line, by_model = tables.by_line(report), tables.by_model(breakdown)
    by_center, daily = tables.by_cost_center(breakdown), tables.daily(breakdown)
    write_summary(book, formats, report, breakdown, by_line, (by_model, by_center, daily))
    sheet = write_table(book, formats, by_line, title=f"Cost per successful outcome, {by_line.name.lower()}",
                        words="One row a group and currency. The unit cost is a formula: cost / successes.")
    unit_charts(book, sheet, by_line, below(by_line))
    write_table(book, formats, by_model, title="Cost by model",
                words="The model that answered; tokens by the classes they are billed in.")
    write_table(book, formats, by_center, title="Cost by cost centre", words="Who pays, for which pipeline.")
    sheet = write_table(book, formats, daily, title="Cost by day", words="UTC days, by what the calls were for.")
    daily_charts(book, sheet, daily, below(daily))
    write_table(book, formats, tables.by_step(breakdown), title="Cost by step and role",
                words="Which part of each pipeline the money went to.")
    write_table(book, formats, tables.details(report), title="More figures", words="What else is known of each group.")
    write_table(book, formats, tables.attention(breakdown), title="What needs attention",
                words="Look at the urgent ones before you sign: a figure is incomplete, or a limit was passed.")
    write_table(book, formats, tables.notes(report), title="Notes", words="What the tables leave out, in sentences.")
    _write_definitions(book, formats, report)
    book.close()
    return written.getvalue()


def _write_definitions(book: Any, formats: Formats, report: Report) -> None:
    sheet = book.add_worksheet("Definitions")
    sheet.hide_gridlines(2)
    sheet.set_column(0, 0, 32)
    sheet.set_column(1, 1, 110)
    sheet.write_string(0, 0, "What the figures mean", formats.get(bold=True, font_size=16, font_color=ACCENT))
    rule = {"bottom": 1, "bottom_color": RULE, "text_wrap": True}
    rows = [*MEANINGS, *((f"Success in {one.pipeline}", definition(one)) for one in report.definitions)]
    for row, (name, words) in enumerate(rows, 2):
        sheet.write_string(row, 0, name, formats.get(bold=True, **rule))
        sheet.write_string(row, 1, words, formats.get(**rule))
    printed(sheet)


