"""Exact power sums of what tasks cost, and from them the moments of any sum of their parts.

A task's draft, verdict and validation alone are x, y and z, whole billionths. What an estimate needs of a set of tasks
is their number, and the sums of every product of up to three of x, y, z: whole numbers, that add up to the same
whatever the order, so that a million tasks take no longer to weigh than a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from operator import add, mul

PARTS = ("draft", "verdict", "alone")
_FIRSTS = tuple((i,) for i in range(3))
_SECONDS = tuple(combinations_with_replacement(range(3), 2))
_THIRDS = tuple(combinations_with_replacement(range(3), 3))
_PRODUCTS = (*_FIRSTS, *_SECONDS, *_THIRDS)
_AT: dict[tuple[int, ...], int] = {one: i for i, one in enumerate(_PRODUCTS)}

Weights = Sequence[float]
"""Of draft, verdict and validation alone."""


@dataclass(frozen=True)
class Sums:
    """Of `n` tasks: `powers` are the sums of the products in `_PRODUCTS`. `most` are the largest draft, verdict and
    validation, and the largest amounts reserved for a draft and for a validation; -1 where there is none."""

    n: int
    powers: tuple[int, ...] = (0,) * len(_PRODUCTS)
    most: tuple[int, ...] = (-1,) * 5

    @classmethod
    def of(cls, costs: Sequence[Sequence[int]], reserved: Sequence[Sequence[int]], n: int) -> Sums:
        """`costs` are columns for x, y and z, empty where it is not known; `reserved` two more, -1 where not known."""
        powers = [0] * len(_PRODUCTS)
        known = [i for i in range(3) if len(costs[i])]
        products: dict[tuple[int, ...], list[int]] = {}
        for size in (1, 2, 3):
            for which in combinations_with_replacement(known, size):
                column = costs[which[0]] if size == 1 else map(mul, products[which[:-1]], costs[which[-1]])
                products[which] = list(column) if size < 3 else []
                powers[_AT[which]] = sum(products[which] if size < 3 else column)
        return cls(n, tuple(powers), tuple(max(column, default=-1) for column in (*costs, *reserved)))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.n + other.n, tuple(map(add, self.powers, other.powers)),
                    tuple(map(max, self.most, other.most)))

    def reserved(self, *, validation: bool) -> int:
        return self.most[4 if validation else 3]

    def total(self, part: int) -> int:
        return self.powers[part]

    def squares(self, part: int) -> int:
        return self.powers[_AT[part, part]]

    @cached_property
    def means(self) -> Weights:
        return [total / self.n for total in self.powers[:3]]

    def mean(self, constant: float, w: Weights) -> float:
        """Of constant + w . (x, y, z)."""
        x, y, z = self.means
        return constant + w[0] * x + w[1] * y + w[2] * z

    def second(self, u: Weights, v: Weights) -> float:
        """The sum, over the tasks, of u . (their costs - the mean) times v . (the same)."""
        central = self._central
        return math.fsum(u[i] * v[j] * central[at] for i, j, at in _SECOND_TERMS if central[at])

    def third(self, u: Weights, v: Weights, w: Weights) -> float:
        """The same with three."""
        central = self._central
        return math.fsum(u[i] * v[j] * w[k] * central[at] for i, j, k, at in _THIRD_TERMS if central[at])

    @cached_property
    def _central(self) -> tuple[float, ...]:
        """`powers` of what is apart from the mean: sums taken in whole numbers, and rounded once."""
        n, p = self.n, self.powers
        seconds = [(n * p[_AT[i, j]] - p[i] * p[j]) / n for i, j in _SECONDS]
        thirds = []
        for i, j, k in _THIRDS:
            crossed = p[i] * p[_AT[j, k]] + p[j] * p[_AT[i, k]] + p[k] * p[_AT[i, j]]
            thirds.append((n * n * p[_AT[i, j, k]] - n * crossed + 2 * p[i] * p[j] * p[k]) / (n * n))
        return (0.0, 0.0, 0.0, *seconds, *thirds)


_SECOND_TERMS = tuple((i, j, _AT[min(i, j), max(i, j)]) for i, j in product(range(3), repeat=2))
_THIRD_TERMS = tuple((*one, _AT[tuple(sorted(one))]) for one in product(range(3), repeat=3))
