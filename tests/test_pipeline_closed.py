"""The synchronous face: what a closed pipeline says, and that a script which never closes one ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import Pipeline, Task
from orchestrator.errors import InputError
from tests.pipelines import write_pipeline
from tests.test_pipeline import A, both


def test_a_closed_pipeline_says_so_until_it_is_entered_again(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    pipeline = Pipeline.load(path, store=f"sqlite:///{tmp_path}/s.db", clients=both(lambda _: A))
    with pipeline:
        outcome = pipeline.run(Task(input={"text": "x"}))
    for asked in (
        lambda: pipeline.run(Task(input={"text": "y"})), lambda: list(pipeline.map([{"input": {"text": "y"}}])),
        lambda: pipeline.record_outcome(outcome.run_id, success=True),
    ):
        with pytest.raises(InputError, match="this pipeline is closed") as caught:
            asked()
        assert "inside its `with` block" in caught.value.hint
    with pipeline:
        assert pipeline.run(Task(input={"text": "y"})).value == A


FORGETFUL = """
import sys
from orchestrator import Pipeline, Task
from orchestrator.testing import ScriptedModel

clients = {"drafter": ScriptedModel(lambda _: {"label": "a"}, name="drafter"), "validator": ScriptedModel([])}
pipeline = Pipeline.load(sys.argv[1], store=sys.argv[2], clients=clients)
print(pipeline.run(Task(id="t1", input={"text": "x"})).status)
rest = pipeline.map({"input": {"text": str(i)}} for i in range(5))
print(next(rest).status)
"""


def test_a_script_that_never_closes_its_pipeline_ends(tmp_path: Path) -> None:
    """With a map given up halfway, and also where the task was read back from the store."""
    path = write_pipeline(tmp_path / "p")
    command = [sys.executable, "-c", FORGETFUL, str(path), f"sqlite:///{tmp_path}/s.db"]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert (done.stdout, done.stderr) == ("accepted\naccepted\n", "")


INTERRUPTED = """
import asyncio, signal, sys
from orchestrator import Pipeline
from orchestrator.testing import ScriptedModel

class Slow(ScriptedModel):
    async def complete(self, request, **named):
        print("asked", flush=True)
        await asyncio.Event().wait()

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
clients = {"drafter": Slow([], name="drafter"), "validator": ScriptedModel([])}
with Pipeline.load(sys.argv[1], store=sys.argv[2], clients=clients) as pipeline:
    try:
        for outcome in pipeline.map([{"id": "t", "input": {"text": "x"}}]):
            print(outcome)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("closed")
"""


def test_a_map_that_is_interrupted_says_no_more_than_that(tmp_path: Path) -> None:
    path, store = write_pipeline(tmp_path / "p"), f"sqlite:///{tmp_path}/s.db"
    command = [sys.executable, "-c", INTERRUPTED, str(path), store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "asked\n"
            process.send_signal(signal.SIGINT)
            said, complaints = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, said, complaints) == (0, "interrupted\nclosed\n", "")
