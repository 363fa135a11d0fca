"""A closed month reports the same for ever; what comes later is a restatement of the open one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Outcome
from orchestrator.errors import InputError
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.closing.document import as_file, read_file
from orchestrator.finance.closing.reported import reported
from orchestrator.finance.export.formats import ENDINGS, written
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.engine import Store
from tests.stores import Clock, claim, config, intent, settlement
from tests.trail import TEXTS, at, command, rows, serve, sql, url, verify

OCTOBER, NOVEMBER = "2026-10", "2026-11"
NOV_2, DEC_2 = at("2026-11-02T09:00"), at("2026-12-02T09:00")


async def closed(folder: Path, month: str, now: float, **options: Any) -> ClosedMonth:
    store = await Store.open(url(folder), clock=Clock(now))
    try:
        return await close_month(store, month, now=now, **options)
    finally:
        await store.aclose()


async def say(folder: Path, run_ids: Sequence[str], *, success: bool, now: float, when: float | None = None) -> None:
    store = await Store.open(url(folder), clock=Clock(now))
    for run_id in run_ids:
        await store.record_feedback(run_id, success=success, at=when)
    await store.aclose()


async def report_of(folder: Path, month: str, now: float) -> Report:
    store = await Store.open(url(folder), clock=Clock(now))
    try:
        return reported(store, ReportQuery(period=parse_period(month=month)), now=now)[0]
    finally:
        await store.aclose()


def plain(outcomes: Sequence[Outcome]) -> list[str]:
    """Runs that were served a draft, and whose answers nobody else was served."""
    return [o.run_id for o in outcomes if o.status == "accepted" and o.id is not None and o.id[-2:] in
            (" 0", " 3", " 4", " 5", " 6")]


async def files_of(folder: Path, month: str, now: float) -> dict[str, bytes]:
    """The report of a month in every format, at a time."""
    store = await Store.open(url(folder), clock=Clock(now))
    try:
        report, breakdown = reported(store, ReportQuery(period=parse_period(month=month)), now=now)
    finally:
        await store.aclose()
    return {kind: written(report, breakdown, kind) for kind in ENDINGS}


async def test_a_closed_month_reads_the_same_whatever_is_learned_later(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    await say(tmp_path, [outcomes[0].run_id], success=True, now=NOV_2 - 10)
    await closed(tmp_path, OCTOBER, NOV_2)
    before = await files_of(tmp_path, OCTOBER, NOV_2)
    await say(tmp_path, [o.run_id for o in outcomes], success=False, now=NOV_2 + 60)
    await serve(tmp_path, ["text 11"], when="2026-11-03T00:00")
    after = await files_of(tmp_path, OCTOBER, DEC_2)
    assert [kind for kind, file in after.items() if file != before[kind]] == []


async def test_the_frozen_bytes_are_what_json_shows(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    month = await closed(tmp_path, OCTOBER, NOV_2)
    assert (await files_of(tmp_path, OCTOBER, DEC_2))["json"] == month.figures


async def test_late_feedback_is_a_restatement_of_the_open_month(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    ids = plain(outcomes)
    await say(tmp_path, ids[:4], success=True, now=NOV_2 - 10)
    await closed(tmp_path, OCTOBER, NOV_2)
    await say(tmp_path, ids[:2], success=False, now=NOV_2 + 60)
    (one,) = (await report_of(tmp_path, NOVEMBER, NOV_2 + 120)).restatements
    assert (one.month, one.then.successes, one.now.successes, one.late) == (OCTOBER, 4, 2, 2)
    assert one.words.startswith("restated from 2026-10, labels: successes 4 -> 2, failures ")
    assert one.words.endswith("cost +0 USD; late feedback: 2")
    assert (await report_of(tmp_path, "2026-12", DEC_2)).restatements == ()


async def test_feedback_dated_into_a_closed_month_counts_from_when_it_is_recorded(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    await closed(tmp_path, OCTOBER, NOV_2)
    await say(tmp_path, [outcomes[0].run_id], success=True, now=NOV_2 + 60, when=at("2026-10-20T00:00"))
    assert rows(tmp_path, "SELECT at FROM feedback") == [(NOV_2 + 60,)]
    assert [one.late for one in (await report_of(tmp_path, NOVEMBER, NOV_2 + 120)).restatements] == [1]
    assert (await verify(url(tmp_path))).findings.kept == []


async def test_the_next_close_states_what_changed_and_only_later_changes_follow(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    ids = plain(outcomes)
    first = await closed(tmp_path, OCTOBER, NOV_2)
    await say(tmp_path, ids[:3], success=True, now=NOV_2 + 60)
    second = await closed(tmp_path, NOVEMBER, DEC_2, anyway=True)
    body = json.loads(second.body)
    assert body["previous_sha256"] == first.digest
    assert body["stated"][OCTOBER][0]["successes"] == 3
    assert body["report"]["restatements"][0]["now"]["successes"] == 3
    assert (await report_of(tmp_path, "2026-12", DEC_2)).restatements == ()
    await say(tmp_path, ids[3:4], success=True, now=DEC_2 + 60)
    (one,) = (await report_of(tmp_path, "2026-12", DEC_2 + 120)).restatements
    assert (one.then.successes, one.now.successes, one.late) == (3, 4, 1)
    assert (await verify(url(tmp_path))).findings.kept == []


@pytest.mark.parametrize(("month", "now", "words"), [
    (OCTOBER, at("2026-10-31T23:59"), "is not over yet"), ("2027-01", DEC_2, "is not over yet"),
    ("October", DEC_2, "is no month"), ("2026-1", DEC_2, "is written 2026-01"),
])
async def test_a_month_that_is_not_over_is_refused(tmp_path: Path, month: str, now: float, words: str) -> None:
    await serve(tmp_path, TEXTS[:2])
    with pytest.raises(InputError, match=words):
        await closed(tmp_path, month, now)
    assert rows(tmp_path, 'SELECT count(*) FROM "close"') == [(0,)]


async def test_a_month_is_closed_once_in_order_and_without_a_gap(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS[:2])
    first = await closed(tmp_path, OCTOBER, NOV_2)
    for month, words in [(OCTOBER, "is closed already"), ("2026-09", "is closed already, or a later month"),
                         ("2026-12", "does not follow 2026-10")]:
        with pytest.raises(InputError, match=words):
            await closed(tmp_path, month, at("2027-02-01T00:00"))
    with pytest.raises(InputError, match=r"does not follow|is closed already"):
        await closed(tmp_path, NOVEMBER, at("2027-02-01T00:00"), tz="Europe/Berlin")
    assert rows(tmp_path, 'SELECT digest FROM "close"') == [(first.digest,)]


async def test_a_month_with_a_call_in_flight_is_not_closed(tmp_path: Path) -> None:
    clock = Clock(at("2026-10-31T23:59"))
    store = await Store.open(url(tmp_path), clock=clock, lease_s=1e9)
    await store.record_config(config())
    await store.claim([claim("r1")])
    await store.intend(intent("k1"))
    with pytest.raises(InputError, match="1 of its calls have no end yet"):
        await closed(tmp_path, OCTOBER, NOV_2)
    await store.settle(settlement("k1", ended_at=NOV_2, cost=None, provenance="unpriced"))
    await store.aclose()
    await closed(tmp_path, OCTOBER, NOV_2, anyway=True)


async def test_a_lost_call_that_comes_back_after_the_close_ends_in_the_open_month(tmp_path: Path) -> None:
    clock = Clock(at("2026-10-31T23:00"))
    late = await Store.open(url(tmp_path), clock=clock, lease_s=1.0)
    await late.record_config(config())
    await late.claim([claim("r1")])
    await late.intend(intent("k1"))
    await (await Store.open(url(tmp_path), clock=Clock(clock.now + 60))).aclose()
    month = await closed(tmp_path, OCTOBER, NOV_2)
    assert json.loads(month.body)["figures"][0]["unsettled"] == 1
    clock.now = NOV_2 + 60
    await late.settle(settlement("k1", ended_at=clock.now, provenance="provider"))
    await late.aclose()
    (one,) = (await report_of(tmp_path, NOVEMBER, NOV_2 + 120)).restatements
    assert ((one.then.unsettled, one.then.calls), (one.now.unsettled, one.now.calls)) == ((1, 1), (0, 0))
    assert (await report_of(tmp_path, NOVEMBER, NOV_2 + 120)).lines[0].calls == 1
    assert (await verify(url(tmp_path))).findings.kept == []


async def test_a_ledger_whose_sums_are_not_those_of_its_rows_is_not_closed(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    sql(tmp_path, "UPDATE call SET cost_nano = cost_nano + 1 WHERE cost_nano > 0")
    sql(tmp_path, "UPDATE call_line SET calls = calls + 1")
    with pytest.raises(InputError, match="can't be closed: labels: "):
        await closed(tmp_path, OCTOBER, NOV_2)


async def test_a_close_file_is_what_the_ledger_says(tmp_path: Path, capsys: Any) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    await say(tmp_path, [outcomes[0].run_id], success=True, now=NOV_2 - 10)
    file = tmp_path / "close.json"
    file.write_text(as_file(await closed(tmp_path, OCTOBER, NOV_2)))
    await say(tmp_path, [o.run_id for o in outcomes], success=False, now=NOV_2 + 60)
    assert read_file(file).sound
    code, printed = await command(capsys, "verify", "--store", url(tmp_path), "--close", str(file), "--json")
    assert (code, printed["findings"], printed["closes"]) == (0, [], [OCTOBER])


async def test_a_close_file_that_was_edited_is_found(tmp_path: Path, capsys: Any) -> None:
    await serve(tmp_path, TEXTS)
    file = tmp_path / "close.json"
    file.write_text(as_file(await closed(tmp_path, OCTOBER, NOV_2)).replace('"runs": 12', '"runs": 13'))
    code, printed = await command(capsys, "verify", "--store", url(tmp_path), "--close", str(file), "--json")
    assert code == 1
    assert any("the file's hash" in one["words"] for one in printed["findings"])


async def test_a_ledger_written_anew_is_found_by_the_heads_in_the_close_file(tmp_path: Path) -> None:
    """Rows, seals and heads all fit: only what lies outside the ledger tells."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    await serve(mine, TEXTS)
    file = tmp_path / "close.json"
    file.write_text(as_file(await closed(mine, OCTOBER, NOV_2)))
    await serve(theirs, TEXTS[:5])
    await closed(theirs, OCTOBER, NOV_2)
    assert (await verify(url(theirs))).findings.kept == []
    found = (await verify(url(theirs), file=read_file(file))).findings.kept
    assert {one.kind for one in found} == {"removed", "close"}


async def test_figures_that_changed_under_a_closed_month_are_found(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    await closed(tmp_path, OCTOBER, NOV_2)
    ((run_id,),) = rows(tmp_path, "SELECT max(run_id) FROM outcome WHERE success_source = 'unknown'")
    sql(tmp_path, f"UPDATE outcome SET success = 1, success_source = 'label' WHERE run_id = '{run_id}'")
    found = [one for one in (await verify(url(tmp_path))).findings.kept if one.kind == "close"]
    assert len(found) == 1
    assert found[0].words.startswith("close of 2026-10: it says labels: successes 0, the rows say ")


async def test_closing_by_command_writes_a_file_once_and_lists_it(tmp_path: Path, capsys: Any) -> None:
    await serve(tmp_path, TEXTS, when="2026-01-05T12:00")
    asked = ("report", "close", "2026-01", "--store", url(tmp_path), "--out", str(tmp_path / "closes"))
    code, printed = await command(capsys, *asked)
    file = tmp_path / "closes" / "close-2026-01.json"
    assert (code, read_file(file).sound) == (0, True)
    assert read_file(file).digest in printed
    code, printed = await command(capsys, *asked)
    assert (code, "exists already" in printed) == (2, True)
    code, printed = await command(capsys, *asked[:-1], str(tmp_path / "elsewhere"))
    assert (code, "is closed already" in printed) == (2, True)
    assert not (tmp_path / "elsewhere" / "close-2026-01.json").exists()
    code, printed = await command(capsys, *asked[:-1], str(tmp_path / "elsewhere"), "--again")
    assert (tmp_path / "elsewhere" / "close-2026-01.json").read_bytes() == file.read_bytes()
    code, printed = await command(capsys, *asked[:2], "2025-01", *asked[3:], "--again")
    assert (code, "is not closed" in printed) == (2, True)
    code, printed = await command(capsys, "report", "close", "--list", "--store", url(tmp_path), "--json")
    assert [(one["period"], one["sha256"]) for one in printed] == [("2026-01", read_file(file).digest)]
    code, printed = await command(capsys, "report", "--month", "2026-01", "--store", url(tmp_path), "--json")
    assert (code, printed["lines"][0]["runs"]) == (0, len(TEXTS))
