"""Draft: ask the cheap model, all runs of the group at once; decide what an outage of it means."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import orjson

from orchestrator.cascade.calls import Answered
from orchestrator.cascade.run import Kept, Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.signals.refusal import is_deflection
from orchestrator.errors import BudgetExceeded, ContextOverflow, CostReached, ModelError, Outage, UnpricedCall
from orchestrator.records import Answer, Decision, Draft, StepResult

REDRAFT_SAMPLES = 100
"""Sample indices set apart for each attempt, so that a redraft's seeds differ from all samples before it."""
_FENCED = re.compile(r"\s*```[a-zA-Z]*\s*\n(.*?)\n?```\s*$", re.DOTALL)


async def draft(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Fill in the drafts that recall did not find. No run waits for another's answer but the group's return does."""
    if len(runs) == 1:
        await _draft_one(runs[0], step, rt)
    else:
        await gather_all([_draft_one(run, step, rt) for run in runs])


async def gather_all(works: Sequence[Any]) -> None:
    """Run all to their end; the first error is raised only after every sibling stopped (no orphan is left behind)."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    except BaseException:  # cancelled too: no sibling goes on unseen
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def unfenced(text: str) -> str:
    """What stands in the code fence, where the whole text is one: many models write JSON so if nothing enforces it."""
    fenced = _FENCED.match(text) if "```" in text else None
    return fenced[1] if fenced else text


def parse(text: str, structured: bool) -> tuple[Any, bool]:
    """(value, parsed): JSON where the step has an output schema, else the text itself."""
    if not structured:
        return text, bool(text.strip())
    try:
        return orjson.loads(unfenced(text)), True
    except orjson.JSONDecodeError:
        return None, False


def take_answer(run: Run, step: Step, index: int, answered: Answered) -> None:
    """Put an answer in its place among the run's drafts; the first one's signals may be known with it."""
    value, parsed = parse(answered.answer.text, step.loaded.output_schema is not None)
    run.work.drafts[index] = Draft(
        value=value, text=answered.answer.text, parsed=parsed, answer=answered.answer, sample=index
    )
    if index == 0:
        run.work.kept = Kept(tenant=run.task.tenant, memo_key=answered.memo_key)
        run.work.kept_signals = answered.signals


def cacheable(answer: Answer, structured: bool) -> bool:
    """Truncated, deflecting or unreadable answers are kept for resuming only, never served to another task."""
    return answer.finish_reason == "stop" and parse(answer.text, structured)[1] and not is_deflection(answer.text)


async def _draft_one(run: Run, step: Step, rt: Runtime) -> None:
    missing = [i for i in range(len(run.work.requests)) if i not in run.work.drafts]
    try:
        if len(missing) == 1:
            await _ask(run, step, rt, missing[0])
        else:
            await gather_all([_ask(run, step, rt, i) for i in missing])
    except ContextOverflow as error:
        escalate(run, "context_overflow", f"the task does not fit the drafter: {error}")
    except Outage as error:
        _outage(run, step, rt, error)
    except ModelError as error:
        escalate(run, "draft_failed", f"the drafter gave no answer: {type(error).__name__}: {error}")
    except (BudgetExceeded, UnpricedCall) as error:
        spent(run, step, rt, error)
    except CostReached as error:
        leave_open(run, rt, error)
    else:
        run.stage = Stage.WEIGH


async def _ask(run: Run, step: Step, rt: Runtime, index: int) -> None:
    request = run.work.requests[index]
    structured = step.loaded.output_schema is not None

    async def ask() -> Answered:
        return await rt.calls.ask(
            run, step.id, "draft" if index == 0 else "sample", step.drafter, request,
            cacheable=lambda answer: cacheable(answer, structured), recall=False,
        )

    waits = _on_outage(rt) == "wait"
    take_answer(run, step, index, await (rt.outages.through(step.drafter.alias, ask) if waits else ask()))


def _on_outage(rt: Runtime) -> str:
    return rt.config.on_drafter_outage or ("wait" if rt.in_file else "fail")


def _outage(run: Run, step: Step, rt: Runtime, error: Outage) -> None:
    words = f"the drafter is out: {type(error).__name__}: {error}"
    match _on_outage(rt):
        case "escalate":
            escalate(run, "drafter_outage", words)
        case "hand_off":
            end(run, step, rt, "handed_off", "drafter_outage", words)
        case _:
            run.error = error
            end(run, step, rt, "failed", "drafter_outage", words)


def escalate(run: Run, rule: str, words: str) -> None:
    """Send a run that has no draft to the validator, which then does the task itself."""
    run.work.decision = Decision(
        action="escalate", rule=rule, explanation=words, forbid=run.work.forbid, mode="redo"
    )
    run.stage = Stage.VALIDATE


def spent(run: Run, step: Step, rt: Runtime, error: BudgetExceeded | UnpricedCall) -> None:
    """An exhausted budget hands off or fails, as `budget.when_spent` says."""
    if rt.config.budget.when_spent == "hand_off":
        end(run, step, rt, "handed_off", "budget", str(error))
    else:
        run.error = error
        end(run, step, rt, "failed", "budget", str(error))


def leave_open(run: Run, rt: Runtime, error: CostReached) -> None:
    """The run stops where it stands, without an outcome: the same command goes on with it, and finds its answers."""
    run.error, run.stage = error, Stage.DONE
    rt.let_go(run.task.tenant, run.task_key, None)


def end(run: Run, step: Step, rt: Runtime, status: str, rule: str, words: str) -> None:
    """End the step without a value: handed off to a person, or failed."""
    decision = run.work.decision or Decision(action="hand_off", rule=rule, explanation=words)
    if status == "handed_off":
        run.handoff_reason = words
    run.end_step(
        StepResult(
            step=step.id, status="handed_off" if status == "handed_off" else "failed",
            decision=Decision(
                action="hand_off", rule=rule, explanation=words, confidence=decision.confidence,
                threshold=decision.threshold, certified=decision.certified, look=decision.look,
                compared=decision.compared,
            ),
            signals=run.work.signals, attempts=run.work.attempt,
        ),
        len(rt.steps),
    )
