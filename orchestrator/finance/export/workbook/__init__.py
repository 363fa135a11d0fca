"""The report as a workbook: sheets that say what they show, real numbers, and formulas that tie them together."""

from __future__ import annotations

from orchestrator.finance.export.workbook.book import render_workbook

__all__ = ["render_workbook"]
