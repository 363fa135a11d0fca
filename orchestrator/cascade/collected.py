"""What a calibration learns of a run that it had drafted, and of what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.records import Decision, Money, Outcome, StepResult, Task

if TYPE_CHECKING:
    from orchestrator.cascade.run import Run
    from orchestrator.cascade.runtime import Runtime, Step

CALIBRATION = "calibration"
"""The mode that calibrations are recorded under: in no figure but their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One draft, for calibration. `reached` says whether it got as far as the rule that compares the confidence, and
    `undrafted` is what is decided on the task in service before it is drafted, by the step's gate or another `before`
    rule (None: it is drafted there, too); `score` is that confidence (None where it could not be had). `draft_ok` is
    None without a label. `spent` is what was paid now; None is unknown. `resumed`: it was read back from the store, and
    costs nothing now. `problem`: why the task was not taken; then there is no run.
    """

    task: Task
    run_id: str
    score: float | None = None
    reached: bool = False
    undrafted: Decision | None = None
    draft_ok: bool | None = None
    spent: Money | None = None
    resumed: bool = False
    problem: str = ""


def collected(run: Run, rt: Runtime, index: int) -> Collected:
    """What calibration needs of a run, just drafted or read back from the store."""
    if run.outcome is None:
        return Collected(task=run.task, run_id="", problem=str(run.error or "not run"))
    step, outcome = rt.steps[index], run.outcome
    result = outcome.steps.get(step.id)
    decision = result.decision if result else None
    reached = decision is not None and any(
        rule.name == decision.rule and rule.reads_confidence for rule in step.policy.afters
    )
    return Collected(
        task=run.task, run_id=run.run_id, score=decision.confidence if decision else None, reached=reached,
        undrafted=_undrafted(run, result, step, rt), draft_ok=result.draft_ok if result else None,
        spent=spent_on(outcome), resumed=outcome.resumed,
    )


def _undrafted(run: Run, result: StepResult | None, step: Step, rt: Runtime) -> Decision | None:
    """A calibration drafts what a gate stops, and hands off what a rule sends straight to the validator."""
    from orchestrator.cascade.screen import gate_reading, without_a_drafter

    if result is None or result.skipped:
        return None
    reading = gate_reading(run.task, step, rt) if step.policy.reads_gate else None
    before = step.policy.before(run.view(), run_id=run.run_id, gate=reading)
    return before.action or without_a_drafter(before, step)


def spent_on(outcome: Outcome) -> Money | None:
    """What its calls cost; None where a part of that is unknown, or in another currency."""
    if any(call.cost is None for call in outcome.calls) or len(outcome.costs) > 1:
        return None
    return outcome.costs[0] if outcome.costs else Money(nano=0)
