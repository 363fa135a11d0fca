"""The page: one file that asks for nothing, escapes what came from outside, and says each figure in words."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.export.page import render_page
from orchestrator.finance.export.page.charts import Scale
from orchestrator.finance.phrases import between
from orchestrator.finance.records import Report, ReportQuery
from tests.busy_month import busy_report

VOID = {"meta", "br", "wbr", "rect", "line", "path"}
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")
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
    scale = Scale.to(Decimal(most))
    assert scale.top >= Decimal(most)
    assert 2 <= len(scale.marks) <= 6
    assert scale.marks[-1] == scale.top


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_chromium_draws_it_and_prints_it(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    quiet = (*QUIET, f"--user-data-dir={tmp_path}/profile")
    for option, made in (("--screenshot", "page.png"), ("--print-to-pdf", "page.pdf")):
        subprocess.run([str(CHROMIUM), *quiet, f"{option}={tmp_path / made}", (tmp_path / "page.html").as_uri()],
                       check=True, capture_output=True, timeout=120)
        assert (tmp_path / made).stat().st_size > 10_000


MEASURE = """<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, names = [...page.querySelectorAll("tbody th:not(.long)")];
  const lines = names.map(one => { const text = page.createRange(); text.selectNodeContents(one);
    return new Set([...text.getClientRects()].map(box => box.top)).size; });
  document.title = [page.documentElement.scrollWidth, Math.max(...lines), names.length].join(" ");
};
frame.srcdoc = document.querySelector("template").innerHTML;
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_on_a_phone_nothing_is_wider_than_the_screen_and_no_short_name_is_broken(tmp_path: Path) -> None:
    report, breakdown = busy_report(tmp_path)
    long = "a_pipeline_with_a_name_as_" + "long_" * 12 + "as_some_are"
    lines = (*report.lines, replace(report.lines[0], group={"pipeline": long}))
    page = render_page(replace(report, lines=lines), breakdown).decode()
    (tmp_path / "phone.html").write_text(
        f"<!doctype html><iframe width=390 height=900></iframe><template>{page}</template>{MEASURE}", encoding="utf-8")
    shown = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "phone.html").as_uri()], check=True, capture_output=True, timeout=120, text=True,
    ).stdout
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", shown)
    assert found is not None, shown[:500]
    wide, lines_of_a_name, names = map(int, found.groups())
    assert (wide <= 390, lines_of_a_name) == (True, 1)
    assert names > 20
    assert "long_<wbr>" in page


@pytest.mark.parametrize(("low", "high", "said"), [
    ("0.000000002342", "0.01141", "0.00 to 0.01141"), ("0.00001234", "0.01141", "0.000012 to 0.01141"),
    ("0.006927", "0.01141", "0.006927 to 0.01141"), ("0.4", "12.5", "0.400 to 12.50"), ("0", "3", "0.00 to 3.00"),
])
def test_a_very_low_end_of_an_interval_has_no_more_digits_than_the_high_one_bears(
    low: str, high: str, said: str
) -> None:
    assert between(Decimal(low), Decimal(high)) == said
