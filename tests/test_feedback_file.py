"""Feedback by the file: taken whole or not at all, once, with what is wrong named by line."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.store.engine import Store
from tests.stores import claim, config, ended

WINDOW = '{"pipeline": {"pipeline": "p", "success": {"feedback_window": "7d"}}}'
NOW = datetime(2024, 11, 20, tzinfo=UTC).timestamp()


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., int]:
    """A store with the runs r0 to r9 of the tasks t0 to t9; gives what `orchestrator outcome` exits with."""
    url = f"sqlite:///{tmp_path}/s.db"

    async def fill() -> None:
        opened = await Store.open(url, clock=lambda: NOW)
        await opened.record_config(replace(config(), body_json=WINDOW))
        keys = [opened.digest(b"id:t%d" % i) for i in range(10)]
        tenants = [""] * 9 + ["acme"]
        await opened.claim([claim(f"r{i}", task_key=key, tenant=tenants[i]) for i, key in enumerate(keys)])
        await opened.finish([
            ended(f"r{i}", ended_at=NOW - 86400.0 * (10 if i == 8 else 1), tenant=tenants[i]) for i in range(10)
        ])
        await opened.aclose()

    asyncio.run(fill())
    return lambda *arguments: run_command(["outcome", *map(str, arguments), "--store", url])


def said(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "s.db") as connection:
        return connection.execute("SELECT run_id, success, reason FROM feedback ORDER BY at, rowid").fetchall()


def write(folder: Path, *lines: str, name: str = "f.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_of_runs_is_recorded(store: Any, tmp_path: Path) -> None:
    file = write(tmp_path, "run_id,success,reason,ticket", "r0,false,wrong colour,1", "r1,yes,,2")
    assert store("--file", file) == 0
    assert said(tmp_path) == [("r0", 0, "wrong colour"), ("r1", 1, "")]


def test_tasks_are_found_by_id_pipeline_and_tenant(store: Any, tmp_path: Path) -> None:
    rows = [{"task_id": "t2", "pipeline": "p", "success": False}, {"task_id": "t3", "success": "true"},
            {"task_id": "t9", "tenant": "acme", "success": True, "reason": "late"}]
    file = write(tmp_path, *map(json.dumps, rows), name="f.jsonl")
    assert store("--file", file, "--pipeline", "p") == 0
    assert [row[0] for row in said(tmp_path)] == ["r2", "r3", "r9"]
    assert store("--task", "t4", "--pipeline", "p", "--failure", "--reason", "no") == 0
    assert said(tmp_path)[-1] == ("r4", 0, "no")


def test_the_same_file_twice_changes_nothing(store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "run_id,success,at", "r0,false,2024-11-19", "r1,true,", "r1,false,")
    assert store("--file", file) == 0
    first = said(tmp_path)
    assert [row[:2] for row in first] == [("r0", 0), ("r1", 1), ("r1", 0)]  # the last line of a run is its last word
    capsys.readouterr()
    assert store("--file", file, "--json") == 0
    assert said(tmp_path) == first
    assert json.loads(capsys.readouterr().out) == {"recorded": 0, "known": 3, "late": 0, "overruled": []}


def test_a_word_that_was_overruled_is_said_again_only_with_a_time(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in ("false", "true", "false"):
        assert store("--file", write(tmp_path, "run_id,success", f"r0,{word}")) == 0
    assert [row[1] for row in said(tmp_path)] == [0, 1]
    assert "run r0: this was said before and overruled since" in capsys.readouterr().err
    assert store("--file", write(tmp_path, "run_id,success,at", f"r0,false,{datetime.now(UTC).isoformat()}")) == 0
    assert [row[1] for row in said(tmp_path)] == [0, 1, 0]


def test_feedback_after_the_window_counts_and_is_said_to_be_late(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "run_id,success,at", "r8,false,2024-11-19", "r7,false,2024-11-19T12:00:00+00:00")
    assert store("--file", file) == 0
    assert "recorded: 2; 1 after the feedback window of their pipeline" in capsys.readouterr().err
    assert len(said(tmp_path)) == 2


@pytest.mark.parametrize(("lines", "words"), [
    (["run_id,success", "r0,true", "r404,true", "r405,false"], [
        "f.csv:3: the store has no run 'r404' with an outcome", "f.csv:4: the store has no run 'r405'"]),
    (["task_id,pipeline,success", "t0,q,true"], ["f.csv:2: the store has no task 't0' of pipeline 'q'"]),
    (["task_id,success", "t0,true"], ["f.csv:2: task_id 't0' needs its pipeline"]),
    (["run_id,success", "r0,perhaps"], ["f.csv:2: success is 'perhaps': write true or false"]),
    (["run_id,success", ",true"], ["f.csv:2: run_id is empty"]),
    (["run_id,success", "r0,true,more"], ["f.csv:2: more cells than columns"]),
    (["run_id,success,at", "r0,true,yesterday"], ["f.csv:2: at is 'yesterday'"]),
    (["run_id,success,at", "r0,true,2999-01-01"], ["f.csv:2: at is '2999-01-01', which is in the future"]),
    (["run_id,done", "r0,true"], ["f.csv:1: no column success"]),
    (["id,success", "r0,true"], ["f.csv:1: no column run_id or task_id"]),
    (["run_id,success", *[f"x{i},true" for i in range(12)]], ["f.csv:11:", "and 2 more"]),
    (["run_id,success", *[f"r0,x{i}" for i in range(12)]], ["f.csv:11:", "and 2 more"]),
])
def test_a_bad_line_leaves_the_whole_file_unrecorded(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[str], words: list[str]
) -> None:
    assert store("--file", write(tmp_path, *lines)) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert said(tmp_path) == []


@pytest.mark.parametrize("line", ["[1]", "{", '{"run_id": 1.5, "success": true}', '{"success": true}'])
def test_a_bad_json_line_is_named(store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    file = write(tmp_path, '{"run_id": "r0", "success": true}', line, name="f.jsonl")
    assert store("--file", file) == 2
    assert "f.jsonl:2: " in capsys.readouterr().err
    assert said(tmp_path) == []


@pytest.mark.parametrize("arguments", [
    ["r0"], ["--success"], ["--task", "t0", "--success"], ["r0", "--task", "t0", "--pipeline", "p", "--success"],
])
def test_half_a_word_is_a_usage_error(store: Any, arguments: list[str]) -> None:
    assert store(*arguments) == 2


def test_a_file_is_one_commit(store: Any, tmp_path: Path) -> None:
    """A process that dies while it writes has recorded nothing: the last row breaks a rule of the table."""
    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON feedback WHEN NEW.run_id = 'r5' "
                           "BEGIN SELECT RAISE(ABORT, 'no'); END")
    assert store("--file", write(tmp_path, "run_id,success", *[f"r{i},false" for i in range(6)])) == 1
    assert said(tmp_path) == []


def test_columns_go_by_any_case_and_cells_by_semicolons_or_tabs(store: Any, tmp_path: Path) -> None:
    assert store("--file", write(tmp_path, "Run_ID;SUCCESS;Reason", 'r0;no;"a;b"')) == 0
    assert store("--file", write(tmp_path, "run_id\tsuccess\treason", "r1\tyes\ta, b; c")) == 0
    assert said(tmp_path) == [("r0", 0, "a;b"), ("r1", 1, "a, b; c")]


def test_a_header_that_lacks_a_column_is_shown(store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store("--file", write(tmp_path, "Run ID;Success", "r0;yes")) == 2
    assert "no column run_id or task_id; the file has Run ID, Success" in capsys.readouterr().err
    assert store("--file", write(tmp_path, "run_id,success,Success", "r0,yes,no")) == 2
    assert "there are two columns 'success'" in capsys.readouterr().err


def test_all_bad_lines_are_named_at_once(store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store("--file", write(tmp_path, "run_id,success", "r0,yes,more", "r1,perhaps", ",yes", "r2,yes")) == 2
    told = capsys.readouterr().err
    assert [f"f.csv:{line}:" in told for line in (2, 3, 4, 5)] == [True, True, True, False]
    assert store("--file", write(tmp_path, "{", "[]", '{"run_id": "r0"}', name="f.jsonl")) == 2
    told = capsys.readouterr().err
    assert all(f"f.jsonl:{line}:" in told for line in (1, 2, 3))
    assert said(tmp_path) == []


def test_a_task_of_another_tenant_is_hinted_at(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert store("--task", "t9", "--pipeline", "p", "--success") == 2
    assert "it has the task under another tenant: give --tenant acme" in capsys.readouterr().err
    assert store("--task", "t9", "--pipeline", "p", "--tenant", "acme", "--success") == 0
    assert store("--task", "t0", "--pipeline", "p", "--tenant", "acme", "--success") == 2
    assert "give no --tenant" in capsys.readouterr().err
    assert store("--task", "t77", "--pipeline", "p", "--success") == 2
    assert "another tenant" not in capsys.readouterr().err


def test_success_and_failure_at_once_are_refused(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store("r0", "--success", "--failure") == 2
    assert "give --success or --failure, not both" in capsys.readouterr().err
    assert said(tmp_path) == []


def test_one_word_twice_is_said_before_and_anew_where_it_was_overruled(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store("r0", "--failure", "--reason", "wrong") == 0
    assert store("r0", "--failure", "--reason", "wrong") == 0
    assert "recorded: 0; 1 said before, nothing changed" in capsys.readouterr().err
    assert said(tmp_path) == [("r0", 0, "wrong")]
    for word in ("--success", "--failure", "--failure"):
        assert store("r0", word, *(["--reason", "wrong"] if word == "--failure" else [])) == 0
    assert [success for _, success, _ in said(tmp_path)] == [0, 1, 0]
