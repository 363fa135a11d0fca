"""Spot checks: what accepted drafts are really worth. Off the answer's path, durable until done.

The draw itself is the policy's (logged, replayable). Here the validator does the task anew (`redo`), unaware of the
draft, and the two are compared. **A spot check changes what is known of a run, never what was served.**
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.cascade.draft import cacheable, parse
from orchestrator.cascade.lapse import look
from orchestrator.cascade.run import Run
from orchestrator.cascade.verdicts import redo_request
from orchestrator.errors import (
    AuthRefused,
    BudgetExceeded,
    CostReached,
    ExpressionError,
    ModelError,
    OrchestratorError,
    Outage,
    RateLimited,
    TaskError,
    UnpricedCall,
)
from orchestrator.records import Json, Task
from orchestrator.store.entries import SpotCheckState

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime, Step
    from orchestrator.store.spot_checks import PendingSpotCheck


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One accepted draft to be looked at. `view` is what the step's prompt saw: the task, and the steps before. It may
    wait for money or a model until `waits_until` (None: for ever): then its content goes."""

    task: Task
    run_id: str
    step: Step
    draft: Json
    view: Mapping[str, Any]
    waits_until: float | None

    @property
    def key(self) -> tuple[str, str]:
        return self.run_id, self.step.id


async def spot_check(check: Check, rt: Runtime) -> OrchestratorError | None:
    """Have the validator look at one accepted draft, and record what it found, or why it found nothing.

    What is returned refused the call, through no fault of the task: the check is still to be made. So it is where
    StoreError is raised.
    """
    try:
        state, draft_ok = await _look_at(check, rt)
    except (ModelError, BudgetExceeded, UnpricedCall, CostReached, ExpressionError, TaskError) as refusal:
        if _waits_for(refusal) and (check.waits_until is None or check.waits_until > rt.clock()):
            return refusal
        state, draft_ok = "unanswered", None
    await rt.store.settle_spot_check(check.run_id, check.step.id, state=state, draft_ok=draft_ok)
    if draft_ok is not None:
        rt.looked[draft_ok] += 1
        await look(rt, check.step, draft_ok=draft_ok)
    return None


def _waits_for(refusal: OrchestratorError) -> bool:
    """Is it of the circumstances: may the same check be made later? Not where the request left and no answer came (that
    may be its task's doing, and is paid for), nor where one task's own budget refused it."""
    match refusal:
        case BudgetExceeded():
            return not refusal.of_task
        case UnpricedCall() | CostReached() | AuthRefused() | RateLimited():
            return True
        case Outage():
            return not refusal.sent
        case _:
            return False


async def _look_at(check: Check, rt: Runtime) -> tuple[SpotCheckState, bool | None]:
    step, model = check.step, check.step.validator
    if model is None:
        return "unanswered", None
    if model.client.location in step.policy.before(check.view, run_id=check.run_id).forbid:
        return "forbidden", None  # it was allowed when drawn: the configuration is another one now
    structured = step.loaded.output_schema is not None
    run = Run(task=check.task, run_id=check.run_id, resumed=True)
    try:
        answered = await rt.calls.ask(
            run, step.id, "spot_check", model, redo_request(step, model, check.view),
            cacheable=lambda answer: cacheable(answer, structured),
        )
    finally:
        rt.afterwards.add(run.calls)
    value, parsed = parse(answered.answer.text, structured)
    return ("done", step.compare.same(check.draft, value)) if parsed else ("unanswered", None)


def drawn(run: Run, rt: Runtime) -> Iterator[Check]:
    """The spot checks that this run's policy drew, of drafts that were served in the end."""
    steps = {step.id: step for step in rt.steps}
    for step_id, _ in run.checks:
        before = dict(run.view())
        before["steps"] = _before(step_id, before["steps"])
        yield Check(
            task=run.task, run_id=run.run_id, step=steps[step_id], draft=run.results[step_id].value, view=before,
            waits_until=rt.clock() + (0.0 if rt.config.content.keep == "none" else rt.config.content.keep),
        )


async def restored(one: PendingSpotCheck, rt: Runtime) -> Check | None:
    """A spot check that a process left undone, from what is kept of its run; None, and settled, where too little is."""
    step = next((step for step in rt.steps if step.id == one.step), None)
    task = one.contents.get("task")
    value = "value" if len(rt.steps) == 1 else f"value:{one.step}"
    kept = next((kind for kind in (f"draft:{one.step}", value) if kind in one.contents), None)
    if step is None or task is None or kept is None:
        await rt.store.settle_spot_check(one.run_id, one.step, state="unanswered", draft_ok=None)
        return None
    given = Task(input=task["input"], meta=task["meta"], id=task.get("id"), expected=task.get("expected"))
    values = {s.id: one.contents.get(f"value:{s.id}") for s in rt.steps[: step.index]}
    steps = {name: {"value": v, "status": "accepted", "skipped": v is None} for name, v in values.items()}
    view = {"task": {"input": given.input, "meta": given.meta}, "steps": steps}
    return Check(
        task=given, run_id=one.run_id, step=step, draft=one.contents[kept], view=view, waits_until=one.keep_until
    )


def _before(step_id: str, steps: Mapping[str, Any]) -> dict[str, Any]:
    earlier: dict[str, Any] = {}
    for name, result in steps.items():
        if name == step_id:
            break
        earlier[name] = result
    return earlier
