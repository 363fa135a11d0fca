"""`finish`: the drafter ended of itself, instead of being cut off or filtered."""

from __future__ import annotations

from orchestrator.cascade.signals.measure import Compiled, Kind, Look, Options, Reading, Setting


def _measure(look: Look) -> Reading:
    reason = look.draft.answer.finish_reason
    return Reading(reason) if reason == "stop" else Reading(reason, False, f"the answer ended by {reason!r}")


def _compile(options: Options, setting: Setting) -> Compiled:
    return Compiled(now=_measure)


KIND = Kind(Options, _compile)
