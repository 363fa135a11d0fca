"""What follows an outcome, off the answer's path: its spot checks and its baseline.

A spot check is durable from the moment it is drawn. So only some wait in memory, and few are under way at once: the
others stay in the store until there is room, together with those of processes that ended before they were done, and
with those that no money or no model was there for. **Each is settled once, by whichever process comes to it.**
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cascade.again import Reason
from orchestrator.cascade.baseline import answer_alone, is_drawn
from orchestrator.cascade.run import Run
from orchestrator.cascade.spot import Check, drawn, restored, spot_check
from orchestrator.errors import BudgetExceeded, ModelError, OrchestratorError, StoreError, UnpricedCall

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Spot checks under way: beside the caller's calls, so that no answer waits for one."""
WAITING = 256
"""Most that wait in memory; and most that a round finds no money for before it ends."""
TAKE_UP_S = 60.0
"""How often a busy process takes up what was left undone: by others, or for want of money or of a model."""

_WAITS_FOR: dict[Reason, tuple[str, str]] = {
    "budget": ("money", "there is room"), "outage": ("the validator", "it can be asked"),
}


def check_later(settled: Iterable[Run], rt: Runtime) -> None:
    """Start in the background what the runs' policies drew; `Pipeline.aclose` waits for it."""
    live = [run for run in settled if run.outcome is not None and not run.outcome.resumed and not run.collecting]
    for run in live:
        for check in drawn(run, rt):
            _enlist(check, rt)
        if is_drawn(run, rt):
            rt.in_background(answer_alone(run, rt))
    if live and rt.mode == "cascade" and rt.clock() - rt.backlog.begun_at >= TAKE_UP_S:
        take_up(rt)
    _set_to_work(rt)


def take_up(rt: Runtime) -> None:
    """Begin a round: start the spot checks that this process had no room for, or that an earlier one left undone."""
    rt.backlog.more, rt.backlog.begun_at = True, rt.clock()
    rt.backlog.put_off.clear()
    _set_to_work(rt)


async def left_waiting(rt: Runtime) -> str:
    """What is to be said of spot checks that were put off, once nothing is at work any more; "" where none was."""
    reasons = Counter(rt.backlog.put_off.values())
    if not reasons or not (count := await rt.store.count_pending_spot_checks(rt.config.pipeline)):
        return ""
    waits = "spot checks wait" if count > 1 else "spot check waits"
    for_what, until = _WAITS_FOR[reasons.most_common(1)[0][0]]
    return f"{count:,} {waits} for {for_what}: the next run makes {'them' if count > 1 else 'it'} once {until}"


def _enlist(check: Check, rt: Runtime) -> None:
    backlog = rt.backlog
    if len(backlog.waiting) >= WAITING:
        backlog.more = True
    elif check.key not in backlog.here:
        backlog.here.add(check.key)
        backlog.waiting.append(check)


def _set_to_work(rt: Runtime) -> None:
    backlog = rt.backlog
    for _ in range(min(AT_ONCE - backlog.workers, len(backlog.waiting) + backlog.more)):
        backlog.workers += 1
        rt.in_background(_work(rt))


async def _work(rt: Runtime) -> None:
    backlog = rt.backlog
    try:
        while (check := await _next(rt)) is not None:
            try:
                if (refusal := await spot_check(check, rt)) is not None:
                    _put_off(check, refusal, rt)
            finally:
                backlog.here.discard(check.key)
                if backlog.taking.locked():
                    backlog.ended.add(check.key)
    except StoreError as error:
        log.warning("spot checks of pipeline %s wait for the store: %s", rt.config.pipeline, error)
    finally:
        backlog.workers -= 1


async def _next(rt: Runtime) -> Check | None:
    backlog = rt.backlog
    if not backlog.waiting and backlog.more:
        async with backlog.taking:
            if not backlog.waiting and backlog.more:
                await _fetch(rt)
    return backlog.waiting.popleft() if backlog.waiting else None


async def _fetch(rt: Runtime) -> None:
    """From the store, where those of this process that are under way, or were put off, are pending as well."""
    backlog = rt.backlog
    backlog.more = False
    backlog.ended.clear()
    pending = await rt.store.pending_spot_checks(
        rt.config.pipeline, WAITING, without=backlog.here | backlog.put_off.keys()
    )
    for one in pending:
        key = (one.run_id, one.step)
        if key not in backlog.here | backlog.ended and (check := await restored(one, rt)) is not None:
            backlog.here.add(key)
            backlog.waiting.append(check)
    backlog.more = backlog.more or len(pending) == WAITING
    _set_to_work(rt)


def _put_off(check: Check, refusal: OrchestratorError, rt: Runtime) -> None:
    """It stays to be made: what refused it may fit another. Where it would refuse all, or has refused many, the round
    is over."""
    backlog = rt.backlog
    of_money = isinstance(refusal, BudgetExceeded | UnpricedCall)
    backlog.put_off[check.key] = "outage" if isinstance(refusal, ModelError) else "budget"
    if not of_money:
        backlog.here.difference_update(other.key for other in backlog.waiting)
        backlog.waiting.clear()
    if not of_money or len(backlog.put_off) >= WAITING:
        backlog.more = False
