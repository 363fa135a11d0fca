"""What certification reads and writes: labelled records in, a certificate out. Nothing is imported but the language."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

Loss = Literal["regret", "selective_error"]
Recommendation = Literal["cascade", "always_validate", "always_draft"]
Cost = int | float | Decimal


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled task, whose draft and (where measured) validator's answer were compared with a reference.

    `score` is the confidence: NaN where it could not be measured. `draft_ok` and `validator_ok` are True, False, or
    a grade in [0, 1]; `validator_ok` None means that the validator was not asked, and counts as right: a bound on
    regret then holds all the more. The costs are what one draft and one validation cost, both in the same unit;
    None is unknown. `propensity` is the probability with which this record's label came to be seen.
    """

    score: float
    draft_ok: bool | float
    validator_ok: bool | float | None = None
    draft_cost: Cost | None = None
    validator_cost: Cost | None = None
    propensity: float = 1.0

    def __post_init__(self) -> None:
        for name in ("draft_ok", "validator_ok"):
            grade = getattr(self, name)
            if grade is not None and not 0.0 <= grade <= 1.0:
                raise ValueError(f"{name} is {grade!r}: give True, False or a grade from 0 to 1")
        if not 0.0 < self.propensity <= 1.0:
            raise ValueError(f"propensity is {self.propensity!r}: a record that was seen had a probability in (0, 1]")

    @property
    def level(self) -> float | None:
        """The score as thresholds see it: None is never accepted, and infinity is the largest finite float."""
        if math.isnan(self.score) or self.score == -math.inf:
            return None
        return min(float(self.score), 1.7976931348623157e308)

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

    `n` records tested, out of `given`: the rest was spent on thinning to equal propensity or on fixing the
    candidates. `coverage` is the share of `n` accepted. `base_loss` is the loss at accept-all; `least_escalation`
    the share that any threshold holding `max_regret` must escalate. `cost_ratio` is the expected cost of
    the cascade over always validating, None where a cost is unknown. `tested` are the candidates around the threshold.
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
    accepted: int
    regretted: float
    coverage: float
    p_value: float | None
    base_loss: float
    least_escalation: float
    cost_ratio: float | None
    draft_accuracy: float | None
    validator_accuracy: float | None
    method: str
    computed_from: str
    tested: tuple[Tested, ...] = ()

    def body(self) -> Mapping[str, Any]:
        """As JSON types; no value is NaN or infinite."""
        return asdict(self)
