"""Recall: render the draft request and look whether its answer is durable already. Answers, never decisions."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cascade.calls import Answered
from orchestrator.cascade.draft import REDRAFT_SAMPLES, take_answer
from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.errors import TaskError
from orchestrator.records import Decision, StepResult


async def recall(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """One look-up for the group; runs whose answers are all there skip the drafter."""
    wanted: list[tuple[Run, str]] = []
    keys: dict[str, list[str]] = {}
    for run in runs:
        try:
            _render(run, step)
        except TaskError as error:
            _fail(run, step, rt, error)
            continue
        keys[run.run_id] = [rt.calls.key(step.drafter, r) for r in run.work.requests]
        wanted += [(run, key) for key in keys[run.run_id]]
    found = await rt.calls.recall(wanted)
    for run in runs:
        if run.run_id in keys:
            _place(run, step, keys[run.run_id], found)


def _render(run: Run, step: Step) -> None:
    """Requests of this attempt: its first draft, and the further samples that agreement asks for."""
    work = run.work
    first = (work.attempt - 1) * REDRAFT_SAMPLES
    view = run.view()
    work.requests = [step.request(view, first + k) for k in range(step.signals.samples)]
    work.drafts.clear()
    work.signals, work.kept, work.kept_signals = {}, None, None


def _place(run: Run, step: Step, keys: list[str], found: dict[tuple[str, str], Answered]) -> None:
    for index, key in enumerate(keys):
        known = found.get((run.run_id, key))
        if known is not None:
            take_answer(run, step, index, known)
    run.stage = Stage.WEIGH if len(run.work.drafts) == len(keys) else Stage.DRAFT


def _fail(run: Run, step: Step, rt: Runtime, error: TaskError) -> None:
    run.error = error
    decision = Decision(action="hand_off", rule="prompt", explanation=str(error))
    run.end_step(StepResult(step=step.id, status="failed", decision=decision), len(rt.steps))
