"""Unlabelled tasks: they say how many a threshold accepts, and fix candidates without a look at any label."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.quality.certification.sample import Sample
from orchestrator.quality.records import level_of

OTHER_POPULATION = 1e-6
"""Traffic is refused where its scores differ from the records' as in less than one of a million draws of the same."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """`n` unlabelled tasks. `levels` are the scores that a threshold can accept, descending."""

    n: int
    levels: list[float]

    @classmethod
    def of(cls, scores: Iterable[float]) -> Traffic:
        """Raises ValueError where one is no number."""
        levels, n = [], 0
        for score in scores:
            n += 1
            try:
                level = level_of(score)
            except TypeError:
                raise ValueError(f"a score of the traffic is {score!r}: give a number, NaN where unmeasured") from None
            if level is not None:
                levels.append(level)
        return cls(n, sorted(levels, reverse=True))

    def require_same_population(self, sample: Sample) -> None:
        """Raises ValueError where the shares accepted differ by more than chance (Dvoretzky, Kiefer and Wolfowitz)."""
        if not self.n or not sample.n:
            return
        allowed = math.sqrt(math.log(4.0 / OTHER_POPULATION) / 2.0) * (self.n**-0.5 + sample.n**-0.5)
        steps = steps_of(sample, self)
        apart = max(abs(s.accepted / sample.n - m / self.n) for s in steps for m in (s.least, s.most))
        if apart > allowed:
            raise ValueError(
                f"traffic is not of the records' population: at some threshold the shares accepted differ by "
                f"{apart:.3f}, where chance allows {allowed:.3f}. Give the scores of the other tasks of the same stream"
            )


class ThresholdStep(NamedTuple):
    """Thresholds between two labelled scores: `level`, which they accept, and the next one below.

    They accept the same `accepted` records, and from `least` (at `level`) to `most` unlabelled tasks.
    """

    level: float
    accepted: int
    least: int
    most: int


def steps_of(sample: Sample, traffic: Traffic) -> list[ThresholdStep]:
    """From the top down. The first stands above every labelled score: its `level` is infinite, it accepts no record."""
    descending = [-level for level in traffic.levels]
    steps, level, accepted, least = [], math.inf, 0, 0
    for following, end in zip(sample.levels, sample.accepted, strict=True):
        steps.append(ThresholdStep(level, accepted, least, bisect_left(descending, -following)))
        level, accepted, least = following, end, bisect_right(descending, -following)
    return [*steps, ThresholdStep(level, accepted, least, len(descending))]
