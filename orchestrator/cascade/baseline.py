"""The baseline: what a share of tasks would have cost without a drafter. Off the answer's path, in no run's figures.

Drawn by the run's id, so that it can be replayed. The validator does each step anew (`redo`), on values of its own.
What it answers is served to nobody and not kept: the ledger holds what it cost, and whether a label, a proof or the
value that was served says it is right. **The validator is no judge of itself.** Runs from the cache are not drawn:
without a drafter there would be a cache, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.cascade.draft import parse
from orchestrator.cascade.rules import draw
from orchestrator.cascade.run import Run
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.validate import serves, weigh_value
from orchestrator.cascade.verdicts import redo_request
from orchestrator.errors import (
    BudgetExceeded,
    CostReached,
    ExpressionError,
    ModelError,
    Outage,
    TaskError,
    UnpricedCall,
)
from orchestrator.records import SERVED, Signal
from orchestrator.store.baselines import BaselineEntry

RULE = "baseline"
"""What the draw is keyed with besides the run's id: independent of every rule's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """How the validator alone ended: `step` None where it gave no answer that could have been served."""

    step: Step | None
    value: Any = None
    signals: Mapping[str, Signal]
    view: Mapping[str, Any]


def is_drawn(run: Run, rt: Runtime) -> bool:
    """Is the task among the share that the validator also answers alone."""
    share = rt.config.baseline
    live = rt.mode == "cascade" and not run.collecting and not run.recalled
    return share > 0 and live and draw(run.run_id, RULE) < share


async def answer_alone(run: Run, rt: Runtime) -> None:
    """Each step by its validator, and then how its answer compares. Nothing is recorded where a step has no validator,
    it may not be asked, is out, or the money is spent: that is no measurement."""
    apart = Run(task=run.task, run_id=run.run_id, slots=run.slots)
    try:
        alone = await _walk(apart, rt)
    except (BudgetExceeded, UnpricedCall, CostReached, ExpressionError, TaskError, Outage):
        return
    finally:
        rt.afterwards.add(apart.calls)
    if alone is not None:
        await rt.store.record_baseline(_compared(run, alone, rt))


async def _walk(alone: Run, rt: Runtime) -> Alone | None:
    """To the last step, or to the first that gives nothing to go on with: what was spent until then would have been
    spent. None where it may not be walked."""
    values: dict[str, dict[str, Any]] = {}
    last: Step | None = None
    value: Any = None
    signals: Mapping[str, Signal] = {}
    for step in rt.steps:
        view = {**alone.view(), "steps": values}
        if step.when is not None and not step.when.holds(view):
            values[step.id] = {"value": None, "status": "accepted", "skipped": True}
            continue
        forbidden = step.policy.before(view, run_id=alone.run_id).forbid
        if step.validator is None or step.validator.client.location in forbidden:
            return None
        answered = await _answer(alone, step, view, rt)
        if answered is None:
            return Alone(step=None, signals={}, view=view)
        (value, signals), last = answered, step
        values[step.id] = {"value": value, "status": "redone", "skipped": False}
    return Alone(step=last, value=value, signals=signals, view={**alone.view(), "steps": values})


async def _answer(
    alone: Run, step: Step, view: Mapping[str, Any], rt: Runtime
) -> tuple[Any, Mapping[str, Signal]] | None:
    """The validator's value and its signals; None where it fails or breaks the schema."""
    model = step.validator
    assert model is not None
    try:
        answered = await rt.apart.ask(
            alone, step.id, "baseline", model, redo_request(step, model, view), cacheable=lambda _: False
        )
    except Outage:
        raise
    except ModelError:
        return None
    value, parsed = parse(answered.answer.text, step.loaded.output_schema is not None)
    if not parsed:
        return None
    signals = await weigh_value(alone, step, value, answered.answer)
    return (value, signals) if serves(signals) else None


def _compared(run: Run, alone: Alone, rt: Runtime) -> BaselineEntry:
    judge, right = _judged(run, alone)
    served = alone.step is not None and all(_passes(guard, alone.value, run) for _, guard in rt.guards)
    return BaselineEntry(
        run_id=run.run_id, pipeline=rt.config.pipeline, share=rt.config.baseline, served=served,
        required=_required(alone, rt) if served else None, same=_same(run, alone) if served else None,
        judge=judge, right=right if served else None, ended_at=rt.clock(),
    )


def _judged(run: Run, alone: Alone) -> tuple[Literal["label", "proof"] | None, bool | None]:
    """Whether the answer is right, by the task's label, else by the signals that prove it."""
    if run.task.expected is not None:
        return "label", alone.step is not None and alone.step.compare.same(alone.value, run.task.expected)
    proofs = [signal.ok for signal in alone.signals.values() if signal.proof]
    return ("proof", all(proofs)) if proofs else (None, None)


def _same(run: Run, alone: Alone) -> bool | None:
    outcome = run.outcome
    if alone.step is None or outcome is None or outcome.status not in SERVED:
        return None
    return alone.step.compare.same(alone.value, outcome.value)


def _required(alone: Alone, rt: Runtime) -> bool | None:
    if rt.require is None:
        return None
    try:
        return bool(rt.require.holds({**alone.view, "value": alone.value, "signals": alone.signals}))
    except ExpressionError:
        return False


def _passes(guard: Any, value: Any, run: Run) -> bool:
    try:
        return bool(guard(value, run.task))
    except Exception:  # noqa: BLE001 - a user's code may raise anything, and all of it fails closed
        return False
