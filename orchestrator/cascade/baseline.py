"""The baseline: what a share of tasks would have cost without a drafter. Off the answer's path, in no run's figures.

Drawn by the run's id, so that it can be replayed. The validator does each step anew (`redo`), on values of its own.
**A baseline is a measurement of money: what it answers is compared with nothing and served to nobody.**
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.cascade.draft import parse
from orchestrator.cascade.rules import draw
from orchestrator.cascade.run import Run
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.verdicts import redo_request
from orchestrator.errors import BudgetExceeded, ExpressionError, ModelError, TaskError, UnpricedCall

RULE = "baseline"
"""What the draw is keyed with besides the run's id: independent of every rule's."""


def is_drawn(run: Run, rt: Runtime) -> bool:
    """Is the task among the share that the validator also answers alone."""
    share = rt.config.baseline
    return share > 0 and rt.mode == "cascade" and not run.collecting and draw(run.run_id, RULE) < share


async def answer_alone(run: Run, rt: Runtime) -> None:
    """Each step by its validator. It ends where a step has none, may not be asked, or gives nothing to go on with:
    what was spent until then would have been spent."""
    alone = Run(task=run.task, run_id=run.run_id, mode=rt.mode, slots=run.slots)
    values: dict[str, dict[str, Any]] = {}
    for step in rt.steps:
        view = {**alone.view(), "steps": values}
        try:
            if step.when is not None and not step.when.holds(view):
                values[step.id] = {"value": None, "status": "accepted", "skipped": True}
                continue
            value, read = await _value(alone, step, view, rt)
        except (ModelError, BudgetExceeded, UnpricedCall, ExpressionError, TaskError):
            return
        if not read:
            return
        values[step.id] = {"value": value, "status": "redone", "skipped": False}


async def _value(alone: Run, step: Step, view: Mapping[str, Any], rt: Runtime) -> tuple[Any, bool]:
    model = step.validator
    if model is None or model.client.location in step.policy.before(view, run_id=alone.run_id).forbid:
        return None, False
    answered = await rt.apart.ask(
        alone, step.id, "baseline", model, redo_request(step, model, view), cacheable=lambda _: False
    )
    return parse(answered.answer.text, step.loaded.output_schema is not None)
