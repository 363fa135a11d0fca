"""Labelled drafts as a table to fit on: columns chosen without a look at the labels, faults told before any work."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.config.feature_names import ANSWER_PREFIX
from orchestrator.errors import InputError
from orchestrator.records import Features

LEAST_SEEN_TAG = 10
MOST_TAG_VALUES = 30
MOST_MISSING = 0.5
LARGEST = 1e100
"""Held within this, so that the square of a crazy value is still a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """`given` and `tags` as they came; of them `rows` (n, names), NaN where a number is missing; `answers` by name
    (n,), each by its place among the answers allowed; `right` are grades in [0, 1], `weights` have mean 1 (None: all
    equal).

    `left_out` says which columns were not taken, and why.
    """

    given: Sequence[Features]
    tags: Sequence[Mapping[str, str]]
    names: tuple[str, ...]
    rows: Sequence[Sequence[float]]
    answers: Mapping[str, Sequence[float]]
    right: Sequence[float]
    weights: Sequence[float] | None
    groups: Sequence[Hashable]
    left_out: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.right)

    @property
    def effective(self) -> float:
        """(Σw)²/Σw² (Kish): how many records of equal weight would tell as much."""
        if self.weights is None:
            return float(self.n)
        return math.fsum(self.weights) ** 2 / math.fsum(w * w for w in self.weights)

    @property
    def fewer(self) -> float:
        """Records of the rarer kind, right or wrong."""
        right = math.fsum(self.right)
        return min(right, self.n - right)


def feature_table(
    features: Sequence[Features],
    right: Sequence[bool | float],
    *,
    tags: Sequence[Mapping[str, str]] | None,
    names: Sequence[str] | None,
    weights: Sequence[float] | None,
    groups: Sequence[Hashable] | None,
    before_draft: bool,
) -> FeatureTable:
    """`names` restricts the features taken, `before_draft` to those known before a draft (task_*). Tags come as
    `tag.KEY=VALUE`, for values seen at least ten times. Raises InputError for what can't be fitted on."""
    for what, given in (("labels", right), ("tags", tags), ("weights", weights), ("groups", groups)):
        if given is not None and len(given) != len(features):
            raise InputError(f"{len(given)} {what} for {len(features)} records: give one each")
    grades = _grades(right)
    taken = _names(features, names, before_draft)
    columns = {name: [_number(name, row.get(name)) for row in features] for name in taken}
    if tags is not None:
        columns |= _tag_columns(tags)
    reasons = {name: why for name, column in columns.items() if (why := _useless(column))}
    answers = {name: columns.pop(name) for name in taken if name.startswith(ANSWER_PREFIX)}
    kept = [name for name in columns if name not in reasons]
    return FeatureTable(
        given=features,
        tags=tags if tags is not None else [{}] * len(features),
        names=tuple(kept),
        answers={name: column for name, column in answers.items() if name not in reasons},
        rows=list(zip(*(columns[name] for name in kept), strict=True)) if kept else [()] * len(features),
        right=grades,
        weights=_weights(weights),
        groups=groups if groups is not None else range(len(features)),
        left_out=tuple(f"{name} ({why})" for name, why in reasons.items()),
    )


def _grades(right: Sequence[bool | float]) -> list[float]:
    if not right:
        raise InputError("no labelled records: a confidence takes 50, at least 10 of them right and 10 wrong")
    unusable = [i for i, grade in enumerate(right) if grade is None or not 0.0 <= grade <= 1.0]
    if unusable:
        first = unusable[0]
        raise InputError(
            f"{len(unusable)} of {len(right)} labels are neither True, False nor a grade in [0, 1]; "
            f"the first is record {first}: {right[first]!r}", hint="leave out records whose truth is not known",
        )
    grades = [float(grade) for grade in right]
    for grade, word in ((1.0, "right"), (0.0, "wrong")):
        if all(g == grade for g in grades):
            raise InputError(
                f"all {len(grades)} labelled drafts are {word}: what tells right from wrong is learned from both, at "
                "least 10 of each", hint="label more tasks, among them harder or easier ones",
            )
    return grades


def _names(features: Sequence[Features], names: Sequence[str] | None, before_draft: bool) -> list[str]:
    present = dict.fromkeys(name for row in features for name in row)
    if unknown := [name for name in names or () if name not in present]:
        raise InputError(f"no record has the feature {unknown[0]!r}; there are {', '.join(present) or 'none'}")
    taken = list(dict.fromkeys(names)) if names is not None else list(present)
    if before_draft and names is not None and (later := [n for n in taken if not n.startswith("task_")]):
        raise InputError(f"a gate stands before the draft: it can't read {later[0]!r}, only task_* and tags")
    return [name for name in taken if not before_draft or name.startswith("task_")]


def _number(name: str, value: object) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)):
        raise InputError(f"the feature {name!r} is {value!r}, where a number or null is needed")
    return max(-LARGEST, min(float(value), LARGEST)) if math.isfinite(value) else math.nan


def _tag_columns(tags: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    seen: dict[str, Counter[str]] = {}
    for row in tags:
        for key, value in row.items():
            if "=" in key or key.startswith("="):
                raise InputError(f"the tag {key!r} has a '=' in its name: tag.KEY=VALUE would be ambiguous")
            seen.setdefault(key, Counter())[str(value)] += 1
    return {
        f"tag.{key}={value}": [float(key in row and str(row[key]) == value) for row in tags]
        for key in sorted(seen)
        for value, times in sorted(seen[key].most_common(MOST_TAG_VALUES))
        if times >= LEAST_SEEN_TAG
    }


def _useless(column: Sequence[float]) -> str | None:
    known = [x for x in column if not math.isnan(x)]
    if len(known) < (1.0 - MOST_MISSING) * len(column):
        return f"missing in {1 - len(known) / len(column):.0%}"
    return "constant" if min(known) == max(known) else None


def _weights(weights: Sequence[float] | None) -> list[float] | None:
    if weights is None:
        return None
    for i, weight in enumerate(weights):
        if not 0.0 < weight < math.inf:
            raise InputError(f"the weight of record {i} is {weight!r}: give a positive number, one over its propensity")
    average = math.fsum(weights) / len(weights)
    return [weight / average for weight in weights] if min(weights) < max(weights) else None
