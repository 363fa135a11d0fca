"""One whole fit of a confidence, the same on all records as on those of an outer fold.

    strength by inner folds -> trees where they beat it by more than a standard error -> calibration on the inner
    out-of-fold log-odds -> the chosen model on all records given
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sklearn  # noqa: F401  # where it is missing, this module is, and `confidence.py` says what to install
from numpy.typing import NDArray

from orchestrator.errors import InputError
from orchestrator.quality.fitted.feature_table import FeatureTable
from orchestrator.quality.fitted.fitted_models import Array, Fitted, fit_isotonic, fit_logistic, fit_platt, fit_trees

INNER_FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
STRONGEST_SHOWN = 5

Folds = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """x (n, features), NaN where missing; grades, weights of mean about 1 and groups (n,)."""

    names: tuple[str, ...]
    x: Array
    right: Array
    weights: Array
    groups: Sequence[Hashable]
    may_miss: list[bool]

    @classmethod
    def of(cls, table: FeatureTable) -> Data:
        x = np.array(table.rows, dtype=np.float64)
        return cls(
            names=table.names, x=x, right=np.array(table.right), groups=table.groups,
            weights=np.ones(table.n) if table.weights is None else np.array(table.weights),
            may_miss=[bool(np.isnan(column).any()) for column in x.T],
        )

    def part(self, wanted: NDArray[np.bool_]) -> Data:
        return Data(
            names=self.names, x=self.x[wanted], right=self.right[wanted], weights=self.weights[wanted],
            groups=[group for group, is_in in zip(self.groups, wanted, strict=True) if is_in], may_miss=self.may_miss,
        )

    def folds(self, k: int, seed: int) -> Folds:
        """The fold of each record, groups kept whole, right and wrong spread evenly. Raises InputError where the
        records outside a fold are all of one kind."""
        kinds: dict[Hashable, bool] = {}
        for group, right in zip(self.groups, self.right, strict=True):
            kinds.setdefault(group, right > 0.5)
        order = list(kinds)
        random.Random(seed).shuffle(order)
        order.sort(key=kinds.__getitem__)
        fold_of = {group: i % k for i, group in enumerate(order)}
        folds = np.array([fold_of[group] for group in self.groups], dtype=np.int64)
        for fold in range(k):
            graded = self.right[folds != fold]
            if not len(graded) or graded.max() == 0.0 or graded.min() == 1.0:
                raise InputError(
                    f"the right or the wrong drafts stand in too few of {len(order)} groups to spread over {k} folds",
                    hint="label drafts of more different tasks",
                )
        return folds


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to fit, its out-of-fold log-odds `z` and their log-loss (n,) once scaled by Platt."""

    fit: Callable[[Data], Fitted]
    z: Array
    losses: Array

    @classmethod
    def of(cls, fit: Callable[[Data], Fitted], data: Data, folds: Folds) -> Candidate:
        z = np.empty(len(data.right))
        for fold in np.unique(folds):
            z[folds == fold] = fit(data.part(folds != fold)).log_odds(data.x[folds == fold])
        platt = fit_platt(z, data.right, data.weights)
        f = platt["slope"] * z + platt["offset"]
        return cls(fit=fit, z=z, losses=np.logaddexp(0.0, f) - data.right * f)


def fit_whole(data: Data, seed: int, *, many: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`features`, `model` and `calibration` of the artefact, and what to say about the choice. `many`: there are
    labels enough for trees and an isotonic calibration."""
    folds = data.folds(INNER_FOLDS, seed)
    chosen = _logistic(data, folds)
    notes: tuple[str, ...] = ()
    if many:
        chosen, notes = _trees_if_better(chosen, data, folds, seed)
    model = chosen.fit(data)
    scaled = fit_isotonic(chosen.z, data.right, data.weights) if many else None
    body = {
        "features": list(data.names), "model": model.body(data.may_miss),
        "calibration": scaled or fit_platt(chosen.z, data.right, data.weights),
    }
    return body, (*notes, *_strongest(body))


def _logistic(data: Data, folds: Folds) -> Candidate:
    """The strength with the least out-of-fold loss; of equals the most regular."""
    tried = [Candidate.of(partial(_fit_logistic, strength=strength), data, folds) for strength in STRENGTHS]
    return min(tried, key=lambda one: float(np.average(one.losses, weights=data.weights)))


def _fit_logistic(data: Data, strength: float) -> Fitted:
    return fit_logistic(data.x, data.right, data.weights, strength)


def _trees_if_better(linear: Candidate, data: Data, folds: Folds, seed: int) -> tuple[Candidate, tuple[str, ...]]:
    trees = Candidate.of(lambda part: fit_trees(part.x, part.right, part.weights, seed), data, folds)
    gains = (linear.losses - trees.losses) * data.weights
    gain, error = float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))
    better = gain > error
    told = (
        f"gradient boosting {'taken' if better else 'not taken'}: its out-of-fold log-loss is {abs(gain):.4f} "
        f"{'less' if gain > 0 else 'more'} than that of logistic regression (standard error {error:.4f})"
    )
    return (trees if better else linear), (told,)


def _strongest(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The features of most weight, in log-odds per standard deviation; of trees those asked most often."""
    model, names = body["model"], body["features"]
    if model["kind"] == "logistic":
        ranked = sorted(zip(model["weights"], names, strict=True), key=lambda row: -abs(row[0]))
        shown = ", ".join(f"{name} {weight:+.2f}" for weight, name in ranked[:STRONGEST_SHOWN])
        return (f"strongest (log-odds per standard deviation): {shown}",)
    asked = Counter(names[f] for tree in model["trees"] for f in tree["feature"] if f >= 0)
    return ("asked most often: " + ", ".join(f"{name} {n}" for name, n in asked.most_common(STRONGEST_SHOWN)),)
