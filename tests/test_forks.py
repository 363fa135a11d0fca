"""A process that is forked off has none of its parent's threads: it is told so, instead of waiting for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines import write_pipeline

FORKS = """
import asyncio, os, sys
from orchestrator import Pipeline
from orchestrator.errors import OrchestratorError
from orchestrator.testing import ScriptedModel

def task(id):
    return {"id": id, "input": {"text": "x"}}

clients = {"drafter": ScriptedModel(lambda _: {"label": "a"}, name="drafter"), "validator": ScriptedModel([])}
pipeline = Pipeline.load(sys.argv[1], store=sys.argv[2], clients=clients)
if sys.argv[3] == "worked":
    pipeline.run(task("parent"))
sys.stdout.flush()
child = os.fork()
if not child:
    for ask in (pipeline.run, lambda given: asyncio.run(pipeline.arun(given))):
        try:
            print(ask(task("child")).status, flush=True)
        except OrchestratorError as error:
            print(type(error).__name__, "forked off" in str(error), error.hint, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(pipeline.run(task("later")).status)
pipeline.close()
"""


@pytest.mark.parametrize(("before", "child"), [
    ("loaded", ["accepted", "accepted"]),
    ("worked", ["InputError True load the pipeline in the process that uses it, after the fork",
                "StoreError True open it in the process that uses it"]),
])
def test_a_child_works_with_what_was_loaded_and_not_with_what_was_at_work(
    tmp_path: Path, before: str, child: list[str]
) -> None:
    path = write_pipeline(tmp_path / "p")
    command = [sys.executable, "-c", FORKS, str(path), f"sqlite:///{tmp_path}/s.db", before]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (0, [*child, "accepted"]), done.stderr
