"""Settle: was it a success, what did it cost, and the outcome made durable before anyone sees it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.canonical import stable
from orchestrator.cascade.run import Run, Stage
from orchestrator.errors import ExpressionError
from orchestrator.records import (
    SERVED,
    Decision,
    Money,
    Outcome,
    Status,
    StepResult,
    SuccessSource,
    Verdict,
)
from orchestrator.store.entries import HandOffEntry, OutcomeEntry, SpotCheckEntry, StepEntry, StoredOutcome

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime

_WEIGHT: dict[Status, int] = {"accepted": 0, "approved": 1, "repaired": 2, "redone": 3}


async def settle(runs: Sequence[Run], rt: Runtime, *, wait: bool = True) -> None:
    """One commit for the group's outcomes; then those who wait for the same task get it too.

    Without `wait`, a run that follows one still under way is left where it is, to enter again.
    """
    followers = [run for run in runs if run.follow is not None]
    leaders = [run for run in runs if run.follow is None]
    for run in leaders:
        _guard(run, rt)
    outcomes = [(run, _outcome(run, rt)) for run in leaders]
    if outcomes:
        await rt.store.finish([_entry(run, outcome, rt) for run, outcome in outcomes])
    for run, outcome in outcomes:
        run.outcome, run.stage = outcome, Stage.DONE
        rt.let_go(run.task.tenant, run.task_key, outcome)
        if rt.telemetry is not None:
            rt.telemetry.ended(run.spans, outcome, rt.clock())
    for run in followers:
        if wait or (run.follow is not None and run.follow.done()):
            await _follow(run)


async def _follow(run: Run) -> None:
    """Take the outcome of the run that is followed; where that was given up, take its place."""
    assert run.follow is not None
    await asyncio.wait([run.follow])
    if run.follow.cancelled():
        run.follow, run.task_key, run.stage = None, "", Stage.ADMIT
        return
    run.outcome, run.stage = replace(run.follow.result(), id=run.task.id, resumed=True), Stage.DONE


def _guard(run: Run, rt: Runtime) -> None:
    """Guards on the answer: a value that one of them refuses, or that breaks it, goes to a person."""
    last = _last(run)
    if last is None or last.status not in SERVED or last.skipped:
        return
    for name, guard in rt.guards:
        try:
            passed = bool(guard(copy.deepcopy(last.value), copy.deepcopy(run.task)))
            words = f"guard {name} refused the answer"
        except Exception as error:  # noqa: BLE001 - a user's code may raise anything, and all of it fails closed
            passed, words = False, f"guard {name} could not judge the answer: {type(error).__name__}: {error}"
        if not passed:
            run.handoff_reason = words
            decision = Decision(action="hand_off", rule=name, explanation=words)
            run.results[last.step] = replace(last, status="handed_off", value=None, decision=decision)
            run.checks = [(step, p) for step, p in run.checks if step != last.step]
            return


def _last(run: Run) -> StepResult | None:
    """The last step that ran: its value is the run's."""
    ran = [r for r in run.results.values() if not r.skipped]
    return ran[-1] if ran else None


def status_of(results: Iterable[StepResult]) -> Status:
    """A run that ended early has that step's status; else the one furthest from an unchecked draft."""
    status: Status = "accepted"
    for result in results:
        if result.skipped:
            continue
        if result.status not in _WEIGHT:
            return result.status
        if _WEIGHT[result.status] > _WEIGHT[status]:
            status = result.status
    return status


def _success(run: Run, status: Status, last: StepResult | None, rt: Runtime) -> tuple[bool | None, SuccessSource]:
    """In the order of docs/outcomes.md: require, label, proof, validator; else unknown. Feedback comes later."""
    if status not in SERVED or last is None:
        return False, "status"
    if rt.require is not None:
        try:
            required = rt.require.holds({**run.view(), "value": last.value, "signals": last.signals})
        except ExpressionError:
            required = False
        if not required:
            return False, "require"
    if run.task.expected is not None:
        step = next(s for s in rt.steps if s.id == last.step)
        return step.compare.same(last.value, run.task.expected), "label"
    proofs = [s.ok for s in last.signals.values() if s.proof]
    if proofs:
        return all(proofs), "proof"
    if status == "accepted":
        return None, "unknown"
    return True, "validator"


def _outcome(run: Run, rt: Runtime) -> Outcome:
    status, last = status_of(run.results.values()), _last(run)
    success, source = _success(run, status, last, rt)
    costs, known = sum_money(c.cost for c in run.calls)
    return Outcome(
        run_id=run.run_id, id=run.task.id, status=status,
        value=last.value if last is not None and status in SERVED else None,
        success=success, success_source=source, decision=last.decision if last else None,
        verdict=last.verdict if last else None, steps=dict(run.results), calls=tuple(run.calls), costs=costs,
        cost_usd=in_usd(costs, known), saved_usd=in_usd(sum_money(run.saved)[0], True) if run.saved else None,
        degraded=run.degraded, error=f"{type(run.error).__name__}: {run.error}" if run.error else None,
        again_of=run.again_of,
    )


def sum_money(amounts: Iterable[Money | None]) -> tuple[tuple[Money, ...], bool]:
    """(sums per currency, all known): an unknown amount is never counted as zero."""
    sums: dict[str, Money] = {}
    known = True
    for amount in amounts:
        if amount is None:
            known = False
        elif (before := sums.get(amount.currency)) is None:
            sums[amount.currency] = amount
        else:
            sums[amount.currency] = Money(nano=before.nano + amount.nano, currency=amount.currency)
    return tuple(sums[currency] for currency in sorted(sums)) if len(sums) > 1 else tuple(sums.values()), known


def in_usd(costs: tuple[Money, ...], known: bool) -> Decimal | None:
    """The sum in dollars where all of it is known and in dollars; nothing spent is 0."""
    if not known or any(c.currency != "USD" for c in costs):
        return None
    return costs[0].amount if costs else Decimal(0)


def _entry(run: Run, outcome: Outcome, rt: Runtime) -> OutcomeEntry:
    now = rt.clock()
    keep = rt.config.content.keep
    saved, _ = sum_money(run.saved)
    handoff = _handoff(run, outcome)
    told = rt.keeps_content or handoff is not None  # explanations may quote a task, as a validator's reasons do
    known = all(c.cost is not None for c in run.calls) and len(outcome.costs) <= 1
    contents = [(f"value:{s.step}" if len(rt.steps) > 1 else "value", stable(s.value))
                for s in run.results.values() if s.value is not None]
    draft = run.work.draft
    if draft is not None and (outcome.status != "accepted" or run.checks):
        contents.append((f"draft:{rt.steps[run.step].id}", stable(draft.value if draft.parsed else draft.text)))
    return OutcomeEntry(
        run_id=run.run_id, pipeline=rt.config.pipeline, tenant=run.task.tenant, config_id=rt.loaded.config_id,
        status=outcome.status, ended_at=now, success=outcome.success, success_source=outcome.success_source,
        escalated=run.escalated and not rt.calibrating, degraded=run.degraded,
        from_cache=run.recalled and not run.calls,
        error=outcome.error if told or not outcome.error else outcome.error.partition(":")[0],
        cost=_only(outcome.costs) if known else None, saved=_only(saved) if saved else None,
        tags={t: run.task.meta[t] for t in rt.config.tags if t in run.task.meta},
        steps=tuple(_step_entry(r, run, told=told) for r in run.results.values() if not r.skipped),
        contents=tuple(contents), keep_until=now + keep if isinstance(keep, float) else 0,
        handoff=handoff, source_run_id=run.source_run_id, again_of=run.again_of,
        spot_checks=tuple(SpotCheckEntry(step=s, propensity=p) for s, p in run.checks),
        signals=tuple((kept.tenant, kept.memo_key, body) for kept, body in run.kept),
    )


def _only(costs: tuple[Money, ...]) -> Money:
    return costs[0] if costs else Money(nano=0)


def _handoff(run: Run, outcome: Outcome) -> HandOffEntry | None:
    if outcome.status != "handed_off" or run.collecting:
        return None
    last = _last(run)
    return HandOffEntry(step=last.step if last else "", reason=run.handoff_reason or "handed off")


def _step_entry(result: StepResult, run: Run, *, told: bool) -> StepEntry:
    d = result.decision
    return StepEntry(
        step=result.step, status=result.status, action=d.action if d else None, rule=d.rule if d else None,
        explanation=d.explanation if d and told else None, confidence=d.confidence if d else None,
        threshold=d.threshold if d else None, certified=bool(d and d.certified),
        propensity=d.propensity if d else None, look=d.look if d else None, compared=d.compared if d else None,
        verdict=result.verdict.kind if result.verdict else None,
        draft_ok=result.draft_ok, attempts=result.attempts, from_cache=run.recalled,
        features=run.features.get(result.step, b"[]"),
    )


def outcome_or_failure(run: Run) -> Outcome:
    """The run's outcome; for a task that was refused before it became a run, a `failed` one without a run id."""
    if run.outcome is not None:
        return run.outcome
    words = f"{type(run.error).__name__}: {run.error}" if run.error else "not run"
    return Outcome(run_id="", id=run.task.id, status="failed", success=False, success_source="status", error=words)


def outcome_of(stored: StoredOutcome, *, id: str | None = None) -> Outcome:
    """A stored outcome as callers know it, with all its calls, marked `resumed`."""
    steps = {s.step: _step_result(s, stored) for s in stored.steps}
    last = list(steps.values())[-1] if steps else None
    return Outcome(
        run_id=stored.run_id, id=id, status=stored.status, value=stored.value, success=stored.success,
        success_source=stored.success_source, decision=last.decision if last else None,
        verdict=last.verdict if last else None, steps=steps, calls=stored.calls,
        costs=(stored.cost,) if stored.cost else (),
        cost_usd=in_usd((stored.cost,) if stored.cost else (), stored.cost is not None),
        saved_usd=stored.saved.amount if stored.saved and stored.saved.currency == "USD" else None,
        degraded=stored.degraded, resumed=True, error=stored.error, again_of=stored.again_of,
    )


def _step_result(s: StepEntry, stored: StoredOutcome) -> StepResult:
    decision = None
    if s.action is not None:
        decision = Decision(
            action=s.action, rule=s.rule or "", explanation=s.explanation or "", confidence=s.confidence,
            threshold=s.threshold, certified=s.certified, propensity=s.propensity, look=s.look, compared=s.compared,
        )
    value = stored.contents.get(f"value:{s.step}", stored.value if len(stored.steps) == 1 else None)
    verdict = Verdict(kind=s.verdict) if s.verdict else None
    return StepResult(step=s.step, status=s.status, value=value, decision=decision, verdict=verdict,
                      draft_ok=s.draft_ok, attempts=s.attempts)
