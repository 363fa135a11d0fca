"""Validate: the strong model judges, repairs or redoes what was escalated. The draft is data (`prompts.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from orchestrator.cascade.draft import cacheable, end, gather_all, leave_open, parse, spent
from orchestrator.cascade.model import Model
from orchestrator.cascade.prompts import (
    JUDGE_INSTRUCTIONS,
    REPAIR_INSTRUCTIONS,
    judge_schema,
    repair_schema,
)
from orchestrator.cascade.run import Run
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.verdicts import ASKED_AGAIN, ask_for_verdict, redo_request, verdict_request
from orchestrator.errors import AuthRefused, BudgetExceeded, CostReached, ModelError, Outage, UnpricedCall
from orchestrator.records import Answer, Draft, Signal, StepResult, ValidateMode, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """A verdict, and the signals of the value it serves. `unserved`: why the one before it, which is kept nowhere else,
    was not served."""

    verdict: Verdict
    signals: dict[str, Signal] | None = None
    unserved: str = ""


async def validate(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Every escalated run of the group gets a verdict, or ends as the outage and budget settings say."""
    if len(runs) == 1:
        await _validate_one(runs[0], step, rt)
    else:
        await gather_all([_validate_one(run, step, rt) for run in runs])


async def _validate_one(run: Run, step: Step, rt: Runtime) -> None:
    if run.collects:  # without a draft: forbidden, too long, refused
        why = run.work.decision
        end(run, step, rt, "handed_off", why.rule if why else "not_drafted", why.explanation if why else "no draft")
        return
    run.escalated = True
    model, problem = _validator(run, step, rt)
    if model is None:
        end(run, step, rt, "handed_off", "no_validator", problem)
        return
    try:
        validated = await _with_outages(run, step, rt, model)
    except Outage as error:
        _outage(run, step, rt, error)
    except AuthRefused as error:
        end(run, step, rt, "handed_off", "key_refused", f"no verdict: {type(error).__name__}: {error}")
    except ModelError as error:
        end(run, step, rt, "handed_off", "validation_failed", f"no verdict: {type(error).__name__}: {error}")
    except (BudgetExceeded, UnpricedCall) as error:
        spent(run, step, rt, error)
    except CostReached as error:
        leave_open(run, rt, error)
    else:
        _conclude(run, step, rt, validated)


def _validator(run: Run, step: Step, rt: Runtime) -> tuple[Model | None, str]:
    decision = run.work.decision
    name = decision.to if decision and decision.to else None
    model = rt.models.get(name) if name else step.validator
    if model is None:
        return None, "the step has no validator"
    if model.client.location in run.work.forbid:
        return None, f"validator {model.alias!r} is {model.client.location}, which is forbidden for this task"
    if rt.mode == "draft_only":
        return None, "mode is draft_only"
    return model, ""


async def _with_outages(run: Run, step: Step, rt: Runtime, model: Model) -> Validated:
    ask = partial(_ask_for_verdict, run, step, rt, model)
    return await (rt.outages.through(model.alias, ask) if _on_outage(rt) == "wait" else ask())


def _on_outage(rt: Runtime) -> str:
    return rt.config.on_validator_outage or ("wait" if rt.in_file else "hand_off")


def _mode(run: Run, step: Step) -> ValidateMode:
    decision = run.work.decision
    if run.work.draft is None:
        return "redo"
    if decision and decision.mode:
        return decision.mode
    return step.config.validate_.mode if step.config.validate_ else "redo"


async def _ask_for_verdict(run: Run, step: Step, rt: Runtime, model: Model) -> Validated:
    mode = _mode(run, step)
    if mode == "redo":
        return await _redo(run, step, rt, model)
    judged = await (_judge if mode == "judge" else _repair)(run, step, rt, model)
    if judged.verdict.kind != "rejected" or step.config.validate_ is None or step.config.validate_.on_reject != "redo":
        return judged
    redone = await _redo(run, step, rt, model)
    reasons = (*judged.verdict.reasons, *redone.verdict.reasons)
    return Validated(
        verdict=Verdict(kind=redone.verdict.kind, value=redone.verdict.value, reasons=reasons, mode=mode),
        signals=redone.signals, unserved=f"{mode} was not served: {_said(judged.verdict)}",
    )


def _said(verdict: Verdict) -> str:
    return "; ".join(verdict.reasons) or "no reason given"


async def _judge(run: Run, step: Step, rt: Runtime, model: Model) -> Validated:
    draft = _draft(run)
    request = verdict_request(run, step, rt, model, JUDGE_INSTRUCTIONS, judge_schema())
    said = await ask_for_verdict(run, step, rt, model, "judge", request, ("approved", "rejected"))
    if isinstance(said, str):
        return _rejected("judge", f"the verdict was unreadable twice: {said}")
    if said.verdict == "rejected":
        return _rejected("judge", *said.reasons)
    return Validated(verdict=Verdict(kind="approved", value=draft.value, reasons=said.reasons, mode="judge"))


async def _repair(run: Run, step: Step, rt: Runtime, model: Model) -> Validated:
    draft = _draft(run)
    request = verdict_request(run, step, rt, model, REPAIR_INSTRUCTIONS, repair_schema(step.loaded.output_schema))
    said = await ask_for_verdict(run, step, rt, model, "repair", request, ("approved", "repaired", "rejected"))
    if isinstance(said, str):
        return _rejected("repair", f"the verdict was unreadable twice: {said}")
    reasons = said.reasons
    match said.verdict:
        case "approved" if draft.parsed:
            return Validated(verdict=Verdict(kind="approved", value=draft.value, reasons=reasons, mode="repair"))
        case "repaired":
            value = said.value
            signals = await weigh_value(run, step, value, said.answer)
            if not serves(signals):
                return _rejected("repair", "the repaired value breaks the output schema", *reasons)
            same = draft.parsed and step.compare.same(draft.value, value)
            kind = "approved" if same else "repaired"
            return Validated(
                verdict=Verdict(kind=kind, value=value, reasons=reasons, mode="repair"), signals=signals  # type: ignore[arg-type]
            )
        case _:
            return _rejected("repair", *reasons)


async def _redo(run: Run, step: Step, rt: Runtime, model: Model) -> Validated:
    """The validator does the task itself, unaware of the draft; broken answers are asked for once more."""
    structured = step.loaded.output_schema is not None
    for sample in range(ASKED_AGAIN + 1):
        request = redo_request(step, model, run.view(), sample)
        answered = await rt.calls.ask(
            run, step.id, "redo", model, request, cacheable=lambda a: cacheable(a, structured)
        )
        value, parsed = parse(answered.answer.text, structured)
        if not parsed:
            continue
        signals = await weigh_value(run, step, value, answered.answer)
        if serves(signals):
            draft = run.work.draft
            same = draft is not None and draft.parsed and step.compare.same(draft.value, value)
            verdict = Verdict(kind="approved" if same else "redone", value=value, mode="redo")
            return Validated(verdict=verdict, signals=signals)
    return _rejected("redo", "the validator's own answer broke the output schema twice")


async def weigh_value(run: Run, step: Step, value: Any, answer: Answer) -> dict[str, Signal]:
    """The step's signals of the validator's value: what `success.require` is asked of when it is served."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    made = Draft(value=value, text=text, parsed=value is not None, answer=answer)
    return await step.signals.measure(made, run.task, [made])


def serves(signals: dict[str, Signal]) -> bool:
    schema = signals.get("schema")
    return schema is None or schema.ok


def _draft(run: Run) -> Draft:
    draft = run.work.draft
    assert draft is not None, "judge and repair need a draft"
    return draft


def _rejected(mode: ValidateMode, *reasons: str) -> Validated:
    return Validated(verdict=Verdict(kind="rejected", reasons=reasons, mode=mode))


def _conclude(run: Run, step: Step, rt: Runtime, validated: Validated) -> None:
    verdict, draft = validated.verdict, run.work.draft
    run.work.verdict = verdict
    decision = run.work.decision
    if decision is not None and validated.unserved:
        run.work.decision = replace(decision, explanation=f"{decision.explanation}; {validated.unserved}")
    if verdict.kind == "rejected":
        words = f"rejected by the validator: {_said(verdict)}"
        fail = step.config.validate_ is not None and step.config.validate_.on_reject == "fail"
        run.work.draft_ok = False if draft is not None and verdict.mode != "redo" else None
        end(run, step, rt, "failed" if fail else "handed_off", "rejected", words)
        return
    if draft is not None:
        run.work.draft_ok = verdict.kind == "approved"
    if run.task.expected is not None and draft is not None and step.index + 1 == len(rt.steps):
        run.work.draft_ok = draft.parsed and step.compare.same(draft.value, run.task.expected)
    run.end_step(
        StepResult(
            step=step.id, status=verdict.kind, value=verdict.value, decision=run.work.decision, verdict=verdict,
            signals=validated.signals or run.work.signals, draft_ok=run.work.draft_ok, attempts=run.work.attempt,
        ),
        len(rt.steps),
    )


def _outage(run: Run, step: Step, rt: Runtime, error: Outage) -> None:
    words = f"the validator is out: {type(error).__name__}: {error}"
    draft = run.work.draft
    usable = draft is not None and draft.parsed and all(s.ok for s in run.work.signals.values() if s.required)
    match _on_outage(rt):
        case "degraded" if usable and draft is not None:
            run.degraded = True
            run.end_step(
                StepResult(step=step.id, status="accepted", value=draft.value, decision=run.work.decision,
                           signals=run.work.signals, attempts=run.work.attempt),
                len(rt.steps),
            )
        case "fail":
            run.error = error
            end(run, step, rt, "failed", "validator_outage", words)
        case _:
            end(run, step, rt, "handed_off", "validator_outage", words)
