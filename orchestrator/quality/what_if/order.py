"""Does a policy answer more right than always validating? Task by task: where both serve the same, nothing differs.

It gains where it accepts a right draft and the validator is wrong, and loses where it accepts a wrong one, or asks a
person, and the validator is right. Each share has an exact interval at half the error, and their difference both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.finance.rates import long_run_rate
from orchestrator.quality.what_if.groups import Group
from orchestrator.quality.what_if.strata import Question, Told, cells_of, draft_right, estimated_share, validator_right
from orchestrator.quality.what_if.what_if import Figure


def against_validating(groups: Sequence[Group], confidence: float = 0.95) -> Figure | None:
    """The share answered right by the policy that makes the moves of these groups, less that of always validating; None
    where the validator is the reference, so that nothing can be better."""
    if not any(group.like.labelled for group in groups):
        return None
    half = 1.0 - (1.0 - confidence) / 2.0
    found = []
    for question in (_gained, _lost):
        rate = long_run_rate(cells_of(groups, question(None)), half)
        value = estimated_share(cells_of(groups, question(True)))
        if rate is None or value is None:
            return Figure(value=None, low=-1.0, high=1.0, note="not one of them is known")
        found.append((value, rate.low, rate.high))
    (gain, least_gain, most_gain), (loss, least_loss, most_loss) = found
    low, high = least_gain - most_loss, most_gain - least_loss
    return Figure(value=min(high, max(low, gain - loss)), low=low, high=high)


def _gained(contradicting: bool | None) -> Question:
    def asked(group: Group) -> Told:
        case = group.like
        if group.move.kind == "unknown":
            return Told(None)
        if group.move.kind == "accept" and case.labelled and case.right:
            return _not(validator_right(case, contradicting))
        return Told(False)

    return asked


def _lost(contradicting: bool | None) -> Question:
    def asked(group: Group) -> Told:
        case = group.like
        match group.move.kind:
            case "unknown":
                return Told(None)
            case "hand_off":
                return validator_right(case, contradicting)
            case "accept" if not case.labelled:
                return _not(draft_right(case))
            case "accept" if not case.right:
                return validator_right(case, contradicting)
        return Told(False)

    return asked


def _not(told: Told) -> Told:
    return replace(told, holds=None if told.holds is None else not told.holds)
