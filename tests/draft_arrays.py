"""Labelled drafts as the fits take them."""

from __future__ import annotations

import numpy as np

from orchestrator.config.feature_names import is_log_probability
from orchestrator.quality.fitted.feature_table import feature_table
from orchestrator.quality.fitted.fit_data import Data
from tests.labelled_drafts import drafts


def table(n: int, seed: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, numbers and grades of such drafts."""
    known = drafts(n, seed)
    made = feature_table(known.features, known.right, tags=known.tags, names=None, weights=None, groups=None,
                         before_draft=False)
    return list(made.names), np.array(made.rows), np.array(made.right)


def data_of(
    names: list[str], x: np.ndarray, right: np.ndarray | None = None, answers: dict[str, np.ndarray] | None = None,
    doubted_by: str | None = None,
) -> Data:
    """A table of numbers as the fits take it."""
    n = len(x)
    return Data(
        names=tuple(names), x=x, odds=np.array([is_log_probability(name) for name in names]), answers=answers or {},
        doubted_by=doubted_by, doubt=np.ones(n) if doubted_by is None else -np.expm1(x[:, names.index(doubted_by)]),
        right=np.zeros(n) if right is None else right, weights=np.ones(n), groups=range(n),
        may_miss=[True] * len(names),
    )
