"""Screen: what a step decides on the task alone, before anything is sent: `when`, `before` rules, the mode."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cascade.policy_views import BeforeDecision, GateReading
from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.signals import task_features
from orchestrator.config.feature_names import TASK_FEATURES
from orchestrator.errors import ExpressionError
from orchestrator.records import Decision, StepResult, Task

BY_MODE = "mode"
"""What stands for a rule where the mode decides: nothing is drafted."""


async def screen(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Skip, forbid, send on to recall, or straight to the validator or a person."""
    for run in runs:
        _screen(run, step, rt)


def _screen(run: Run, step: Step, rt: Runtime) -> None:
    view = run.view()
    try:
        wanted = step.when is None or step.when.holds(view)
    except ExpressionError as error:
        _hand_off(run, step, rt, "when", f"`when` can't be evaluated: {error}")
        return
    if not wanted:
        run.end_step(StepResult(step=step.id, status="accepted", skipped=True), len(rt.steps))
        return
    before = step.policy.before(view, run_id=run.run_id, gate=_gate(run, step, rt))
    run.work.forbid = before.forbid
    if before.action is not None:
        _act(run, step, rt, before.action)
    elif rt.mode == "validate_only" and not run.collects:
        run.work.decision = Decision(
            action="escalate", rule=BY_MODE, explanation="mode is validate_only", forbid=before.forbid, mode="redo"
        )
        run.stage = Stage.VALIDATE
    elif (decision := without_a_drafter(before, step)) is not None:
        run.work.decision, run.stage = decision, Stage.VALIDATE
    else:
        run.stage = Stage.RECALL


def without_a_drafter(before: BeforeDecision, step: Step) -> Decision | None:
    """What becomes of a task on which no rule decides, and whose drafter the rules forbid; None where it may be
    drafted."""
    location = step.drafter.client.location
    if location not in before.forbid:
        return None
    return Decision(
        action="escalate", rule="forbid", forbid=before.forbid, mode="redo",
        explanation=f"the drafter is {location}, which is forbidden: {before.explanation}",
    )


def _gate(run: Run, step: Step, rt: Runtime) -> GateReading | None:
    """What the step's gate says, where a rule asks for it; a calibration drafts whatever a gate says."""
    return None if run.collects or not step.policy.reads_gate else gate_reading(run.task, step, rt)


def gate_reading(task: Task, step: Step, rt: Runtime) -> GateReading:
    names = dict(zip(TASK_FEATURES, task_features(task), strict=True))
    return GateReading(
        probability=step.gate.of(names, task.meta) if step.gate is not None else None,
        threshold=step.gate_threshold,
        problem=step.loaded.gate.problem or (None if step.config.gate else "the step has no `gate:`"),
        lapsed=rt.config.certificate_lapsed,
    )


def _act(run: Run, step: Step, rt: Runtime, decision: Decision) -> None:
    match decision.action:
        case "escalate" if rt.mode == "draft_only":
            run.stage = Stage.RECALL
        case "escalate" if run.collects:
            _hand_off(run, step, rt, decision.rule, decision.explanation)  # a calibration only drafts
        case "escalate":
            run.work.decision, run.stage = decision, Stage.VALIDATE
        case "decline":
            run.end_step(StepResult(step=step.id, status="declined", decision=decision), len(rt.steps))
        case _:
            _hand_off(run, step, rt, decision.rule, decision.explanation)


def _hand_off(run: Run, step: Step, rt: Runtime, rule: str, why: str) -> None:
    decision = Decision(action="hand_off", rule=rule, explanation=why)
    run.handoff_reason = why
    run.end_step(StepResult(step=step.id, status="handed_off", decision=decision), len(rt.steps))
