"""A confidence fitted by `orchestrator.quality.fitted.confidence` on some tasks of a pool, applied to others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pools import Floats, Item

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.quality.fitted.confidence import fit_confidence

RAW, TOKEN = "score", "span_q0"
"""The raw score as a feature, where it is not the log-probability of the least sure token, which is one already."""


def fitted_scores(
    items: Sequence[Item], fit_on: NDArray[np.int64], apply_to: NDArray[np.int64], *, seed: int
) -> Floats:
    """P(right) of the tasks at `apply_to`, by a model that saw the labels of those at `fit_on` only; NaN is unknown.

    The raw score is one feature among the others, and what is kept where a fit is no better.
    """
    known = [items[i] for i in fit_on]
    raw = TOKEN if TOKEN in known[0].features else RAW
    artefact = fit_confidence([features(item) for item in known], [item.draft_ok for item in known], raw=raw, seed=seed)
    if artefact.is_raw:
        return np.array([items[i].score for i in apply_to])
    confidence = FittedConfidence(artefact.body())
    found = (confidence.of(features(items[i]), {}) for i in apply_to)
    return np.array([math.nan if p is None else p for p in found])


def features(item: Item) -> dict[str, float | None]:
    if TOKEN in item.features:
        return dict(item.features)
    return {**item.features, RAW: None if math.isnan(item.score) else float(item.score)}
