"""The page: one file that asks for nothing, escapes what came from outside, and says each figure in words."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.export.page import render_page
from orchestrator.finance.export.page.charts import Scale
from orchestrator.finance.records import Report, ReportQuery
from tests.busy_month import busy_report

VOID = {"meta", "br", "rect", "line", "path"}
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_page(*busy_report(tmp_path_factory.mktemp("ledger"), by=("team",))).decode()


class Parsed(HTMLParser):
    """Tags that are not closed, and the attributes that could fetch or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tables = self.captions = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.fetched += [name for name, _ in attrs if name in ("src", "href", "xlink:href") or name[:2] == "on"]
        self.fetched += [tag] if tag in ("script", "link", "img", "iframe", "object") else []
        self.tables += tag == "table"
        self.captions += tag == "caption"

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_fetches_and_runs_nothing(page: str) -> None:
    parsed = Parsed(page)
    assert parsed.fetched == []
    assert parsed.open == []
    assert not re.search(r"url\(|@import|https?://", page)


def test_every_table_has_a_caption_and_every_drawing_words(page: str) -> None:
    parsed = Parsed(page)
    assert parsed.tables == parsed.captions > 5
    assert page.count("<svg") == len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+', page)) > 0


def test_what_came_from_outside_is_text(tmp_path: Path) -> None:
    report, breakdown = busy_report(tmp_path)
    name = "<script>alert(1)</script>"
    from dataclasses import replace

    lines = tuple(replace(line, group={"pipeline": name}) for line in report.lines)
    shown = render_page(replace(report, lines=lines), breakdown).decode()
    assert name not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_what_needs_attention_comes_before_the_figures(page: str) -> None:
    assert 0 < page.index("Needs attention before you sign") < page.index("per successful outcome</p>")


def test_an_empty_period_is_said_in_words() -> None:
    empty = Report(query=ReportQuery(), created_at=0.0, definitions=(), lines=(), totals=(), unpriced_calls=0,
                   unsettled_calls=0)
    assert "No runs and no calls in this period." in render_page(empty, Breakdown()).decode()


@pytest.mark.parametrize("most", ["0", "0.0000071", "0.024", "0.1", "1", "3", "999.99", "123456"])
def test_an_axis_reaches_the_largest_value_with_a_handful_of_round_marks(most: str) -> None:
    from decimal import Decimal

    scale = Scale.to(Decimal(most))
    assert scale.top >= Decimal(most)
    assert 2 <= len(scale.marks) <= 6
    assert scale.marks[-1] == scale.top


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_draws_it_and_prints_it(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/profile")
    for option, made in (("--screenshot", "page.png"), ("--print-to-pdf", "page.pdf")):
        subprocess.run([str(CHROMIUM), *quiet, f"{option}={tmp_path / made}", (tmp_path / "page.html").as_uri()],
                       check=True, capture_output=True, timeout=120)
        assert (tmp_path / made).stat().st_size > 10_000
