"""Apply a fitted confidence: the numbers of a draft in, the probability that it is right out. No numpy, no I/O.

    features -> fill what is missing -> log-odds, by weights or by trees -> calibrated probability
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Features = Mapping[str, float | None]
Tree = tuple[int, float, "Tree | float", "Tree | float"]
"""(feature, threshold, the branch where x <= threshold, the other); a leaf is its value."""

BEYOND_THE_ENDS = 1e-3
"""The share of the way to 0 or 1 that an isotonic calibration still goes outside its outermost centres: what was not
observed is not promised, and order is kept."""


class FittedConfidence:
    """One artefact, as `orchestrator.config.confidence.read_confidence` returns it, ready to apply.

    A feature that is None, NaN or infinite is missing. It counts as its `fill`; where `fill` is null the feature was
    never missing when the model was fitted, and the confidence of a draft without it is unknown.
    """

    __slots__ = ("_calibrate", "_columns", "_log_odds", "_tags", "is_probability")

    def __init__(self, artefact: Mapping[str, Any]) -> None:
        model = artefact["model"]
        names: list[str] = artefact["features"]
        fill = model.get("fill", [None] * len(names))
        self._columns = [(name, value) for name, value in zip(names, fill, strict=True)]
        self._tags = {name: tag(name) for name in names if name.startswith("tag.")}
        self._log_odds = _log_odds(model)
        self._calibrate = _calibration(artefact["calibration"]) if model["kind"] != "signal" else _as_it_is
        self.is_probability = model["kind"] != "signal"

    def of(self, features: Features, meta: Mapping[str, Any]) -> float | None:
        """P(right), in [0, 1]; for kind "signal" the signal itself. None: unknown, for a number it needs is missing."""
        z = self.log_odds(features, meta)
        return self._calibrate(z) if z is not None and -math.inf < z < math.inf else None

    def log_odds(self, features: Features, meta: Mapping[str, Any]) -> float | None:
        """Before the calibration."""
        row: list[float] = []
        tags = self._tags
        for name, fill in self._columns:
            x = features.get(name)
            if x is None or not -math.inf < x < math.inf:
                if name in tags:
                    key, value = tags[name]
                    x = 1.0 if key in meta and str(meta[key]) == value else 0.0
                elif fill is None:
                    return None
                else:
                    x = fill
            row.append(x)
        return self._log_odds(row)


def tag(name: str) -> tuple[str, str]:
    """`tag.KEY=VALUE` in its parts: the feature is 1 where str(meta[KEY]) == VALUE, else 0."""
    key, _, value = name.removeprefix("tag.").partition("=")
    return key, value


def _log_odds(model: Mapping[str, Any]) -> Callable[[Sequence[float]], float]:
    match model["kind"]:
        case "signal":
            return lambda row: row[0]
        case "logistic":
            return _logistic(model)
        case "trees":
            return _trees(model["base"], [nested(tree) for tree in model["trees"]])
    raise ValueError(f"model of kind {model['kind']!r}: known are signal, logistic, trees")


def _logistic(model: Mapping[str, Any]) -> Callable[[Sequence[float]], float]:
    """Intercept + Σ weight · z, with z = (x - mean) / scale held within ± clip: no one feature can decide alone."""
    columns = list(zip(model["means"], model["scales"], model["weights"], strict=True))
    intercept, limit = model["intercept"], model.get("clip") or math.inf

    def log_odds(row: Sequence[float]) -> float:
        total = intercept
        for x, (mean, scale, weight) in zip(row, columns, strict=True):
            z = (x - mean) / scale
            total += weight * (limit if z > limit else -limit if z < -limit else z)
        return float(total)

    return log_odds


def _trees(base: float, trees: Sequence[Tree | float]) -> Callable[[Sequence[float]], float]:
    def log_odds(row: Sequence[float]) -> float:
        total = base
        for node in trees:
            while isinstance(node, tuple):
                feature, threshold, left, right = node
                node = left if row[feature] <= threshold else right
            total += node  # a leaf
        return total

    return log_odds


def nested(tree: Mapping[str, Sequence[Any]], node: int = 0) -> Tree | float:
    """A tree of the file, from node `node` on, as tuples: twice as fast to walk as its five lists."""
    feature = tree["feature"][node]
    if feature == -1:
        return float(tree["value"][node])
    left, right = nested(tree, tree["left"][node]), nested(tree, tree["right"][node])
    return feature, tree["threshold"][node], left, right


def sigmoid(z: float) -> float:
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    odds = math.exp(max(z, -700.0))
    return odds / (1.0 + odds)


def _as_it_is(value: float) -> float:
    return value


def _calibration(calibration: Mapping[str, Any]) -> Callable[[float], float]:
    match calibration["kind"]:
        case "none":
            return sigmoid
        case "platt":
            slope, offset = calibration["slope"], calibration["offset"]
            return lambda z: sigmoid(slope * z + offset)
        case "isotonic":
            return _isotonic(calibration["x"], calibration["y"])
    raise ValueError(f"calibration of kind {calibration['kind']!r}: known are none, platt, isotonic")


def _isotonic(xs: Sequence[float], ys: Sequence[float]) -> Callable[[float], float]:
    """Linear between the centres (Oron and Flournoy 2017), so that order is kept and no ties are made."""
    first_x, last_x, first_y, last_y = xs[0], xs[-1], ys[0], ys[-1]

    def calibrated(z: float) -> float:
        if z >= last_x:
            beyond = z - last_x
            return float(last_y + (1.0 - last_y) * BEYOND_THE_ENDS * beyond / (1.0 + beyond))
        if z <= first_x:
            beyond = first_x - z
            return float(first_y - first_y * BEYOND_THE_ENDS * beyond / (1.0 + beyond))
        at = bisect_right(xs, z)
        x0, x1, y0, y1 = xs[at - 1], xs[at], ys[at - 1], ys[at]
        return float(y0 + (y1 - y0) * (z - x0) / (x1 - x0))

    return calibrated
