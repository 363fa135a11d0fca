"""The report as one self-contained page: nothing is fetched, it prints well, and each figure is said in plain words."""

from __future__ import annotations

from orchestrator.finance.export.page.page import render_page

__all__ = ["render_page"]
