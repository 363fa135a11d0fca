"""The models behind a confidence and their calibrations, fitted with scikit-learn, each told as plain JSON.

Fit within `one_thread()`: at these sizes more threads cost time, and one makes the sums the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.cascade.confidence import SUREST
from orchestrator.quality.fitted.fit_data import Array, Data

CLIP = 5.0
"""Standard deviations beyond which a feature says no more: one crazy value can't decide alone."""
MOST_ANSWERS = 200
"""Told apart, of all fields together: a fit is made some hundred times over."""
SHORTEST_SLOPE = 0.05
TREES, DEPTH, LEAVES, LEAST_IN_LEAF, BINS = 60, 4, 8, 20, 63


class Fitted(Protocol):
    def log_odds(self, data: Data) -> Array:
        """Of each record: (n,)."""

    def body(self, may_miss: list[bool]) -> dict[str, Any]:
        """The artefact's `model`; a feature that may not be missing has no `fill`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logistic:
    """`answered` are the answers told apart, as (name, place): each has log-odds of its own beside the weights, which
    count as far as the drafter was in doubt."""

    fill: Array
    odds: NDArray[np.bool_]
    means: Array
    scales: Array
    answered: list[tuple[str, float]]
    doubted_by: str | None
    estimator: Any

    def log_odds(self, data: Data) -> Array:
        found: Array = self.estimator.decision_function(self.design(data))
        return found

    def design(self, data: Data) -> Array:
        """What the estimator sees: the standardised features, then for each answer the doubt in it, 0 in the others."""
        x = (_filled(data.x, self.fill, self.odds) - self.means) / self.scales
        doubts = [np.where(data.answers[name] == place, data.doubt, 0.0) for name, place in self.answered]
        return np.column_stack([np.clip(x, -CLIP, CLIP), *doubts])

    def body(self, may_miss: list[bool]) -> dict[str, Any]:
        weights, width = self.estimator.coef_[0].tolist(), len(self.means)
        offsets: dict[str, dict[str, float]] = {}
        for (name, place), weight in zip(self.answered, weights[width:], strict=True):
            offsets.setdefault(name, {})[str(int(place))] = weight
        return {
            "kind": "logistic", "fill": _fill(self.fill, may_miss), "log_odds": self.odds.tolist(),
            "means": self.means.tolist(), "scales": self.scales.tolist(), "clip": CLIP, "weights": weights[:width],
            "intercept": float(self.estimator.intercept_[0]),
            **({"offsets": offsets, "doubted_by": self.doubted_by} if offsets else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    fill: Array
    estimator: Any

    def log_odds(self, data: Data) -> Array:
        found: Array = self.estimator.decision_function(np.where(np.isnan(data.x), self.fill, data.x))
        return found

    def body(self, may_miss: list[bool]) -> dict[str, Any]:
        return {
            "kind": "trees", "fill": _fill(self.fill, may_miss),
            "base": float(self.estimator._baseline_prediction[0, 0]),
            "trees": [_tree(of_class[0].nodes) for of_class in self.estimator._predictors],
        }


def fit_logistic(data: Data, strength: float) -> Logistic:
    """L2-regularised; `strength` is scikit-learn's C. Mean and scale are taken between the 1st and 99th percentile.

    An answer seen more than once has a weight of its own, its column left unscaled: then the penalty is that of a
    random slope, and an answer seen rarely stays near the others (Gelman and Hill 2007, chapter 13). The column is the
    doubt: what is learned of an answer where the drafter hesitates need not hold where it is sure.
    """
    from sklearn.linear_model import LogisticRegression

    fill = _medians(data.x)
    filled = _filled(data.x, fill, data.odds)
    low, high = np.quantile(filled, (0.01, 0.99), axis=0)
    held = np.clip(filled, low, high)
    held = np.where(low < high, held, filled)
    scales = held.std(axis=0)
    model = Logistic(
        fill=fill, odds=data.odds, means=held.mean(axis=0), scales=np.where(scales > 0.0, scales, 1.0),
        answered=_answered(data), doubted_by=data.doubted_by,
        estimator=LogisticRegression(C=strength, solver="newton-cholesky", max_iter=1000),
    )
    model.estimator.fit(*_both_kinds(model.design(data), data.right, data.weights))
    return model


def fit_trees(data: Data, seed: int) -> Trees:
    """Gradient boosting of few, small trees: the time to walk them is spent on every draft. What was answered is left
    out: there are too many answers to split by."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, fill = data.x, _medians(data.x)
    estimator = HistGradientBoostingClassifier(
        max_iter=TREES, max_depth=DEPTH, max_leaf_nodes=LEAVES, min_samples_leaf=LEAST_IN_LEAF, max_bins=BINS,
        learning_rate=0.1, l2_regularization=1.0, early_stopping=False, random_state=seed,
    )
    estimator.fit(*_both_kinds(np.where(np.isnan(x), fill, x), data.right, data.weights))
    return Trees(fill=fill, estimator=estimator)


def fit_platt(z: Array, right: Array, weights: Array) -> dict[str, Any]:
    """sigmoid(slope·z + offset) by Newton's method on Platt's smoothed targets (Platt 1999; Lin, Lin and Weng 2007).

    The slope is held at 0.05 or more: a lower one says that z tells nothing, and still its order is kept.
    """
    n_right, n_wrong = float(np.sum(weights * right)), float(np.sum(weights * (1.0 - right)))
    target = right * (n_right + 1.0) / (n_right + 2.0) + (1.0 - right) / (n_wrong + 2.0)
    slope, offset = _newton(np.stack([z, np.ones_like(z)], axis=1), target, weights, np.zeros_like(z))
    if slope < SHORTEST_SLOPE:
        slope, (offset,) = SHORTEST_SLOPE, _newton(np.ones((len(z), 1)), target, weights, SHORTEST_SLOPE * z)
    return {"kind": "platt", "slope": float(slope), "offset": float(offset)}


def fit_isotonic(z: Array, right: Array, weights: Array) -> dict[str, Any] | None:
    """Centred isotonic regression (Oron and Flournoy 2017): each pooled block stands at its mean z, and between the
    blocks it is linear, so that no two scores are tied. None where nothing but one block is left.

    Half a right and half a wrong record are added at either end, so that no prediction is 0 or 1.
    """
    from sklearn.isotonic import isotonic_regression

    z = np.concatenate([[z.min()], z, [z.max()]])
    right, weights = np.concatenate([[0.5], right, [0.5]]), np.concatenate([[1.0], weights, [1.0]])
    xs, at = np.unique(z, return_inverse=True)
    w = np.bincount(at, weights)
    level = isotonic_regression(np.bincount(at, weights * right) / w, sample_weight=w)
    block = np.concatenate([[0], np.cumsum(np.diff(level) > 1e-12)])
    mass = np.bincount(block, w)
    centres = np.bincount(block, w * xs) / mass
    heights = np.bincount(block, w * level) / mass
    return {"kind": "isotonic", "x": centres.tolist(), "y": heights.tolist()} if len(centres) > 1 else None


@contextmanager
def one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _both_kinds(x: Array, right: Array, weights: Array) -> tuple[Array, Array, Array | None]:
    """What scikit-learn fits on. A graded record counts as both kinds: its grade as right, the rest as wrong. Equal
    weights are left off: scikit-learn bins weighted records a hundred times slower."""
    graded = (right > 0.0) & (right < 1.0)
    y = (right > 0.0).astype(np.float64)
    if not graded.any():
        return x, y, None if weights.min() == weights.max() else weights
    part = np.where(graded, right, 1.0)
    return (
        np.concatenate([x, x[graded]]), np.concatenate([y, np.zeros(graded.sum())]),
        np.concatenate([weights * part, (weights * (1.0 - part))[graded]]),
    )


def _answered(data: Data) -> list[tuple[str, float]]:
    """The answers seen more than once, as (name, place): of many the most frequent."""
    found: list[tuple[int, str, float]] = []
    for name, column in data.answers.items():
        places, times = np.unique(column[~np.isnan(column)], return_counts=True)
        found += [(-int(seen), name, float(place)) for place, seen in zip(places, times, strict=True) if seen > 1]
    return [(name, place) for _, name, place in sorted(found)[:MOST_ANSWERS]]


def _filled(x: Array, fill: Array, odds: NDArray[np.bool_]) -> Array:
    """Without gaps, log-probabilities as log-odds."""
    whole = np.where(np.isnan(x), fill, x)
    held = np.minimum(whole, SUREST)
    return np.where(odds, held - np.log(-np.expm1(np.where(odds, held, -1.0))), whole)


def _medians(x: Array) -> Array:
    """Of what is known in each column; 0 where nothing is."""
    return np.nanmedian(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0)


def _newton(x: Array, target: Array, weights: Array, given: Array) -> Array:
    """Coefficients that minimise Σ w·(log(1 + exp(f)) - target·f), f = x·coefficients + given: convex, so that a full
    step or one halved a few times always descends."""
    def loss(at: Array) -> float:
        f = x @ at + given
        return float(np.sum(weights * (np.logaddexp(0.0, f) - target * f)))

    at = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ at + given, -500.0, 500.0)))
        gradient = x.T @ (weights * (p - target))
        curvature = (x * (weights * p * (1.0 - p))[:, None]).T @ x + 1e-9 * np.eye(x.shape[1])
        step = np.linalg.solve(curvature, gradient)
        now, size = loss(at), 1.0
        while loss(at - size * step) > now and size > 1e-6:
            size /= 2.0
        at = at - size * step
        if float(np.max(np.abs(size * step))) < 1e-10:
            break
    return at


def _fill(fill: Array, may_miss: list[bool]) -> list[float | None]:
    return [float(value) if missed else None for value, missed in zip(fill, may_miss, strict=True)]


def _tree(nodes: Mapping[str, Any]) -> dict[str, Any]:
    leaf = nodes["is_leaf"].astype(bool)
    return {
        "feature": [-1 if is_leaf else int(f) for f, is_leaf in zip(nodes["feature_idx"], leaf, strict=True)],
        "threshold": [0.0 if is_leaf else float(t) for t, is_leaf in zip(nodes["num_threshold"], leaf, strict=True)],
        "left": nodes["left"].tolist(), "right": nodes["right"].tolist(),
        "value": [float(v) if is_leaf else 0.0 for v, is_leaf in zip(nodes["value"], leaf, strict=True)],
    }
