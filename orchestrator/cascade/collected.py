"""What a calibration learns of a run that it had drafted, and of what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.records import Money, Outcome, Task

if TYPE_CHECKING:
    from orchestrator.cascade.run import Run
    from orchestrator.cascade.runtime import Runtime, Step

CALIBRATION = "calibration"
"""The mode that calibrations are recorded under: in no figure but their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """One draft, for calibration. `reached` says whether it got as far as the rule that compares the confidence, and
    `gated` whether the step's gate would have kept it from being drafted; `score` is that confidence (None where it
    could not be had). `draft_ok` is None without a label. `cost` is what it costs without a cache, `spent` what was
    paid; None is unknown. `resumed`: it was read back from the store, and costs nothing now. `problem`: why the task
    was not taken; then there is no run.
    """

    task: Task
    run_id: str
    score: float | None = None
    reached: bool = False
    gated: bool = False
    draft_ok: bool | None = None
    cost: Money | None = None
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
        gated=step.policy.reads_gate and _gated(run, step, rt), draft_ok=result.draft_ok if result else None,
        cost=cost_of(outcome), spent=spent_on(outcome), resumed=outcome.resumed,
    )


def _gated(run: Run, step: Step, rt: Runtime) -> bool:
    """Would the gate have decided on a task that no rule before it decides on?"""
    from orchestrator.cascade.screen import gate_reading

    reading = gate_reading(run.task, step, rt)
    with_gate = step.policy.before(run.view(), run_id=run.run_id, gate=reading)
    without = step.policy.before(run.view(), run_id=run.run_id)
    return with_gate.action is not None and without.action is None


def spent_on(outcome: Outcome) -> Money | None:
    """What its calls cost; None where a part of that is unknown, or in another currency."""
    if any(call.cost is None for call in outcome.calls) or len(outcome.costs) > 1:
        return None
    return outcome.costs[0] if outcome.costs else Money(nano=0)


def cost_of(outcome: Outcome) -> Money | None:
    """What it would have cost without a cache; None where that is unknown, or was asked of no model."""
    spent = spent_on(outcome)
    saved = round(outcome.saved_usd.scaleb(9)) if outcome.saved_usd is not None else 0
    if spent is None or not (outcome.calls or saved) or (saved and spent.currency != "USD"):
        return None
    return Money(nano=spent.nano + saved, currency=spent.currency)
