"""What certification reads and writes: labelled records in, a certificate out. Nothing is imported but the language."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

Loss = Literal["regret", "selective"]
Recommendation = Literal["cascade", "always_validate", "always_draft"]
Cost = int | float | Decimal


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled task, whose draft and (where measured) validator's answer were compared with a reference.

    `score` is the confidence: NaN where it could not be measured. `draft_ok` and `validator_ok` are True, False, or
    a grade in [0, 1]; `validator_ok` None means that the validator was not asked, and counts as right: a bound on
    regret then holds all the more. The costs are what one draft and one validation cost, both in the same unit;
    None is unknown. `propensity` is the probability with which this record's label came to be seen.
    Raises ValueError where a value is none of these.
    """

    score: float
    draft_ok: bool | float
    validator_ok: bool | float | None = None
    draft_cost: Cost | None = None
    validator_cost: Cost | None = None
    propensity: float = 1.0

    def __post_init__(self) -> None:
        try:
            level_of(self.score)
            grades = 0.0 <= self.draft_ok <= 1.0 and (self.validator_ok is None or 0.0 <= self.validator_ok <= 1.0)
            costs = _is_cost(self.draft_cost) and _is_cost(self.validator_cost)
            ok = grades and costs and 0.0 < self.propensity <= 1.0
        except TypeError:
            ok = False
        if not ok:
            raise ValueError(_complaint(self))

    @property
    def level(self) -> float | None:
        """The score as thresholds see it: None is never accepted, and infinity is the largest finite float."""
        return level_of(self.score)

    @property
    def validator_grade(self) -> float:
        return 1.0 if self.validator_ok is None else float(self.validator_ok)

    @property
    def regret(self) -> float:
        """What is lost by serving this draft where the validator would have done better, in [0, 1]."""
        return max(0.0, self.validator_grade - float(self.draft_ok))

    @property
    def error(self) -> float:
        return 1.0 - float(self.draft_ok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One candidate threshold and its test: `loss` is a count for right-or-wrong records, else a sum of grades."""

    threshold: float
    accepted: int
    loss: float
    p_value: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A threshold, or None, with its data and its guarantee. A draft is accepted where score >= threshold.

    `n` records tested, out of `given`: the rest was spent on thinning to equal propensity or on fixing where
    a walk starts. `coverage` is the share of `n` accepted. `traffic` is how many unlabelled scores took part.
    `base_loss` is the loss at accept-all; `least_escalation` the share that any threshold holding `max_regret` must
    escalate. `cost_ratio` is the expected cost of the cascade (of the gate, where `drafts_first` is False) over
    always validating, None where a cost is unknown. Of the accepted records, `validator_asked` are those on which the
    validator's answer was compared, and `validator_wrong` those of them on which it was wrong (None: graded).
    `tested` are the candidates around the threshold.
    """

    threshold: float | None
    recommendation: Recommendation
    reasons: tuple[str, ...]
    guarantee: str
    loss: Loss
    max_regret: float
    confidence: float
    delta: float
    given: int
    n: int
    traffic: int = 0
    accepted: int
    regretted: float
    coverage: float
    p_value: float | None
    base_loss: float
    least_escalation: float
    cost_ratio: float | None
    drafts_first: bool = True
    draft_accuracy: float | None
    validator_accuracy: float | None
    validator_asked: int | None = None
    validator_wrong: int | None = None
    method: str
    computed_from: str
    tested: tuple[Tested, ...] = ()

    def body(self) -> Mapping[str, Any]:
        """As JSON types; no value is NaN or infinite."""
        return asdict(self)


def level_of(score: float) -> float | None:
    """A score as thresholds see it: None (NaN, minus infinity) is never accepted, infinity is the largest float."""
    if not score > -math.inf:
        return None
    return min(float(score), sys.float_info.max)


def _is_cost(cost: Cost | None) -> bool:
    return cost is None or (math.isfinite(cost) and cost >= 0)


def _complaint(record: Record) -> str:
    """Which value is no score, grade, cost or probability, and what to give instead."""
    for name, allowed, instead in (
        ("score", lambda x: level_of(x) is None or True, "a number, NaN where it could not be measured"),
        ("draft_ok", lambda x: 0.0 <= x <= 1.0, "True, False or a grade from 0 to 1; leave unlabelled tasks out"),
        ("validator_ok", lambda x: x is None or 0.0 <= x <= 1.0, "True, False, a grade from 0 to 1, None if not asked"),
        ("draft_cost", _is_cost, "a finite number from 0, None if unknown"),
        ("validator_cost", _is_cost, "a finite number from 0, None if unknown"),
        ("propensity", lambda x: 0.0 < x <= 1.0, "the probability, above 0, with which this label came to be seen"),
    ):
        value = getattr(record, name)
        try:
            fits = allowed(value)
        except TypeError:
            fits = False
        if not fits:
            return f"{name} is {value!r}: give {instead}"
    return f"{record!r} is no record"
