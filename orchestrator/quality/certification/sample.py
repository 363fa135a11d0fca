"""Labelled records in order, from the surest down, with what is lost above every threshold."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import itemgetter

from orchestrator.quality.records import Loss, Record, Tested, level_of

SHOWN_EACH_SIDE = 3
"""Candidates that a certificate shows on each side of its threshold."""


class Sample:
    """`levels` are the distinct scores, descending, and `accepted` how many records each of them accepts.

    `drafts` and `validators` are the grades of all records, in their order: 1.0 for a validator that was not asked.
    """

    def __init__(self, records: Sequence[Record], loss: Loss) -> None:
        self.records, self.loss = records, loss
        self.drafts = [float(r.draft_ok) for r in records]
        self.validators = [1.0 if r.validator_ok is None else float(r.validator_ok) for r in records]
        grades = {*self.drafts, *self.validators} if loss == "regret" else {*self.drafts}
        self.binary = grades <= {0.0, 1.0}
        if loss == "regret":
            self.losses = [v - d if v > d else 0.0 for d, v in zip(self.drafts, self.validators, strict=True)]
        else:
            self.losses = [1.0 - d for d in self.drafts]
        scores = [level_of(r.score) for r in records]
        sure = sorted(((-s, i) for i, s in enumerate(scores) if s is not None), key=itemgetter(0))
        self.order = [i for _, i in sure]
        self._descending = [s for s, _ in sure]
        self._ordered = [self.losses[i] for i in self.order]
        self._counts = [0, *accumulate(map(int, self._ordered))] if self.binary else []
        last_of_level = [s != following for s, following in zip(self._descending, self._descending[1:], strict=False)]
        ends = [*compress(range(1, len(sure)), last_of_level), *([len(sure)] if sure else [])]
        self.accepted = ends
        self.levels = [-self._descending[end - 1] for end in ends]

    @property
    def n(self) -> int:
        return len(self.records)

    @property
    def base(self) -> float:
        """The mean loss if every draft were accepted; 0 without records."""
        return math.fsum(self.losses) / self.n if self.records else 0.0

    def accepted_at(self, threshold: float) -> int:
        return bisect_right(self._descending, -threshold)

    def lost(self, accepted: int) -> float:
        """The summed loss of the `accepted` surest records: an exact count for right-or-wrong records."""
        return self._counts[accepted] if self.binary else math.fsum(self._ordered[:accepted])

    def validator_among(self, accepted: int) -> tuple[int, int] | tuple[None, None]:
        """Of the `accepted` surest records, (on how many the validator was asked, on how many it was wrong); None where
        it is graded."""
        asked = [ok for i in self.order[:accepted] if (ok := self.records[i].validator_ok) is not None]
        if not {0.0, 1.0}.issuperset(asked):
            return None, None
        return len(asked), sum(not ok for ok in asked)

    def accepted_losses(self, accepted: int) -> list[float]:
        """Of the `accepted` surest records, in the order of the records."""
        return [self.losses[i] for i in sorted(self.order[:accepted])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where the walk down from the safest candidate ended. `threshold` None: the first one failed already."""

    threshold: float | None
    p_value: float | None
    method: str
    tested: tuple[Tested, ...]


def keeps(records: Sequence[Record], generator: random.Random) -> list[bool]:
    """Keep each record with probability (least propensity / its own): what is kept was seen with equal probability."""
    least = min((r.propensity for r in records), default=1.0)
    return [r.propensity == least or generator.random() < least / r.propensity for r in records]
