"""With what probability the validator came to see a recorded draft, over all draws, and whether a look gave no answer.

The probability is the one that was logged with the decision (`cascade/chances.py`), whatever became of the draft then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.quality.history.call_costs import CallCosts
from orchestrator.quality.history.earlier_draws import chance_and_reach
from orchestrator.quality.history.stored_config import StoredStep
from orchestrator.records import Status

VALIDATED: frozenset[Status] = frozenset({"approved", "repaired", "redone"})


@dataclass(frozen=True, slots=True)
class Looked:
    """`chance` is 0.0 where the validator was to see the draft and did not; `unanswered` is then the probability with
    which that was drawn (None: by no draw, or it can't be told). `reached`: the draft came, by some draws at least, to
    the rule that compares its confidence."""

    chance: float
    unanswered: float | None
    reached: bool


def looked_at(row: Any, step: StoredStep, features: Mapping[str, float | None], costs: CallCosts) -> Looked:
    """Of a drafted step's row, with the state of its spot check as `look` and the logged probability as `chance`."""
    if row.chance is not None:
        chance, reached = float(row.chance), bool(row.compared)
    else:
        chance, reached = chance_and_reach(row, step, features)
    if is_unanswered(row):
        return Looked(0.0, chance or row.propensity, reached)
    if _in_vain(row, step, costs):
        return Looked(0.0, chance if 0.0 < chance < 1.0 else None, reached)
    return Looked(chance, None, reached)


def is_rejected(row: Any, costs: CallCosts) -> bool:
    """Did a judge or a repair reject the draft?"""
    return row.rule == "rejected" and costs.asked("judge", "repair")


def is_unanswered(row: Any) -> bool:
    """Was a spot check drawn that told nothing? One that is still to be made is unanswered as well: left out, its like
    would count for less than they are."""
    return row.look in ("pending", "unanswered", "forbidden") or (row.look == "done" and row.look_ok is None)


def _in_vain(row: Any, step: StoredStep, costs: CallCosts) -> bool:
    """Was the draft sent to the validator, or to be sent, and seen by nobody? What is no rule of the policy (an outage,
    a budget) stands where that was so."""
    if row.status in VALIDATED:
        return row.draft_ok is None
    if row.status == "accepted":
        return bool(row.action == "escalate")  # served for want of a validator
    return not (step.decides(row.rule) or is_rejected(row, costs))
