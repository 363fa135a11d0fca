"""Pools of known truth, made from a seed: what no public record isolates."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray
from pools import Floats, Item, Pool, pool

Bools = NDArray[np.bool_]

TASKS = 20_000
VALIDATOR_COST, DRAFT_COST = 0.01, 0.0005


def made(seed: int) -> list[Pool]:
    return [
        informative(seed), coarse(seed), uninformative(), weak_validator(seed), graded(seed),
        poor_drafter(seed), good_drafter(seed),
    ]


def informative(seed: int) -> Pool:
    """A continuous score that tells half of what a second feature and it tell together."""
    draw = np.random.default_rng([seed, 1])
    first, second = draw.normal(size=(2, TASKS))
    right = draw.random(TASKS) < _logistic(0.9 + 1.2 * first + 1.2 * second)
    validator = draw.random(TASKS) < 0.95
    features = [{"first": float(a), "second": float(b)} for a, b in zip(first, second, strict=True)]
    items = _items(_logistic(first), right, validator, _logistic(second))
    return pool("informative", "continuous score", [_with(i, f) for i, f in zip(items, features, strict=True)])


def coarse(seed: int) -> Pool:
    """Six distinct scores, as a model asked for its confidence gives."""
    draw = np.random.default_rng([seed, 2])
    level = draw.integers(0, 6, TASKS) / 5.0
    right = draw.random(TASKS) < 0.45 + 0.5 * level
    return pool("coarse", "six distinct scores", _items(level, right, draw.random(TASKS) < 0.95, draw.random(TASKS)))


def uninformative() -> Pool:
    """A score that tells nothing: whatever is accepted, at least 10.2% of it is wrong, and 10% is asked for.

    The wrong drafts stand evenly along the score, the first one at its top, so that this holds at every threshold.
    """
    scores = np.arange(TASKS, 0, -1) / TASKS
    wrong = np.diff(np.ceil(np.arange(TASKS + 1) * 0.102)) > 0
    covariate = np.random.default_rng(3).random(TASKS)
    items = _items(scores, ~wrong, np.ones(TASKS, dtype=bool), covariate)
    return pool("uninformative", "true risk 0.102 at every threshold", items, regret=0.10, selective=0.10)


def weak_validator(seed: int) -> Pool:
    """The validator is right on 70%, and more often where the drafter is."""
    draw = np.random.default_rng([seed, 4])
    score = draw.random(TASKS)
    right = draw.random(TASKS) < 0.35 + 0.55 * score
    validator = draw.random(TASKS) < np.where(right, 0.8, 0.6)
    items = _items(score, right, validator, draw.random(TASKS))
    return pool("weak_validator", "the validator is often wrong too", items)


def graded(seed: int) -> Pool:
    """Grades in [0, 1] to two decimals instead of right or wrong."""
    draw = np.random.default_rng([seed, 5])
    score = draw.random(TASKS)
    grade = np.round(draw.beta(1.0 + 6.0 * score, 1.5), 2)
    validator = np.round(draw.beta(9.0, 1.0, TASKS), 2)
    return pool("graded", "losses in [0, 1]", _items(score, grade, validator, draw.random(TASKS)))


def poor_drafter(seed: int) -> Pool:
    """Half of the drafts wrong, a score that tells nothing, and a draft that costs 40% of a validation."""
    draw = np.random.default_rng([seed, 6])
    right = draw.random(TASKS) < 0.5
    items = _items(draw.random(TASKS), right, draw.random(TASKS) < 0.97, draw.random(TASKS), 0.4 * VALIDATOR_COST)
    return pool("poor_drafter", "no cascade pays", items, regret=0.05, selective=0.05)


def good_drafter(seed: int) -> Pool:
    """The drafter is right on 98%, the validator too."""
    draw = np.random.default_rng([seed, 7])
    score = draw.random(TASKS)
    right = draw.random(TASKS) < 0.96 + 0.04 * score
    items = _items(score, right, draw.random(TASKS) < 0.98, draw.random(TASKS))
    return pool("good_drafter", "no validation pays", items, regret=0.05, selective=0.05)


def _items(
    scores: Floats, draft: Floats | Bools, validator: Floats | Bools, covariate: Floats,
    draft_cost: float = DRAFT_COST,
) -> list[Item]:
    """Costs vary from task to task by up to a half either way, as lengths do."""
    vary = random.Random(0)
    sizes = [0.5 + vary.random() for _ in scores]
    return [
        Item(s, d, v, draft_cost * size, VALIDATOR_COST * size, covariate=c)
        for s, d, v, c, size in zip(
            scores.tolist(), draft.tolist(), validator.tolist(), covariate.tolist(), sizes, strict=True
        )
    ]


def _with(item: Item, features: dict[str, float]) -> Item:
    return Item(item.score, item.draft_ok, item.validator_ok, item.draft_cost, item.validator_cost, features,
                item.covariate)


def _logistic(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=float)
