"""`forget` reaches what calibrations made of a task, and says where it found nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from orchestrator.cli import run_command
from orchestrator.pipeline import Pipeline
from orchestrator.records import Task
from orchestrator.store.copies import copied_id
from tests.calibrations import CERTIFIED, calibrated, drafter, labels, validator
from tests.pipelines import write_pipeline

STEP = {**CERTIFIED, "validate": {"model": "validator", "mode": "repair"}}


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store in which tasks were calibrated on, drafts priced, and one of the tasks run as well."""

    async def fill() -> None:
        path = write_pipeline(tmp_path / "p", step=STEP)
        await calibrated(tmp_path, labels(60, 30), validate=True)
        clients = {"drafter": drafter(), "validator": validator()}
        async with Pipeline.load(path, store=f"sqlite:///{tmp_path / 's.db'}", clients=clients) as pipeline:
            await pipeline.arun(Task(id="unsure 7", input={"text": "unsure 7"}, meta={"tenant": "acme"}))

    asyncio.run(fill())
    return f"sqlite:///{tmp_path / 's.db'}"


def kept(tmp_path: Path, words: str) -> int:
    with sqlite3.connect(tmp_path / "s.db") as connection:
        return sum(words in str(body) for (body,) in connection.execute("SELECT CAST(body AS TEXT) FROM content"))


def test_the_copies_that_calibrations_made_go_with_the_task(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept(tmp_path, '"unsure 7"') >= 3
    others = kept(tmp_path, '"unsure 8"')
    assert run_command(["forget", "--task", "unsure 7", "--yes", "--store", url]) == 0
    assert "erased of task 'unsure 7':" in capsys.readouterr().err
    assert kept(tmp_path, '"unsure 7"') == 0
    assert kept(tmp_path, '"unsure 8"') == others > 0


def test_a_task_that_was_only_calibrated_on_is_found(url: str, tmp_path: Path) -> None:
    assert run_command(["forget", "--task", "sure 11", "--yes", "--store", url]) == 0
    assert kept(tmp_path, '"sure 11"') == 0


def test_an_id_that_no_run_is_recorded_of_is_an_error_and_the_others_are_erased(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["forget", "--task", "nosuch", "--task", "sure 11", "--yes", "--store", url]) == 2
    said = capsys.readouterr().err
    assert "erased of" in said
    assert "the store holds no run of task 'nosuch'" in said
    assert kept(tmp_path, '"sure 11"') == 0
    assert run_command(["forget", "--task", "nosuch", "--yes", "--store", url]) == 2
    assert "erased" not in capsys.readouterr().err


def test_a_tenant_that_is_mistyped_is_an_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["forget", "--tenant", "acne", "--yes", "--store", url]) == 2
    assert "did you mean 'acme'?" in capsys.readouterr().err


@pytest.mark.parametrize(("task_id", "own"), [
    ("calibration:0123:t1:89ab", "t1"), ("validated:0123:a:b:c:89ab", "a:b:c"),
    ("priced:01:logs.jsonl:12:89", "logs.jsonl:12"),
    ("t1", None), ("calibration:0123", None), ("calibration:0123:89ab", None), ("order:0123:t1:89ab", None),
])
def test_a_copy_is_known_by_its_id(task_id: str, own: str | None) -> None:
    assert copied_id(task_id) == own
