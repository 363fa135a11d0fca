"""Whether a run was a success, from all that is known of it: the precedence of docs/outcomes.md for one run.

A requirement that failed decides. Otherwise the first known of: what people said (feedback, a resolved hand-off), a
status that is no success, a label, a proof, a spot check, the validator. Of the same kind, what was said last counts.
A cache hit follows the run it was served from, at each level after what is known of itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.records import SuccessSource

PRECEDENCE: tuple[SuccessSource, ...] = (
    "require", "feedback", "status", "label", "proof", "spot_check", "validator", "unknown",
)


@dataclass(frozen=True, slots=True)
class Known:
    """One thing known of a run's success, when it was learned, and whether of the run itself or of its source."""

    success: bool | None
    source: SuccessSource
    at: float
    own: bool = True


def said(source: str) -> SuccessSource:
    """The success source of a row of feedback: a resolved hand-off is a person's word, as feedback is."""
    return "spot_check" if source == "spot_check" else "feedback"


def effective(known: Iterable[Known]) -> Known:
    """What counts, among all that is known."""
    candidates = [one for one in known if one.success is not None]
    if not candidates:
        return Known(None, "unknown", 0.0)
    return min(candidates, key=lambda one: (PRECEDENCE.index(one.source), not one.own, -one.at))
