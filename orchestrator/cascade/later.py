"""What follows an outcome, off the answer's path: its spot checks and its baseline."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from orchestrator.cascade.baseline import answer_alone, is_drawn
from orchestrator.cascade.run import Run
from orchestrator.cascade.runtime import Runtime
from orchestrator.cascade.spot import after_settling


def check_later(settled: Iterable[Run], rt: Runtime) -> None:
    """Start in the background what the runs' policies drew; `Pipeline.aclose` waits for it."""
    for run in settled:
        if run.outcome is None or run.outcome.resumed:
            continue
        if run.checks:
            _in_background(after_settling(run, rt), rt)
        if is_drawn(run, rt):
            _in_background(answer_alone(run, rt), rt)


def _in_background(work: Coroutine[Any, Any, None], rt: Runtime) -> None:
    task = asyncio.create_task(work)
    rt.background.add(task)
    task.add_done_callback(rt.background.discard)
