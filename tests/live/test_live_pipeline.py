"""The order_lines pipeline with its drafter on a real vLLM: the SDK, a file run, an outage, `check --live`."""

from __future__ import annotations

import _thread
import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.batch import RunOptions, RunSummary, run_file
from orchestrator.models import processes, vllm_server
from orchestrator.progress import Progress
from tests.live_drafter import EXAMPLE, ROOT, Live, vllm_pipeline

Lines = list[dict[str, Any]]


@pytest.fixture
def pipeline_file(live: Live, tmp_path: Path) -> Path:
    return vllm_pipeline(tmp_path / "order_lines", live.url)


def orchestrator(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)


async def test_fifty_lines_are_drafted_by_vllm_and_most_are_right(
    pipeline_file: Path, tmp_path: Path, lines: Lines
) -> None:
    tasks = [Task(**line) for line in lines[:50]]
    async with Pipeline.load(pipeline_file, store=f"sqlite:///{tmp_path}/o.db") as pipeline:
        done = [outcome async for outcome in pipeline.amap(tasks, concurrency=64)]
    assert len(done) == 50
    drafts = [call for outcome in done for call in outcome.calls if call.role == "draft"]
    assert {call.model for call in drafts} == {"models/drafter"}
    assert all(call.usage is not None and call.usage.output > 0 for call in drafts)
    assert {outcome.decision.action for outcome in done if outcome.decision} >= {"accept"}
    assert sum(outcome.success is True for outcome in done) >= 40


def test_check_live_asks_vllm_and_finds_its_logprobs(pipeline_file: Path) -> None:
    done = orchestrator("check", pipeline_file, "--live")
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "models/drafter" in said
    assert "log-probabilities" in said


def test_check_live_exits_3_where_nothing_listens(pipeline_file: Path, live: Live) -> None:
    pipeline_file.write_text(pipeline_file.read_text().replace(live.url, "http://127.0.0.1:9/v1"))
    assert orchestrator("check", pipeline_file, "--live").returncode == 3


class KillsTheServer(Progress):
    """After 20 outcomes: the whole server is killed, and a new one started beside the run."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live, self._again = live, threading.Thread(target=self._up)
        self.noted: list[str] = []

    def note(self, words: str) -> None:
        self.noted.append(words)

    def show(self, summary: RunSummary) -> None:
        super().show(summary)
        if summary.written >= 20 and self._again.ident is None:
            server = vllm_server.status(self._live.config, state_dir=self._live.state_dir).server
            assert server is not None
            processes.stop_group(server.pid, grace_s=0.0)
            self._again.start()

    def finish(self, summary: RunSummary) -> None:
        super().finish(summary)
        self._again.join()

    def _up(self) -> None:
        try:
            vllm_server.up(self._live.config, base=EXAMPLE, state_dir=self._live.state_dir, wait_s=600)
        except BaseException:  # whatever it is: a thread can't fail the test by itself
            _thread.interrupt_main()  # the run would wait for ever
            raise


def test_a_file_run_waits_while_vllm_is_down_and_goes_on_when_it_is_back(
    pipeline_file: Path, live: Live, tmp_path: Path, lines: Lines
) -> None:
    tasks, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    tasks.write_text("".join(json.dumps(line) + "\n" for line in lines[:300]))
    killer = KillsTheServer(live)
    summary = run_file(RunOptions(
        pipeline=pipeline_file, tasks=tasks, out=out, store=f"sqlite:///{tmp_path}/o.db", concurrency=8, yes=True,
        progress=killer,
    ))
    assert summary.exit_code == 0
    done = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(one["id"] for one in done) == sorted(line["id"] for line in lines[:300])
    assert not [one for one in done if one["status"] in ("failed", "handed_off")]
    assert any("drafter" in words for words in killer.noted), killer.noted


async def test_a_cancelled_run_leaves_nothing_unsettled_as_an_intent(
    pipeline_file: Path, tmp_path: Path, lines: Lines
) -> None:
    async with Pipeline.load(pipeline_file, store=f"sqlite:///{tmp_path}/o.db") as pipeline:
        running = asyncio.create_task(pipeline.arun(Task(id="x", input=lines[0]["input"])))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        outcome = await pipeline.arun(Task(id="y", input=lines[0]["input"]))
    assert outcome.value is not None
