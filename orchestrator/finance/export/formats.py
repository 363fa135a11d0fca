"""All formats of a report by name, each a pure function of the same two records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.records import Report

FileFormat = Literal["table", "json", "csv", "xlsx", "html", "focus"]
FocusVersion = Literal["1.0", "1.2"]
ENDINGS: Mapping[FileFormat, str] = {
    "table": "txt", "json": "json", "csv": "csv", "xlsx": "xlsx", "html": "html", "focus": "csv",
}


def written(
    report: Report, breakdown: Breakdown, format: FileFormat, *, width: int = 100, focus: FocusVersion = "1.2"
) -> bytes:
    """The file. Both records are as `frozen.settled` or `frozen.from_json` gave them: a month once closed then gives
    the same bytes for ever."""
    if format == "xlsx":
        from orchestrator.finance.export.workbook import render_workbook

        return render_workbook(report, breakdown)
    if format == "html":
        from orchestrator.finance.export.page import render_page

        return render_page(report, breakdown)
    if format == "focus":
        from orchestrator.finance.export.focus import render_focus

        return render_focus(report, breakdown, version=focus)
    from orchestrator.finance.render import render

    return render(report, format, breakdown=breakdown, width=width).encode()
