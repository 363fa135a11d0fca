"""Lapses: spot checks watch every certificate in use, and revoke it, for all processes, when it stops being true.

a check answered -> counts of the ledger -> evidence (quality/drift.py) -> lapse row + event, in one commit -> hook
From then on the rule does what `certificate_lapsed:` says. **Nothing is tuned anew: that takes a new certificate.**
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.cascade.hook import run_hook
from orchestrator.cascade.nulls import Nulls, broken, promise_of
from orchestrator.cascade.stretches import Seen, read_stretches
from orchestrator.config.certificate import known_as
from orchestrator.errors import StoreError
from orchestrator.quality.drift import EValues, Stretch
from orchestrator.store.lapses import InUse, StoredLapse

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime, Step

log = logging.getLogger(__name__)

REFRESH_S = 30.0
"""How old may be what a runtime knows of lapses, and of the evidence while no draft is found wrong."""


@dataclass(slots=True)
class Watch:
    """What a runtime knows. `seen` are the tasks by step; `answered` the steps with a check answered since the look."""

    read_at: float = -math.inf
    looked_at: dict[str, float] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)


async def keep_up(rt: Runtime) -> None:
    """Learn what was revoked, here or in another process: at most every REFRESH_S, so that a group may ask."""
    now = rt.clock()
    if now - rt.watch.read_at < REFRESH_S:
        return
    rt.watch.read_at = now
    if any(step.loaded.confidence.certificate is not None for step in rt.steps):
        await _read(rt)


async def look(rt: Runtime, step: Step, *, draft_ok: bool) -> None:
    """Weigh the evidence after a check, and revoke the certificate where it suffices.

    Only a wrong draft speaks against the bound on regret; after a right one, a look now and then is enough.
    """
    watch, now = rt.watch, rt.clock()
    watch.answered.add(step.id)
    if step.id in watch.waiting or (draft_ok and now - watch.looked_at.get(step.id, -math.inf) < REFRESH_S):
        return
    await _weigh(rt, step)


async def look_a_last_time(rt: Runtime) -> None:
    """Weigh what was answered since the last look: where nothing more is at work, no check to come would have it done.

    The store may be out of reach by then. That is logged, and whoever looks next finds the same.
    """
    for step in rt.steps:
        if step.id in rt.watch.answered:
            try:
                await _weigh(rt, step)
            except StoreError as error:
                log.warning("the last spot checks of pipeline %s are not weighed: %s", rt.config.pipeline, error)


async def _weigh(rt: Runtime, step: Step) -> None:
    watch, now = rt.watch, rt.clock()
    watch.waiting.add(step.id)
    async with watch.looking:
        watch.waiting.discard(step.id)
        watch.answered.discard(step.id)
        watch.looked_at[step.id] = now
        used, promise = in_use(rt, step), promise_of(rt, step)
        if used is None or promise is None or step.id in rt.revoked:
            return
        seen = watch.seen.setdefault(step.id, Seen())
        at, stretches = await read_stretches(rt.store, used, seen, now=now, accepted_only=promise.accepted_only)
        shown = await asyncio.to_thread(broken, promise, stretches)  # years of them take a while; answers go on
        if shown is not None:
            why = _why(shown.found, at, stretches, shown.nulls)
            await rt.store.record_lapse(used.pipeline, used.step, used.certificate, why, at[shown.found.since])
            await _read(rt)


def in_use(rt: Runtime, step: Step) -> InUse | None:
    """The certificate that decides in this step at present, if one does."""
    certificate = step.loaded.confidence.certificate
    if certificate is None or not step.certified or rt.mode != "cascade":
        return None
    names = [rule.name for rule in step.policy.afters]
    first = next((i for i, rule in enumerate(step.policy.afters) if rule.reads_confidence), len(names))
    digest, earlier = known_as(certificate)
    return InUse(
        pipeline=rt.config.pipeline, step=step.id, certificate=digest, rules_before=tuple(names[:first]),
        earlier=earlier,
    )


def _why(found: EValues, at: Sequence[float], stretches: Sequence[Stretch], nulls: Nulls) -> str:
    since, later = _day(at[found.since]), stretches[found.since :]
    drawn = sum(stretch.drawn for stretch in later)
    if found.calibration is not None and nulls.calibration is not None and found.calibration > found.regret:
        gaps = [gap for stretch in later for gap in stretch.gaps]
        off = math.fsum(gaps) / len(gaps)
        return (
            f"spot checks show the confidence off by more than {nulls.calibration}: in {len(gaps)} of them "
            f"since {since} it is {abs(off):.2g} too {'high' if off > 0 else 'low'}"
        )
    wrong: Counter[float] = Counter()
    for stretch in later:
        wrong.update(stretch.wrong)
    share = math.fsum(k / propensity for propensity, k in wrong.items()) / sum(stretch.tasks for stretch in later)
    loss = "the share of wrong drafts accepted" if nulls.accepted_only else "regret"
    return (
        f"spot checks show {loss} above {nulls.regret}: {wrong.total()} wrong in {drawn} since {since}, "
        f"about {min(share, 1.0):.2g}"
    )


async def _read(rt: Runtime) -> None:
    used = {step.id: one for step in rt.steps if (one := in_use(rt, step)) is not None}
    for lapse in await rt.store.lapses(rt.config.pipeline):
        one = used.get(lapse.step)
        if one is None or lapse.certificate not in one.known_as:
            continue
        rt.revoked[lapse.step] = f"revoked on {_day(lapse.at)}: {lapse.reason}"
        if lapse.told_at is None and await rt.store.claim_lapse_notice(lapse.pipeline, lapse.step, lapse.certificate):
            rt.in_background(_tell(rt, lapse))


async def _tell(rt: Runtime, lapse: StoredLapse) -> None:
    """Run the hook. Its failure is on record, and nothing else: the certificate has lapsed either way."""
    hook, config = rt.config.on_lapse, rt.config
    log.warning("pipeline %s, step %s: its certificate is %s", lapse.pipeline, lapse.step, rt.revoked[lapse.step])
    if hook is None:
        return
    networks = config.local_networks if config.residency == "local" else None
    problem = await run_hook(hook, _told(rt, lapse), folder=rt.loaded.path.parent, local_networks=networks)
    if problem is not None:
        log.warning("pipeline %s: `on_lapse` failed: %s", lapse.pipeline, problem)
        await rt.store.record_event(lapse.pipeline, "on_lapse_failed", f"step {lapse.step}: {problem}")


def _told(rt: Runtime, lapse: StoredLapse) -> Mapping[str, Any]:
    confidence = next(step.config.confidence for step in rt.steps if step.id == lapse.step)
    return {
        "event": "certificate_lapsed", "pipeline": lapse.pipeline, "step": lapse.step,
        "certificate": confidence.certificate if confidence else None, "digest": lapse.certificate,
        "reason": lapse.reason, "at": datetime.fromtimestamp(lapse.at, UTC).isoformat(timespec="seconds"),
        "certificate_lapsed": rt.config.certificate_lapsed,
    }


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
