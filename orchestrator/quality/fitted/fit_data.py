"""Labelled drafts as arrays, whole or in part."""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.cascade.confidence import doubt_of
from orchestrator.config.feature_names import is_log_probability
from orchestrator.errors import InputError
from orchestrator.quality.fitted.feature_table import FeatureTable

Array = NDArray[np.float64]
Folds = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """`x` (n, features), NaN where missing; `odds` (features,) says which of them are log-probabilities; `answers` by
    name (n,), NaN where there is none: what was answered, by its place among the answers allowed. `doubted_by` is the
    log-probability that says how far an answer was in doubt, `doubt` (n,) is 1 - p of it; 1 where there is none.
    Grades, weights of mean about 1 and groups (n,)."""

    names: tuple[str, ...]
    x: Array
    odds: NDArray[np.bool_]
    answers: Mapping[str, Array]
    doubted_by: str | None
    doubt: Array
    right: Array
    weights: Array
    groups: Sequence[Hashable]
    may_miss: list[bool]

    @classmethod
    def of(cls, table: FeatureTable, raw: str | None = None) -> Data:
        """`raw` is the feature that says most by itself, as far as is known beforehand."""
        doubted_by = raw if raw is not None and is_log_probability(raw) else None
        x = np.array(table.rows, dtype=np.float64)
        return cls(
            names=table.names, x=x, odds=np.array([is_log_probability(name) for name in table.names], dtype=np.bool_),
            answers={name: np.array(column) for name, column in table.answers.items()},
            doubted_by=doubted_by, doubt=np.array([doubt_of(row, doubted_by) for row in table.given]),
            right=np.array(table.right), groups=table.groups,
            weights=np.ones(table.n) if table.weights is None else np.array(table.weights),
            may_miss=[bool(np.isnan(column).any()) for column in x.T],
        )

    def part(self, wanted: NDArray[np.bool_]) -> Data:
        return replace(
            self, x=self.x[wanted], doubt=self.doubt[wanted], right=self.right[wanted], weights=self.weights[wanted],
            answers={name: column[wanted] for name, column in self.answers.items()},
            groups=[group for group, is_in in zip(self.groups, wanted, strict=True) if is_in],
        )

    def of_columns(self, wanted: Sequence[bool]) -> Data:
        """The same records with some of the columns of `x`; what was answered stays."""
        kept = [i for i, is_in in enumerate(wanted) if is_in]
        return replace(
            self, names=tuple(self.names[i] for i in kept), x=self.x[:, kept], odds=self.odds[kept],
            may_miss=[self.may_miss[i] for i in kept],
        )

    def whatever_the_doubt(self) -> Data:
        """The same with answers that count as much where the drafter was sure."""
        return replace(self, doubted_by=None, doubt=np.ones_like(self.doubt))

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
