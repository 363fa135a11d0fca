"""Decide: what the policy says of the draft, bounded by what is possible and by what no rule may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from orchestrator.cascade.bounds import broken, enforce
from orchestrator.cascade.chances import NEVER_SEEN, SEEN_IN_SERVICE, SEEN_IN_SHADOW
from orchestrator.cascade.lapse import keep_up
from orchestrator.cascade.policy_views import AfterView
from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.records import Action, Decision, StepResult


async def decide(runs: Sequence[Run], step: Step, rt: Runtime) -> None:
    """Each run leaves with a decision and its explanation: accepted, redrafted, escalated, handed off or declined."""
    await keep_up(rt)
    for run in runs:
        decision = _decision(run, step, rt)
        run.work.decision = decision
        _act(run, step, rt, decision)


def _decision(run: Run, step: Step, rt: Runtime) -> Decision:
    work, draft = run.work, run.work.draft
    assert draft is not None
    problem = rt.revoked.get(step.id) or step.loaded.confidence.problem
    threshold = float("inf") if run.collects else None if problem else step.threshold
    said = step.policy.after(AfterView(
        base=run.view(), signals=work.signals, value=draft.value, parsed=draft.parsed,
        confidence=step.confidence(work.signals, work.features, run.task), threshold=threshold,
        certified=step.certified, certificate_problem=problem, lapsed=rt.config.certificate_lapsed,
        guarantee=_guarantee(step), attempt=work.attempt, run_id=run.run_id,
    ))
    bounded = enforce(
        replace(said, forbid=work.forbid) if work.forbid else said,
        escalation_possible=partial(_can_escalate, run, step, rt),
        redraft_possible=work.attempt < step.config.draft.max_attempts,
        spot_check_possible=_can_check(run, step, rt),
        signals=work.signals, parsed=draft.parsed, seen=_seen(run, rt),
    )
    return _by_mode(run, rt, bounded)


def _guarantee(step: Step) -> str:
    certificate = step.loaded.confidence.certificate
    if certificate is None or not step.certified:
        return ""
    return f"{certificate['loss']} <= {certificate['max_regret']:g} with {certificate['confidence']:.0%} confidence"


def _can_escalate(run: Run, step: Step, rt: Runtime, to: str | None) -> bool:
    if rt.mode == "draft_only" or run.collects:
        return True  # not carried out: `_by_mode` serves the draft, a calibration stops there
    validator = rt.models[to] if to else step.validator
    if validator is None or validator.client.location in run.work.forbid:
        return False
    limit = rt.config.limits.escalation
    return not (rt.escalations_paused and limit is not None and limit.then == "hand_off")


def _can_check(run: Run, step: Step, rt: Runtime) -> bool:
    if run.collecting or step.validator is None:
        return False
    return step.validator.client.location not in run.work.forbid and rt.mode == "cascade"


def _seen(run: Run, rt: Runtime) -> frozenset[Action]:
    """After which decisions the validator comes to see the draft."""
    if run.collects or rt.mode not in ("cascade", "shadow"):
        return NEVER_SEEN
    return SEEN_IN_SHADOW if rt.mode == "shadow" else SEEN_IN_SERVICE


def _by_mode(run: Run, rt: Runtime, decision: Decision) -> Decision:
    """Shadow serves the validator and draft_only the draft, whatever was decided; what was decided stays on record.

    Not even draft_only serves a broken draft: that one goes to a person.
    """
    if run.collects or decision.action not in ("accept", "spot_check", "escalate"):
        return decision
    words = f"{rt.mode}: would {decision.action} ({decision.explanation})"
    if rt.mode == "shadow":
        return replace(decision, action="escalate", mode="redo", explanation=words, spot_check=False)
    if rt.mode == "draft_only" and decision.action != "accept":
        draft = run.work.draft
        fault = broken(run.work.signals, draft is not None and draft.parsed)
        action: Action = "hand_off" if fault else "accept"
        return replace(decision, action=action, explanation=words, spot_check=False, propensity=None)
    return decision


def _act(run: Run, step: Step, rt: Runtime, decision: Decision) -> None:
    match decision.action:
        case "redraft":
            run.work.attempt += 1
            run.stage = Stage.RECALL
        case "escalate" if not run.collects:
            run.stage = Stage.VALIDATE
        case "accept" | "spot_check":
            _accept(run, step, rt, decision)
        case "decline":
            run.end_step(_result(run, step, rt, "declined"), len(rt.steps))
        case "hand_off" | "escalate":
            run.handoff_reason = decision.explanation
            run.end_step(_result(run, step, rt, "handed_off"), len(rt.steps))


def _accept(run: Run, step: Step, rt: Runtime, decision: Decision) -> None:
    draft = run.work.draft
    assert draft is not None
    if decision.spot_check and decision.propensity is not None:
        run.checks.append((step.id, decision.propensity))
    run.end_step(_result(run, step, rt, "accepted", draft.value), len(rt.steps))


def _result(run: Run, step: Step, rt: Runtime, status: str, value: object = None) -> StepResult:
    draft_ok = None
    draft = run.work.draft
    if run.task.expected is not None and draft is not None and step.index + 1 == len(rt.steps):
        draft_ok = draft.parsed and step.compare.same(draft.value, run.task.expected)
    return StepResult(
        step=step.id, status=status, value=value,  # type: ignore[arg-type]  # one of the three literals above
        decision=run.work.decision, signals=run.work.signals, draft_ok=draft_ok, attempts=run.work.attempt,
    )
