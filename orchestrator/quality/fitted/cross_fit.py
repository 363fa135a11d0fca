"""One whole fit of a confidence, the same on all records as on those of an outer fold.

    strength by inner folds, of the raw signal and what was answered -> of all features, where they clearly beat that or
    where no answers are known -> trees where they beat it by more than a standard error -> calibration on the inner
    out-of-fold log-odds -> the chosen model on all records given
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import sklearn  # noqa: F401  # where it is missing, this module is, and `confidence.py` says what to install

from orchestrator.config.feature_names import TAG_PREFIX
from orchestrator.quality.fitted.fit_data import Array, Data, Folds
from orchestrator.quality.fitted.fitted_models import Fitted, fit_isotonic, fit_logistic, fit_platt, fit_trees

INNER_FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
STRENGTHS_OF_FEW = (0.03, 0.1, 0.3, 1.0)
"""Of the raw signal with tags and answers alone, whose log-odds vary by the square root of it, a priori: by more than 1
is not believed of few labels."""
IN_DOUBT = 3.0
"""Times as strong where answers count as far as they were in doubt: the doubt is mostly a fraction."""
CLEARLY = 2.0
"""Standard errors by which all features must beat the raw signal with tags and answers."""
STRONGEST_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to fit, the features it fits on, its out-of-fold log-odds `z` and their log-loss (n,) once scaled by
    Platt."""

    fit: Callable[[Data], Fitted]
    data: Data
    z: Array
    losses: Array

    @classmethod
    def of(cls, fit: Callable[[Data], Fitted], data: Data, folds: Folds) -> Candidate:
        z = np.empty(len(data.right))
        for fold in np.unique(folds):
            z[folds == fold] = fit(data.part(folds != fold)).log_odds(data.part(folds == fold))
        platt = fit_platt(z, data.right, data.weights)
        f = platt["slope"] * z + platt["offset"]
        return cls(fit=fit, data=data, z=z, losses=np.logaddexp(0.0, f) - data.right * f)

    @property
    def loss(self) -> float:
        return float(np.average(self.losses, weights=self.data.weights))

    def gain_on(self, other: Candidate) -> tuple[float, float]:
        """How much less its loss is than the other's, and the standard error of that."""
        gains = (other.losses - self.losses) * self.data.weights
        return float(gains.mean()), float(gains.std(ddof=1)) / math.sqrt(len(gains))


def fit_whole(data: Data, seed: int, *, many: bool, raw: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """`features`, `model` and `calibration` of the artefact, and what to say about the choice. `many`: there are
    labels enough for trees and an isotonic calibration. `raw` is the feature that says most by itself, as far as is
    known beforehand."""
    folds = data.folds(INNER_FOLDS, seed)
    chosen, notes = _logistic(data, folds, raw)
    if many:
        chosen, more = _trees_if_better(chosen, data, folds, seed)
        notes = (*notes, *more)
    model = chosen.fit(chosen.data)
    scaled = fit_isotonic(chosen.z, data.right, data.weights) if many else None
    body = {
        "features": list(chosen.data.names), "model": model.body(chosen.data.may_miss),
        "calibration": scaled or fit_platt(chosen.z, data.right, data.weights),
    }
    return body, (*notes, *_strongest(body))


def _logistic(data: Data, folds: Folds, raw: str | None) -> tuple[Candidate, tuple[str, ...]]:
    """Where it is known what was answered: all features only if they are clearly better than the raw signal with tags
    and answers alone. Each brings noise of its own, which few labels do not average out."""
    if not data.answers:
        return _strength(data, folds, STRENGTHS), ()
    few = data.of_columns([name == raw or name.startswith(TAG_PREFIX) for name in data.names])
    kinds = [few] if few.doubted_by is None else [few, few.whatever_the_doubt()]
    small = min((_strength(kind, folds, _strengths_of(kind)) for kind in kinds), key=lambda one: one.loss)
    if few.names == data.names:
        return small, ()
    whole = _strength(replace(data, doubted_by=small.data.doubted_by, doubt=small.data.doubt), folds, STRENGTHS)
    gain, error = whole.gain_on(small)
    if gain > CLEARLY * error or not few.names:
        return whole, ()
    return small, (
        f"fitted on {raw}, tags and answers alone: the out-of-fold log-loss of all {len(data.names)} features is "
        f"{abs(gain):.4f} {'less' if gain > 0 else 'more'} (standard error {error:.4f})",
    )


def _strengths_of(few: Data) -> Sequence[float]:
    return [one * IN_DOUBT for one in STRENGTHS_OF_FEW] if few.doubted_by is not None else STRENGTHS_OF_FEW


def _strength(data: Data, folds: Folds, strengths: Sequence[float]) -> Candidate:
    """The strength with the least out-of-fold loss; of equals the most regular."""
    tried = [Candidate.of(partial(fit_logistic, strength=strength), data, folds) for strength in strengths]
    return min(tried, key=lambda one: one.loss)


def _trees_if_better(linear: Candidate, data: Data, folds: Folds, seed: int) -> tuple[Candidate, tuple[str, ...]]:
    trees = Candidate.of(partial(fit_trees, seed=seed), data, folds)
    gain, error = trees.gain_on(linear)
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
