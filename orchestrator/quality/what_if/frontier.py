"""Cost against quality for every threshold, and the upper hull: what no other threshold, nor a mix of two, beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.quality.what_if.groups import KeptRuns
from orchestrator.quality.what_if.what_if import PolicyFigures, figures, unsupported

MOST = 200
"""Thresholds at most: with more distinct confidences, as many of them as that, evenly spaced in rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """A policy at one threshold. `on_hull`: no other one is better at its cost, nor a mix of two others."""

    threshold: float
    figures: PolicyFigures
    on_hull: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """By rising threshold. `left_out` thresholds accept drafts whose truth can never be seen."""

    points: tuple[FrontierPoint, ...]
    distinct: int
    left_out: int

    def shown(self, rows: int = 20) -> tuple[FrontierPoint, ...]:
        """About as many points, evenly spaced, with both ends."""
        if len(self.points) <= rows:
            return self.points
        step = (len(self.points) - 1) / (rows - 1)
        return tuple(self.points[round(i * step)] for i in range(rows))


def frontier(kept: KeptRuns, *, surest: int, doubtful: int, confidence: float = 0.95) -> Frontier:
    """`surest` is the policy whose move is made where confidence passes any threshold, `doubtful` where it passes
    none."""
    levels = kept.confidences()
    thresholds = _spaced(levels, MOST)
    points, left_out = [], 0
    for threshold, groups in zip(thresholds, kept.at_thresholds(thresholds, surest, doubtful), strict=True):
        if unsupported(groups):
            left_out += 1
            continue
        points.append((threshold, figures(f"threshold {threshold:.6g}", groups, confidence)))
    hull = upper_hull([
        (found.cost.value, found.quality.value) if found.cost.value is not None and found.quality.value is not None
        else None for _, found in points
    ])
    return Frontier(
        points=tuple(
            FrontierPoint(threshold=threshold, figures=found, on_hull=i in hull)
            for i, (threshold, found) in enumerate(points)
        ),
        distinct=len(levels), left_out=left_out,
    )


def upper_hull(points: Sequence[tuple[float, float] | None]) -> set[int]:
    """Indices of (cost, quality) on the upper hull, from the cheapest to the best: Andrew's monotone chain (1979)."""
    order = sorted(
        ((point, i) for i, point in enumerate(points) if point is not None), key=lambda p: (p[0][0], -p[0][1])
    )
    chain: list[tuple[tuple[float, float], int]] = []
    best = -math.inf
    for point, i in order:
        if point[1] <= best:
            continue
        while len(chain) > 1 and _turns_left(chain[-2][0], chain[-1][0], point):
            chain.pop()
        chain.append((point, i))
        best = point[1]
    return {i for _, i in chain}


def _turns_left(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """b lies on or below the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) >= 0.0


def _spaced(levels: Sequence[float], most: int) -> list[float]:
    if len(levels) <= most:
        return list(levels)
    step = (len(levels) - 1) / (most - 1)
    return [levels[round(i * step)] for i in range(most)]
