"""verify: whatever is done to a ledger by SQL is found and named; a ledger nobody touched is clean."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.store.engine import Store
from tests.trail import TEXTS, command, rows, serve, sql, url, verify

CHEAP = "SELECT call_id, run_id, seal_no FROM call WHERE cost_nano > 0 ORDER BY seal_no LIMIT 1 OFFSET {}"


async def found(folder: Path) -> list[Discrepancy]:
    return (await verify(url(folder))).findings.kept


def of(findings: list[Discrepancy], kind: str) -> list[Discrepancy]:
    return [one for one in findings if one.kind == kind]


async def test_a_ledger_nobody_touched_is_clean(tmp_path: Path, capsys: Any) -> None:
    await serve(tmp_path, TEXTS, baseline=0.5)
    done = await verify(url(tmp_path))
    assert done.findings.kept == []
    (calls,), (outcomes,) = rows(tmp_path, "SELECT count(*) FROM call UNION ALL SELECT count(*) FROM outcome")
    assert done.sealed == calls + outcomes
    assert done.unsealed == {"call": 0, "outcome": 0, "feedback": 0}
    assert done.calls.derived >= len(set(TEXTS))  # each is drafted at least; baselines are drawn
    code, printed = await command(capsys, "verify", "--store", url(tmp_path), "--json")
    assert (code, printed["clean"], printed["findings"]) == (0, True, [])


@pytest.mark.parametrize(
    ("column", "value"), [("cost_nano", "1"), ("input_tokens", "input_tokens + 1"), ("ended_at", "ended_at - 86400"),
                          ("account", "'theirs'"),
                          ("run_id", "(SELECT max(r.run_id) FROM run AS r WHERE r.run_id != call.run_id)")],
)
async def test_a_changed_call_is_named(tmp_path: Path, column: str, value: str) -> None:
    await serve(tmp_path, TEXTS)
    ((call_id, _, number),) = rows(tmp_path, CHEAP.format(3))
    sql(tmp_path, f"UPDATE call SET {column} = {value} WHERE call_id = '{call_id}'")
    changed = of(await found(tmp_path), "changed")
    assert [(one.table, one.row, one.number) for one in changed] == [("call", call_id, number)]


async def test_a_changed_cost_names_the_figure_it_should_be(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    ((call_id, run_id, _),) = rows(tmp_path, CHEAP.format(0))
    sql(tmp_path, f"UPDATE call SET cost_nano = cost_nano - 1 WHERE call_id = '{call_id}'")
    findings = await found(tmp_path)
    (cost,), (run,) = of(findings, "cost"), of(findings, "run")
    assert cost.row == call_id
    assert "come to" in cost.words
    assert run.row == run_id
    assert any("cost_nano" in one.words for one in of(findings, "total"))


async def test_a_removed_call_is_named_by_its_neighbours_and_by_its_run(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    ((call_id, run_id, number),) = rows(tmp_path, CHEAP.format(2))
    sql(tmp_path, f"DELETE FROM call WHERE call_id = '{call_id}'")
    findings = await found(tmp_path)
    (gone,), (run,) = of(findings, "removed"), of(findings, "run")
    assert gone.number == number
    assert f"(number {number - 1} of" in gone.words
    assert f"(number {number + 1} of" in gone.words
    assert run.row == run_id
    assert of(findings, "changed") == []


async def test_reordered_rows_are_named_with_the_numbers_they_were_sealed_as(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    (one, _, first), (other, _, second) = rows(tmp_path, CHEAP.format(1)) + rows(tmp_path, CHEAP.format(2))
    sql(tmp_path, f"UPDATE call SET seal_no = {first + second} - seal_no WHERE call_id IN ('{one}', '{other}')")
    findings = await found(tmp_path)
    assert {(f.row, f.number) for f in of(findings, "reordered")} == {(other, first), (one, second)}
    assert of(findings, "changed") == []


async def test_a_row_slipped_in_without_a_seal_is_named(tmp_path: Path) -> None:
    (outcome, *_) = await serve(tmp_path, TEXTS)
    sql(tmp_path, "INSERT INTO feedback (feedback_id, run_id, source, success, reason, at) "
                  f"VALUES ('f_mine', '{outcome.run_id}', 'feedback', 1, '', 1900000000.0)")
    (inserted,) = of(await found(tmp_path), "inserted")
    assert "f_mine" in inserted.words


async def test_a_row_slipped_in_with_anothers_number_is_named(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    columns = [name for _, name, *_ in rows(tmp_path, "PRAGMA table_info(call)")]
    copied = ", ".join("'c_mine'" if name == "call_id" else name for name in columns)
    ((call_id, _, number),) = rows(tmp_path, CHEAP.format(1))
    sql(tmp_path, f"INSERT INTO call ({', '.join(columns)}) SELECT {copied} FROM call WHERE call_id = '{call_id}'")
    (inserted,) = of(await found(tmp_path), "inserted")
    assert (inserted.row, inserted.number) == ("c_mine", number)


async def test_a_chain_cut_off_at_its_end_is_found_by_its_head(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    ((last,),) = rows(tmp_path, "SELECT max(seal_no) FROM outcome")
    sql(tmp_path, f"DELETE FROM outcome WHERE seal_no = {last}")
    (gone,) = of(await found(tmp_path), "removed")
    assert "the last 1 of writer" in gone.words


async def test_a_writer_whose_head_is_gone_is_named(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    ((writer,),) = rows(tmp_path, "SELECT owner_id FROM owner WHERE sealed > 0")
    sql(tmp_path, "DELETE FROM owner")
    (head,) = of(await found(tmp_path), "head")
    assert head.writer == writer


async def test_a_changed_seal_is_named_once(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    ((call_id, _, _),) = rows(tmp_path, CHEAP.format(4))
    sql(tmp_path, f"UPDATE call SET seal = zeroblob(16) WHERE call_id = '{call_id}'")
    findings = await found(tmp_path)
    assert [(one.kind, one.row) for one in findings] == [("changed", call_id)]


@pytest.mark.parametrize(("table", "change"), [
    ("outcome", "success = 1, success_source = 'label'"), ("outcome", "saved_nano = 5, saved_currency = 'USD'"),
    ("step", "propensity = 0.5"), ("step", "look = 0.5"), ("step", "rule = 'not_sure'"),
    ("run", "source_run_id = NULL"),
])
async def test_what_success_and_estimates_depend_on_is_in_the_outcomes_seal(
    tmp_path: Path, table: str, change: str
) -> None:
    await serve(tmp_path, TEXTS)
    await serve(tmp_path, TEXTS[:3], when="2026-10-05T13:00")
    ((run_id,),) = rows(tmp_path, "SELECT max(run_id) FROM run WHERE source_run_id IS NOT NULL")
    sql(tmp_path, f"UPDATE {table} SET {change} WHERE run_id = '{run_id}'")
    changed = of(await found(tmp_path), "changed")
    assert [(one.table, one.row) for one in changed] == [("outcome", run_id)]


async def test_a_run_moved_to_another_pipeline_or_tag_is_named(tmp_path: Path) -> None:
    (outcome, *_) = await serve(tmp_path, TEXTS)
    sql(tmp_path, f"UPDATE run SET pipeline = 'theirs' WHERE run_id = '{outcome.run_id}'")
    (moved,) = of(await found(tmp_path), "changed")
    assert (moved.table, moved.row) == ("run", outcome.run_id)
    assert "'theirs'" in moved.words


async def test_a_changed_or_removed_price_is_named(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    sql(tmp_path, "UPDATE price SET body_json = replace(body_json, '0.4', '0.3') WHERE model = 'drafter'")
    assert [one.table for one in of(await found(tmp_path), "price")] == ["price"]
    sql(tmp_path, "DELETE FROM price WHERE model = 'drafter'")
    assert "is gone" in of(await found(tmp_path), "cost")[0].words


async def test_a_changed_sum_that_reports_are_read_from_is_named(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS)
    sql(tmp_path, "UPDATE call_line SET cost_nano = cost_nano + 1 WHERE calls > 1")
    totals = of(await found(tmp_path), "total")
    assert totals
    assert "the line of 2026-10-05 12:00" in totals[0].words


async def test_forgetting_and_sweeping_break_no_seal(tmp_path: Path) -> None:
    await serve(tmp_path, TEXTS, content={"keep": "1d"})
    store = await Store.open(url(tmp_path))
    forgotten = await store.forget(tenant="")
    await store.sweep()
    await store.aclose()
    assert forgotten.runs == len(TEXTS)
    assert await found(tmp_path) == []


async def test_findings_make_the_command_fail(tmp_path: Path, capsys: Any) -> None:
    await serve(tmp_path, TEXTS)
    sql(tmp_path, "UPDATE outcome SET status = 'approved'")
    code, printed = await command(capsys, "verify", "--store", url(tmp_path), "--month", "2026-10")
    assert code == 1
    assert "it is not what was sealed" in printed
    assert f"findings: {len(TEXTS)}" in printed


def test_a_ledger_of_several_processes_one_of_them_killed_is_clean(tmp_path: Path) -> None:
    """In processes of their own, so that they may be killed."""
    script = "import sys; from pathlib import Path; from tests.kill_harness import kill_one_of_four as kill; " \
             "print(kill(Path(sys.argv[1]), tasks=60))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=600, capture_output=True)
    done = subprocess.run([sys.executable, "-m", "orchestrator", "verify", "--store", url(tmp_path)],
                          check=False, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(tmp_path, "SELECT 1 FROM owner WHERE sealed > 0")) >= 4


async def test_a_ledger_from_before_the_chains_is_counted_and_what_is_slipped_into_it_found(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as old:
        old.executescript((Path(__file__).parent / "golden" / "store_m002.sql").read_text())
    old.close()
    done = await verify(url(tmp_path))
    assert done.findings.kept == []
    assert done.unsealed["outcome"] == 5
    await serve(tmp_path, TEXTS)
    assert (await verify(url(tmp_path))).findings.kept == []
    ((run_id,),) = rows(tmp_path, "SELECT run_id FROM outcome WHERE seal_no IS NULL LIMIT 1")
    sql(tmp_path, "INSERT INTO feedback (feedback_id, run_id, source, success, reason, at) "
                  f"VALUES ('f_mine', '{run_id}', 'feedback', 1, '', 1900000000.0)")
    sql(tmp_path, f"DELETE FROM call WHERE run_id = '{run_id}'")
    words = [one.words for one in await found(tmp_path) if one.kind in ("inserted", "removed")]
    assert len(words) == 2
    assert "rows of `call` from before the chains are gone" in words[0]
    assert words[1].endswith("came after the chains began: f_mine")
