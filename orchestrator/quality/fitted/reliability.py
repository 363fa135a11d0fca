"""How good is a confidence? Its order (AUROC), Brier score, log-loss, calibration error, and the reliability diagram.

`right` holds True, False, or a grade in [0, 1], which counts as that share of a right record and the rest of a wrong
one. `weights` are one over the probability with which a record came to be seen. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from orchestrator.intervals import clopper_pearson

Grades = Sequence[bool | float]
Weights = Sequence[float] | None

MOST_BINS = 10
LEAST_PER_BIN = 20
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """`n` records of similar prediction: its mean, the share that was right, and the exact 95% interval of that share
    (None where records have weights or grades)."""

    predicted: float
    right: float
    n: int
    low: float | None = None
    high: float | None = None

    def body(self) -> dict[str, float | int]:
        row: dict[str, float | int] = {"predicted": self.predicted, "right": self.right, "n": self.n}
        return row if self.low is None or self.high is None else row | {"low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """`error`: mean distance of predicted and observed over the bins (ECE, equal-mass bins). `by_chance`: what that
    shows on average where every prediction is true, for so few records are never right in exactly the predicted share.
    """

    bins: tuple[Bin, ...]
    error: float
    by_chance: float


def auroc(
    scores: Sequence[float], right: Grades, weights: Weights = None, folds: Sequence[Hashable] | None = None
) -> float | None:
    """P(score of a right record > score of a wrong one), ties counting half; None without both kinds.

    With `folds` only pairs within one fold are compared: each fold was scored by a model of its own.
    """
    groups: dict[Hashable, list[tuple[float, float, float]]] = {}
    for i, score in enumerate(scores):
        weight = 1.0 if weights is None else weights[i]
        row = score, weight * right[i], weight * (1.0 - right[i])
        groups.setdefault(None if folds is None else folds[i], []).append(row)
    counted = [_pairs(rows) for rows in groups.values()]
    pairs = math.fsum(all_pairs for _, all_pairs in counted)
    return math.fsum(ordered for ordered, _ in counted) / pairs if pairs > 0.0 else None


def brier(probabilities: Sequence[float], right: Grades, weights: Weights = None) -> float:
    """Mean of (p - right)²: 0 is perfect, 0.25 is what a constant 0.5 gets."""
    return mean([(p - r) ** 2 for p, r in zip(probabilities, right, strict=True)], weights)


def log_losses(probabilities: Sequence[float], right: Grades) -> list[float]:
    """-log of the probability that was given to what came true, in nats, record by record."""
    held = [min(max(p, LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY) for p in probabilities]
    return [-r * math.log(p) - (1.0 - r) * math.log1p(-p) for p, r in zip(held, right, strict=True)]


def calibration(probabilities: Sequence[float], right: Grades, weights: Weights = None) -> Reliability:
    """Up to ten bins of about equally many records (at least 20 each where there are as many), by rising prediction.

    Equal predictions stand in one bin. Raises ValueError where there is no record.
    """
    if not probabilities:
        raise ValueError("no records to measure a calibration on")
    rows = sorted(zip(probabilities, right, weights or [1.0] * len(probabilities), strict=True), key=lambda row: row[0])
    bins = max(1, min(MOST_BINS, len(rows) // LEAST_PER_BIN))
    parts: list[list[_Row]] = [[]]
    taken = 0
    for _, tied in groupby(rows, key=lambda row: row[0]):
        if parts[-1] and taken * bins >= len(rows) * len(parts):
            parts.append([])
        more = list(tied)
        parts[-1] += more
        taken += len(more)
    return _calibration([part for part in parts if part], exact=weights is None and all(r in (0, 1) for r in right))


def diagram(bins: Sequence[Mapping[str, float]], *, title: str = "Reliability") -> str:
    """The reliability diagram of `measured["reliability"]` as one SVG document: observed over predicted, the diagonal,
    the interval of each bin, and below the share of records in each."""
    most = max((b["n"] for b in bins), default=1)
    marks = "".join(_mark(b, most) for b in bins)
    ticks = "".join(_tick(t / 4) for t in range(5))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 420" width="360" height="420" role="img" '
        'font-family="sans-serif" font-size="11" fill="#333">'
        f"<title>{escape(title)}</title>"
        f'<rect width="360" height="420" fill="#fff"/><text x="50" y="20" font-size="13">{escape(title)}</text>'
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#999"/>'
        f'<line x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke="#999" stroke-dasharray="4 3"/>'
        f"{ticks}{marks}"
        f'<text x="{_x(0.5)}" y="412" text-anchor="middle">predicted P(right); bars: records</text>'
        f'<text transform="translate(14 {_y(0.5)}) rotate(-90)" text-anchor="middle">share right</text></svg>\n'
    )


def mean(values: Sequence[float], weights: Weights = None) -> float:
    if weights is None:
        return math.fsum(values) / len(values)
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


_Row = tuple[float, bool | float, float]
"""Prediction, grade, weight."""


def _calibration(parts: Sequence[Sequence[_Row]], *, exact: bool) -> Reliability:
    bins, distances, chances, shares = [], [], [], []
    for part in parts:
        weights = [w for _, _, w in part]
        share = math.fsum(weights)
        predicted = math.fsum(p * w for p, _, w in part) / share
        right = math.fsum(r * w for _, r, w in part) / share
        interval = clopper_pearson(sum(bool(r) for _, r, _ in part), len(part)) if exact else None
        bins.append(Bin(
            predicted=predicted, right=right, n=len(part),
            low=interval.low if interval else None, high=interval.high if interval else None,
        ))
        variance = math.fsum(w * w * p * (1.0 - p) for p, _, w in part) / share**2
        distances.append(abs(predicted - right))
        chances.append(math.sqrt(2.0 / math.pi * variance))
        shares.append(share)
    return Reliability(bins=tuple(bins), error=mean(distances, shares), by_chance=mean(chances, shares))


def _pairs(rows: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Of rows (score, weight right, weight wrong): the weight of the pairs in order, ties half, and of all pairs.

    A graded record makes no pair with itself.
    """
    ordered = below = 0.0
    for _, tied in groupby(sorted(rows), key=lambda row: row[0]):
        of = list(tied)
        right, wrong = math.fsum(r for _, r, _ in of), math.fsum(w for _, _, w in of)
        ordered += right * (below + wrong / 2.0) - math.fsum(r * w for _, r, w in of) / 2.0
        below += wrong
    itself = math.fsum(r * w for _, r, w in rows)
    return ordered, math.fsum(r for _, r, _ in rows) * math.fsum(w for _, _, w in rows) - itself


_LEFT, _TOP, _SIZE, _BARS = 50, 32, 290, 45


def _x(share: float) -> float:
    return round(_LEFT + share * _SIZE, 1)


def _y(share: float) -> float:
    return round(_TOP + (1.0 - share) * _SIZE, 1)


def _tick(share: float) -> str:
    return (
        f'<text x="{_x(share)}" y="{_y(0) + 14}" text-anchor="middle">{share:g}</text>'
        f'<text x="{_LEFT - 5}" y="{_y(share) + 4}" text-anchor="end">{share:g}</text>'
    )


def _mark(row: Mapping[str, float], most: float) -> str:
    x, bar = _x(row["predicted"]), round(_BARS * row["n"] / most, 1)
    whisker = ""
    if "low" in row:
        whisker = f'<line x1="{x}" y1="{_y(row["low"])}" x2="{x}" y2="{_y(row["high"])}" stroke="#4477aa"/>'
    told = f"predicted {row['predicted']:.3f}, right {row['right']:.3f}, n = {row['n']:g}"
    return (
        f'{whisker}<circle cx="{x}" cy="{_y(row["right"])}" r="4" fill="#4477aa"><title>{told}</title></circle>'
        f'<rect x="{x - 3}" y="{395 - bar}" width="6" height="{bar}" fill="#bbccdd"/>'
    )
