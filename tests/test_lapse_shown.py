"""A lapse is seen where people look: report, check, explain, and the addresses that a pipeline can reach."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator import Pipeline, Task
from orchestrator.check import CheckReport, check_pipeline
from orchestrator.cli import cli
from orchestrator.config.certificate import certificate_digest, read_certificate
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.render import render, report_json
from orchestrator.finance.report import build_report
from orchestrator.store.engine import Store
from tests.lapsing import OTHER_DRAFTS, A, B, both, recertify, write_certified

REASON = "spot checks show regret above 0.1: 4 wrong in 9 since 2026-01-02, about 0.4"
JANUARY = 1_768_000_000.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


async def revoked(path: Path, url: str, at: float = JANUARY) -> None:
    """One run of the pipeline, and its certificate revoked then."""
    async with Pipeline.load(path, store=url, clients=both(lambda _: A), clock=lambda: at) as pipeline:
        await pipeline.arun(Task(id="t", input={"text": "x"}))
    digest = certificate_digest(read_certificate(path.parent / "certificate.json"))
    store = await Store.open(url, clock=lambda: at)
    await store.record_lapse("labels", "label", digest, REASON)
    await store.aclose()


async def reported(url: str, **asked: Any) -> Any:
    store = await Store.open(url)
    made = build_report(store, ReportQuery(**asked))
    await store.aclose()
    return made


def warned(report: CheckReport) -> str:
    return "\n".join(f.message for f in report.findings if f.level == "warning")


def certified(report: CheckReport) -> list[str]:
    return [f.message for f in report.findings if "certified at" in f.message]


async def test_the_report_says_it_before_any_figure(tmp_path: Path, url: str) -> None:
    await revoked(path := write_certified(tmp_path / "p"), url)
    made = await reported(url)
    head = render(made, "table", width=300).splitlines()[1]
    assert head == f"! labels: the certificate of step label was revoked on 2026-01-09: {REASON}."
    (lapse,) = report_json(made)["lapses"]
    assert (lapse["in_force"], lapse["at"]) == (True, "2026-01-09T23:06:40+00:00")
    assert (await reported(url, period=parse_period(month="2025-12"))).lapses == ()
    assert (await reported(url, pipeline="another")).lapses == ()
    assert len((await reported(url, period=parse_period(month="2026-03"))).lapses) == 1, "it is in force still"
    recertify(path, **OTHER_DRAFTS)
    async with Pipeline.load(path, store=url, clients=both(lambda _: A)) as pipeline:
        await pipeline.arun(Task(id="u", input={"text": "y"}))
    assert (await reported(url, period=parse_period(month="2026-03"))).lapses == ()
    (lapse,) = (await reported(url, period=parse_period(month="2026-01"))).lapses
    assert "(another has taken its place)" in lapse.words


async def test_check_looks_into_the_store(tmp_path: Path, url: str) -> None:
    await revoked(path := write_certified(tmp_path / "p", certificate_lapsed="hand_off"), url)
    said = warned(check_pipeline(path, store=url))
    assert "every draft that reaches not_sure would be handed off: its certificate was revoked on 2026-01-09" in said
    assert REASON in said
    assert certified(check_pipeline(path, store=url)) == []
    assert "revoked" not in warned(check_pipeline(path))
    recertify(path, **OTHER_DRAFTS)
    assert "revoked" not in warned(check_pipeline(path, store=url))
    assert certified(check_pipeline(path, store=url)) == ["certified at -0.5: regret <= 0.1"]


async def test_check_makes_no_store_and_writes_none(tmp_path: Path, url: str) -> None:
    path = write_certified(tmp_path / "p")
    assert "revoked" not in warned(check_pipeline(path, store=url))
    assert not (tmp_path / "s.db").exists()
    await revoked(path, url)
    before = (tmp_path / "s.db").read_bytes()
    check_pipeline(path, store=url)
    assert (tmp_path / "s.db").read_bytes() == before


async def test_a_store_that_can_not_be_read_is_no_certificate_that_holds(tmp_path: Path, url: str) -> None:
    (tmp_path / "s.db").write_text("this is no database, and longer than a header of one would have to be" * 20)
    assert "it is not known whether a certificate was revoked" in warned(check_pipeline(write_certified(tmp_path / "p"),
                                                                                       store=url))


def test_the_command_shows_both(tmp_path: Path, url: str) -> None:
    asyncio.run(revoked(path := write_certified(tmp_path / "p"), url))
    checked = CliRunner().invoke(cli, ["check", str(path), "--store", url, "--json"])
    assert REASON in checked.stdout
    report = json.loads(CliRunner().invoke(cli, ["report", "--store", url, "--json"]).stdout)
    assert report["lapses"][0]["reason"] == REASON


def test_simulate_says_that_the_present_policy_lets_nothing_through_any_more(tmp_path: Path, url: str) -> None:
    asyncio.run(revoked(path := write_certified(tmp_path / "p"), url))
    said = CliRunner().invoke(cli, ["simulate", str(path), "--store", url])
    words = "present: as if its certificate were in force, and it was revoked on 2026-01-09: " + REASON
    assert words in " ".join(said.stderr.split())
    assert "every draft that comes to its threshold escalates" in " ".join(said.stderr.split())
    recertify(path, **OTHER_DRAFTS)
    again = CliRunner().invoke(cli, ["simulate", str(path), "--store", url])
    assert "present" in again.stdout
    assert "revoked" not in again.stderr


@pytest.mark.parametrize(("hook", "shown", "verdict"), [
    ({"webhook": "http://127.0.0.1:7/secret"}, "http://127.0.0.1:7", "loopback"),
    ({"webhook": "http://hooks.example/secret"}, "http://hooks.example", "a name, looked up as it connects"),
    ({"command": ["./notify", "secret"]}, "./notify", "a program: what it contacts is its own affair"),
])
def test_residency_lists_the_hook(tmp_path: Path, hook: dict[str, Any], shown: str, verdict: str) -> None:
    report = check_pipeline(write_certified(tmp_path / "p", on_lapse=hook), residency=True)
    (found,) = (one for one in report.addresses if one.model == "on_lapse")
    assert (found.address, found.verdict) == (shown, verdict)
    assert "secret" not in str(report.addresses)


async def test_a_draft_that_was_let_through_before_keeps_its_story(tmp_path: Path, url: str) -> None:
    """A lapse changes what is decided from then on, not what is on record."""
    await revoked(path := write_certified(tmp_path / "p"), url)
    async with Pipeline.load(path, store=url, clients=both(lambda _: B)) as pipeline:
        again = await pipeline.arun(Task(id="t", input={"text": "x"}))
        other = await pipeline.arun(Task(id="later", input={"text": "z"}))
    assert (again.resumed, again.status, again.decision and again.decision.certified) == (True, "accepted", True)
    assert (other.status, other.decision and other.decision.certified) == ("redone", False)
