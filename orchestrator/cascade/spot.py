"""Spot checks: what accepted drafts are really worth. Off the answer's path, durable until done.

The draw itself is the policy's (logged, replayable). Here the validator does the task anew (`redo`), unaware of the
draft, and the two are compared. **A spot check changes what is known of a run, never what was served.**
"""

from __future__ import annotations

from typing import Any

from orchestrator.cascade.draft import cacheable, parse
from orchestrator.cascade.run import Run, StepWork
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.verdicts import redo_request
from orchestrator.errors import BudgetExceeded, ModelError, UnpricedCall
from orchestrator.records import Task
from orchestrator.store.entries import PendingSpotCheck


async def spot_check(task: Task, run_id: str, step: Step, draft: Any, view: dict[str, Any], rt: Runtime) -> None:
    """Have the validator look at one accepted draft, and record what it found."""
    assert step.validator is not None
    run = Run(task=task, run_id=run_id, mode=rt.mode, resumed=True, work=StepWork())
    structured = step.loaded.output_schema is not None
    try:
        answered = await rt.calls.ask(
            run, step.id, "spot_check", step.validator, redo_request(step, step.validator, view),
            cacheable=lambda answer: cacheable(answer, structured),
        )
    except (ModelError, BudgetExceeded, UnpricedCall):
        await rt.store.settle_spot_check(run_id, step.id, state="unanswered", draft_ok=None)
        return
    value, parsed = parse(answered.answer.text, structured)
    if not parsed:
        await rt.store.settle_spot_check(run_id, step.id, state="unanswered", draft_ok=None)
        return
    same = step.compare.same(draft, value)
    await rt.store.settle_spot_check(run_id, step.id, state="done", draft_ok=same)


async def after_settling(run: Run, rt: Runtime) -> None:
    """The spot checks that this run's policy drew."""
    steps = {step.id: step for step in rt.steps}
    for step_id, _ in run.checks:
        view = {**run.view(), "steps": _steps_before(run, step_id)}
        await spot_check(run.task, run.run_id, steps[step_id], run.results[step_id].value, view, rt)


async def take_up(pending: list[PendingSpotCheck], rt: Runtime) -> None:
    """Spot checks that a process left undone."""
    steps = {step.id: step for step in rt.steps}
    for one in pending:
        step, said = steps.get(one.step), one.contents.get("task")
        if step is None or step.validator is None or said is None:
            await rt.store.settle_spot_check(one.run_id, one.step, state="unanswered", draft_ok=None)
            continue
        task = Task(input=said["input"], meta=said["meta"], id=said.get("id"), expected=said.get("expected"))
        values = {k.removeprefix("value:"): {"value": v} for k, v in one.contents.items() if k.startswith("value:")}
        view = {"task": {"input": task.input, "meta": task.meta}, "steps": values}
        served = one.contents.get("value" if len(rt.steps) == 1 else f"value:{one.step}")
        draft = one.contents.get(f"draft:{one.step}", served)
        await spot_check(task, one.run_id, step, draft, view, rt)


def _steps_before(run: Run, step_id: str) -> dict[str, Any]:
    before: dict[str, Any] = {}
    for name, result in run.view()["steps"].items():
        if name == step_id:
            break
        before[name] = result
    return before
