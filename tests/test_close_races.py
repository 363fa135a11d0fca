"""What becomes known while a month is closed, and of cached answers: it is in the close, or it is restated."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import orchestrator.finance.closing.close as closing
from orchestrator.errors import InputError
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.closing.reported import notes, reported
from orchestrator.finance.export.formats import written
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.render import render_table
from orchestrator.finance.verify.ledger import verify as verified
from orchestrator.store.closes import MonthChanged
from orchestrator.store.engine import Store
from tests.stores import Clock, Opener, claim, config, ended, intent, settlement
from tests.trail import TEXTS, at, command, serve, sql, url

OCTOBER, NOVEMBER = "2026-10", "2026-11"
OCT_20, OCT_31, NOV_2 = at("2026-10-20T00:00"), at("2026-10-31T23:00"), at("2026-11-02T09:00")


async def of_month(store: Store, month: str, now: float, **asked: Any) -> Report:
    query = ReportQuery(period=parse_period(month=month), **asked)
    return (await asyncio.to_thread(reported, store, query, now=now))[0]


async def findings(store: Store, now: float) -> list[str]:
    done = await asyncio.to_thread(verified, store, Period(), now=now)
    return [one.words for one in done.findings.kept if "names no price" not in one.words]


async def with_a_run(opened: Opener, clock: Clock) -> Store:
    clock.now = OCT_20
    store = await opened()
    await store.record_config(config())
    await store.claim([claim("r1")])
    await store.finish([ended("r1", ended_at=OCT_20)])
    clock.now = NOV_2
    return store


@pytest.mark.parametrize("place", ["build_report", "to_json", "body_of"])
async def test_what_is_said_while_a_month_is_read_is_in_its_close(
    opened: Opener, clock: Clock, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    store, loop = await with_a_run(opened, clock), asyncio.get_running_loop()
    read, times = getattr(closing, place), []

    def and_meanwhile(*given: Any, **named: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            asyncio.run_coroutine_threadsafe(store.record_feedback("r1", success=True), loop).result()
        return read(*given, **named)

    monkeypatch.setattr(closing, place, and_meanwhile)
    await close_month(store, OCTOBER, now=NOV_2)
    assert len(times) == 2, "it was read again"
    assert (await of_month(store, OCTOBER, NOV_2 + 60)).lines[0].successes == 1
    assert (await of_month(store, NOVEMBER, NOV_2 + 60)).restatements == ()
    assert await findings(store, NOV_2 + 60) == []


async def test_a_month_that_never_stands_still_is_not_closed(
    opened: Opener, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, loop, read = await with_a_run(opened, clock), asyncio.get_running_loop(), closing.body_of

    def and_meanwhile(**named: Any) -> Any:
        asyncio.run_coroutine_threadsafe(store.record_feedback("r1", success=True), loop).result()
        return read(**named)

    monkeypatch.setattr(closing, "body_of", and_meanwhile)
    with pytest.raises(MonthChanged, match="while it was read"):
        await close_month(store, OCTOBER, now=NOV_2)


async def test_what_is_learned_of_the_source_of_a_cached_answer_restates_the_closed_month(
    opened: Opener, clock: Clock
) -> None:
    """The source ends, and is spoken of, after the close of the month in which its answer was served."""
    clock.now = OCT_31
    store = await opened()
    await store.record_config(config())
    await store.claim([claim("source"), claim("hit")])
    await store.intend(intent("k1", "source"))
    await store.settle(settlement("k1", ended_at=OCT_31))
    await store.finish([ended("hit", ended_at=OCT_31, from_cache=True, source_run_id="source")])
    clock.now = NOV_2
    await close_month(store, OCTOBER, now=NOV_2)
    await store.finish([ended("source", ended_at=NOV_2 + 5, success=True, success_source="label")])
    (one,) = (await of_month(store, NOVEMBER, NOV_2 + 60)).restatements
    assert (one.month, one.then.successes, one.now.successes) == (OCTOBER, 0, 1)
    clock.now = NOV_2 + 70
    await store.record_feedback("source", success=False, at=OCT_31)
    (one,) = (await of_month(store, NOVEMBER, NOV_2 + 90)).restatements
    assert (one.now.successes, one.now.failures) == (0, 1)
    assert await findings(store, NOV_2 + 90) == []


async def test_the_first_close_is_of_a_month_with_calls(tmp_path: Path, capsys: Any) -> None:
    await serve(tmp_path, TEXTS[:3], when="2026-01-05T12:00")
    asked = ("--store", url(tmp_path), "--out", str(tmp_path))
    code, printed = await command(capsys, "report", "close", "2025-12", *asked, "--yes")
    assert (code, "the ledger's first call is of 2026-01" in printed) == (2, True)
    code, printed = await command(capsys, "report", "close", "2026-02", *asked)
    assert (code, "2026-02 has no runs and no calls" in printed, "--yes" in printed) == (2, True, True)
    assert (await command(capsys, "report", "close", "2026-02", *asked, "--yes"))[0] == 0


async def test_a_ledger_with_a_broken_chain_is_closed_only_where_that_is_said(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    sql(tmp_path, "UPDATE outcome SET success_source = 'label' WHERE run_id = (SELECT max(run_id) FROM outcome)")
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    with pytest.raises(InputError, match=r"can't be closed: outcome .* it is not what was sealed"):
        await close_month(store, OCTOBER, now=NOV_2)
    await close_month(store, OCTOBER, now=NOV_2, anyway=True)
    await store.aclose()


async def test_a_report_says_whether_it_is_the_closed_one(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    period = parse_period(month=OCTOBER)
    assert notes(reported(store, ReportQuery(period=period), now=NOV_2)[1]) == []
    await close_month(store, OCTOBER, now=NOV_2)
    frozen, breakdown = reported(store, ReportQuery(period=period), now=NOV_2 + 60)
    assert notes(breakdown)[0].startswith("closed on 2026-11-02 (UTC): these figures stand")
    assert "* closed on 2026-11-02" in render_table(frozen, breakdown)
    for kind in ("json", "html"):
        assert b"closed on 2026-11-02" in written(frozen, breakdown, kind)  # type: ignore[arg-type]
    _, other = reported(store, ReportQuery(period=period, by=("owner",)), now=NOV_2 + 60)
    assert notes(other)[0].startswith("not the closed figures of 2026-10: as known today")
    await store.record_feedback(outcomes[0].run_id, success=True)
    november = reported(store, ReportQuery(period=parse_period(month=NOVEMBER)), now=NOV_2 + 60)
    printed = render_table(*november, width=200)
    assert "No runs and no calls in this period." in printed
    assert "- restated from 2026-10, labels: successes" in printed
    await store.aclose()
