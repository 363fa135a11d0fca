"""Apply a fitted confidence: the numbers of a draft in, the probability that it is right out. No numpy, no I/O.

    features -> fill what is missing -> log-odds, by weights or by trees -> calibrated probability
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from orchestrator.records import Features

Node = tuple[int, float, Any, Any]
"""(feature, threshold, the node where x <= threshold, the other); of a leaf (-1, value, None, None)."""

BEYOND_THE_ENDS = 1e-3
"""The share of the way to 0 or 1 that an isotonic calibration still goes outside its outermost centres: what was not
observed is not promised, and order is kept."""


SUREST = -1e-6
"""Log-probabilities are held below this: beyond, nothing tells one near-certain token from another."""


def log_odds_of(log_probability: float) -> float:
    """log(p / (1 - p)) of log p, held within the odds of a million to one."""
    held = min(log_probability, SUREST)
    return held - math.log(-math.expm1(held))


def doubt_of(features: Features, name: str | None) -> float:
    """1 - p of the log-probability of that name; 1 where there is none."""
    log_probability = features.get(name) if name is not None else None
    if log_probability is None or not math.isfinite(log_probability):
        return 1.0
    return -math.expm1(min(log_probability, 0.0))


class FittedConfidence:
    """One artefact, as `orchestrator.config.confidence.read_confidence` returns it, ready to apply.

    Beside its features, an answer from a closed list adds the offset of its place there, times the doubt in it
    (`doubted_by`); one that was not seen adds none. A draft of which it is not on record whether it had such an answer,
    from before that was kept, has no confidence. A feature that is None, NaN or infinite is missing. It counts as
    its `fill`; where `fill` is null the feature was never missing when the model was fitted, and the confidence of a
    draft without it is unknown.
    """

    __slots__ = (
        "_calibrate", "_doubted_by", "_log_odds", "_numbers", "_numbers_of", "_offsets", "_tags", "is_probability",
    )

    def __init__(self, artefact: Mapping[str, Any]) -> None:
        model = artefact["model"]
        names: list[str] = artefact["features"]
        fill = model.get("fill", [None] * len(names))
        order = sorted(range(len(names)), key=lambda i: names[i].startswith("tag."))
        self._numbers = [(names[i], fill[i]) for i in order if not names[i].startswith("tag.")]
        self._tags = [tag(name) for name in names if name.startswith("tag.")]
        self._numbers_of = _all_of([name for name, _ in self._numbers])
        self._log_odds = _log_odds(model, order)
        self._doubted_by: str | None = model.get("doubted_by")
        self._offsets = [
            (name, {float(place): offset for place, offset in of.items()})
            for name, of in (model.get("offsets") or {}).items()
        ]
        self._calibrate = _calibration(artefact["calibration"]) if model["kind"] != "signal" else _as_it_is
        self.is_probability = model["kind"] != "signal"

    def of(self, features: Features, meta: Mapping[str, Any]) -> float | None:
        """P(right), in [0, 1]; for kind "signal" the signal itself. None: unknown, for a number it needs is missing."""
        z = self.log_odds(features, meta)
        return self._calibrate(z) if z is not None and -math.inf < z < math.inf else None

    def log_odds(self, features: Features, meta: Mapping[str, Any]) -> float | None:
        """Before the calibration."""
        row = self._row(features)
        if row is None:
            return None
        if self._tags:
            row = [*row, *[1.0 if key in meta and str(meta[key]) == value else 0.0 for key, value in self._tags]]
        z = self._log_odds(row)
        for name, of in self._offsets:
            if name not in features:
                return None
            place = features[name]
            if place is not None and (offset := of.get(place)):
                z += offset * doubt_of(features, self._doubted_by)
        return z

    def _row(self, features: Features) -> Sequence[float] | None:
        try:
            whole: Sequence[float] = self._numbers_of(features)
            if math.isfinite(sum(whole)):
                return whole
        except (KeyError, TypeError):
            pass
        return self._filled(features)

    def _filled(self, features: Features) -> list[float] | None:
        row: list[float] = []
        for name, fill in self._numbers:
            x = features.get(name)
            if x is None or not -math.inf < x < math.inf:
                x = fill
            if x is None:
                return None
            row.append(x)
        return row


def tag(name: str) -> tuple[str, str]:
    """`tag.KEY=VALUE` in its parts: the feature is 1 where str(meta[KEY]) == VALUE, else 0."""
    key, _, value = name.removeprefix("tag.").partition("=")
    return key, value


def _all_of(names: Sequence[str]) -> Callable[[Features], Any]:
    """All values in one go; raises KeyError where one is not there."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda features: tuple(features[name] for name in names)


def _log_odds(model: Mapping[str, Any], order: Sequence[int]) -> Callable[[Sequence[float]], float]:
    """Of rows whose i-th number is feature `order[i]` of the artefact."""
    match model["kind"]:
        case "signal":
            return lambda row: row[0]
        case "logistic":
            return _logistic(model, order)
        case "trees":
            place = {feature: i for i, feature in enumerate(order)}
            return _trees(model["base"], [_node(tree, 0, place) for tree in model["trees"]])
    raise ValueError(f"model of kind {model['kind']!r}: known are signal, logistic, trees")


def _logistic(model: Mapping[str, Any], order: Sequence[int]) -> Callable[[Sequence[float]], float]:
    """Intercept + Σ weight · z, with z = (x - mean) / scale held within ± clip: no one feature can decide alone. Where
    the model says so, x is a log-probability and taken as log-odds."""
    limit, columns = model.get("clip") or math.inf, []
    are_odds = model.get("log_odds") or [False] * len(order)
    for i in order:
        mean, scale, weight = model["means"][i], model["scales"][i], model["weights"][i]
        held = weight * limit if weight else 0.0
        columns.append((mean - limit * scale, mean + limit * scale, mean, weight / scale, -held, held, are_odds[i]))
    intercept = float(model["intercept"])

    def log_odds(row: Sequence[float]) -> float:
        total = intercept
        for x, (low, high, mean, slope, at_low, at_high, as_odds) in zip(row, columns, strict=True):
            if as_odds:
                x = log_odds_of(x)
            total += (x - mean) * slope if low < x < high else at_high if x >= high else at_low
        return total

    return log_odds


def _trees(base: float, trees: Sequence[Node]) -> Callable[[Sequence[float]], float]:
    def log_odds(row: Sequence[float]) -> float:
        total = base
        for feature, threshold, left, right in trees:
            while feature >= 0:
                feature, threshold, left, right = left if row[feature] <= threshold else right
            total += threshold  # a leaf holds its value there
        return total

    return log_odds


def _node(tree: Mapping[str, Sequence[Any]], node: int, place: Mapping[int, int]) -> Node:
    """A tree of the file, from node `node` on, as nested tuples: twice as fast to walk as its five lists."""
    feature = tree["feature"][node]
    if feature == -1:
        return -1, float(tree["value"][node]), None, None
    left, right = _node(tree, tree["left"][node], place), _node(tree, tree["right"][node], place)
    return place[feature], tree["threshold"][node], left, right


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
