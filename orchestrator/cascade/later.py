"""What follows an outcome, off the answer's path: its spot checks and its baseline.

A spot check is durable from the moment it is drawn. So only some wait in memory, and few are under way at once: the
others stay in the store until there is room, together with those of processes that ended before they were done.
**Each is settled once, by whichever process comes to it.**
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.cascade.baseline import answer_alone, is_drawn
from orchestrator.cascade.run import Run
from orchestrator.cascade.spot import Check, drawn, restored, spot_check
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Spot checks under way: beside the caller's calls, so that no answer waits for one."""
WAITING = 256
TAKE_UP_S = 60.0
"""How often a busy process asks for what others left undone."""


def check_later(settled: Iterable[Run], rt: Runtime) -> None:
    """Start in the background what the runs' policies drew; `Pipeline.aclose` waits for it."""
    live = [run for run in settled if run.outcome is not None and not run.outcome.resumed and not run.collecting]
    for run in live:
        for check in drawn(run, rt):
            _enlist(check, rt)
        if is_drawn(run, rt):
            rt.in_background(answer_alone(run, rt))
    if live and rt.mode == "cascade" and rt.clock() - rt.backlog.taken_up_at >= TAKE_UP_S:
        rt.backlog.more = True
    _set_to_work(rt)


def take_up(rt: Runtime) -> None:
    """Start the spot checks that this process had no room for, or that an earlier one left undone."""
    rt.backlog.more = True
    _set_to_work(rt)


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
                await spot_check(check, rt)
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
    """From the store, the oldest first. Those of this process that are under way are still pending there."""
    backlog = rt.backlog
    most = WAITING + AT_ONCE
    backlog.more, backlog.taken_up_at = False, rt.clock()
    backlog.ended.clear()
    pending = await rt.store.pending_spot_checks(rt.config.pipeline, most)
    for one in pending:
        key = (one.run_id, one.step)
        if key not in backlog.here | backlog.ended and (check := await restored(one, rt)) is not None:
            backlog.here.add(key)
            backlog.waiting.append(check)
    backlog.more = backlog.more or len(pending) == most
    _set_to_work(rt)
