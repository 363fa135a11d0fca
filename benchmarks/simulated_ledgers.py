"""Periods of a ledger whose truth is known, for benchmarks/coverage.py: runs, what is known of them, what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from orchestrator.finance.success import Cell, Confidences

NANO = 1_000_000
"""Billionths that a run costs in the mean."""


@dataclass(frozen=True)
class Kind:
    """Runs of one kind. `propensity` None: known by the validator, or forbidden to look at (`known` False).

    `unanswered`: the chance that a check of a run that is right has no answer; of one that is wrong, twice that.
    """

    share: float
    rate: float
    propensity: float | None = None
    known: bool = True
    unanswered: float = 0.0
    dearer: float = 1.0


@dataclass(frozen=True)
class Ledger:
    """`checks` are expected in the first kind, whose `propensity` is given. `sigma` of the costs' logarithm, cut at
    `bound` (in mean costs, known); 0: near-constant. `sharp`: how much the logged confidence knows, if there is one.
    """

    name: str
    propensity: float
    checks: int
    kinds: tuple[Kind, ...]
    sigma: float = 0.0
    bound: float = 20.0
    sharp: float | None = None

    @property
    def runs(self) -> int:
        return round(self.checks / self.propensity / self.kinds[0].share)

    @property
    def rate_of_first(self) -> float:
        return self.kinds[0].rate

    @property
    def rate(self) -> float:
        return sum(k.share * k.rate for k in self.kinds)


def confident(more: dict[str, float]) -> str:
    return ", fitted confidence" if "sharp" in more else ""


def constant(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    return Ledger("one stratum" + confident(more), propensity, checks, (Kind(1.0, rate, propensity),), **more)


def mixed(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    """With runs known from the validator, forbidden ones, and checks without an answer."""
    kinds = (
        Kind(0.75, rate, propensity, unanswered=0.02), Kind(0.22, max(0.5, rate), None, dearer=20.0),
        Kind(0.03, max(0.5, rate - 0.2), None, known=False),
    )
    return Ledger("known, forbidden, unanswered" + confident(more), propensity, checks, kinds, **more)


def unequal(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    """Two rules: a few doubtful drafts are looked at ten times as often."""
    kinds = (Kind(0.9, rate, propensity, unanswered=0.01), Kind(0.1, max(0.5, rate - 0.15), 10 * propensity))
    return Ledger("two strata" + confident(more), propensity, checks, kinds, **more)


def labelled(rate: float, runs: int, **more: float) -> Ledger:
    """All known."""
    return Ledger("all known", 1.0, runs, (Kind(1.0, rate),), **more)


def ledgers() -> Iterator[Ledger]:
    for propensity in (0.02, 0.05):
        for rate in (0.5, 0.8, 0.95, 0.995):
            yield constant(rate, propensity, 40)
            yield mixed(rate, propensity, 60, sigma=1.0, bound=30.0)
            yield unequal(rate, propensity, 40, sigma=0.5)
        yield constant(0.9, propensity, 200)
        yield constant(0.9, propensity, 200, sigma=1.5, bound=50.0)
        yield constant(0.98, propensity, 100, sigma=2.0, bound=60.0)
        yield constant(0.9, propensity, 100, sharp=0.7)
        yield unequal(0.85, propensity, 150, sigma=1.0, sharp=0.7)
    for rate in (0.8, 0.95):
        yield constant(rate, 0.5, 60)
    for rate in (0.5, 0.9, 0.99):
        yield labelled(rate, 400)
        yield labelled(rate, 1000, sigma=1.0)
        yield labelled(rate, 1000, sigma=2.0, bound=60.0)


Array = NDArray[np.float64]


class Period:
    """One redraw: arrays over its runs, the cells that the report would read, and what is true of it."""

    def __init__(self, ledger: Ledger, draw: np.random.Generator) -> None:
        n = ledger.runs
        self.ledger = ledger
        shares = np.cumsum([k.share for k in ledger.kinds])
        self.kind = np.searchsorted(shares[:-1], draw.random(n), side="right")
        rate = self._each([k.rate for k in ledger.kinds])
        self.f = None
        if ledger.sharp is not None:  # a calibrated confidence: P(right | f) = f
            size = (1.0 - ledger.sharp) / ledger.sharp
            self.f = draw.beta(rate * size, (1.0 - rate) * size)
            rate = self.f
        self.right = draw.random(n) < rate
        self.propensity = self._each([k.propensity or 0.0 for k in ledger.kinds])
        drawn = draw.random(n) < self.propensity
        silent = self._each([k.unanswered for k in ledger.kinds]) * np.where(self.right, 1.0, 2.0)
        self.unanswered = drawn & (draw.random(n) < silent)
        self.checked = drawn & ~self.unanswered
        self.known = self._each([k.propensity is None and k.known for k in ledger.kinds]) > 0
        self.unchecked = (self.propensity > 0) & ~drawn
        dearer = self._each([k.dearer for k in ledger.kinds])
        self.cost = np.maximum(1.0, np.rint(NANO * costs(ledger, n, draw) * dearer))

    def _each(self, of_kinds: list[float]) -> Array:
        """A figure of every run's kind."""
        return np.array(of_kinds, dtype=float)[self.kind]

    def cells(self) -> list[Cell]:
        seen = self.checked | self.known
        code = self.kind * 8 + self.unanswered * 4 + np.where(seen, self.right + 1, 0)
        count = np.bincount(code)
        sums = [np.bincount(code, self.cost**k) for k in (1, 2, 3)]
        fs = None if self.f is None else [np.bincount(code, w) for w in (self.f, self.f**2, self.f * self.cost)]
        bound = round(self.ledger.bound * max(k.dearer for k in self.ledger.kinds) * NANO)
        return [
            Cell(
                runs=int(count[c]), success=(None, False, True)[c % 4], propensity=self.ledger.kinds[c // 8].propensity,
                unanswered=bool(c & 4), cost=int(sums[0][c]), cost_squares=float(sums[1][c]),
                cost_cubes=float(sums[2][c]), bound=bound,
                confidences=None if fs is None else Confidences(
                    total=float(fs[0][c]), squares=float(fs[1][c]), costs=float(fs[2][c])
                ),
            )
            for c in np.flatnonzero(count)
        ]


def costs(ledger: Ledger, n: int, draw: np.random.Generator) -> Array:
    if not ledger.sigma:
        return 1.0 + 0.02 * draw.standard_normal(n)
    return np.minimum(draw.lognormal(-(ledger.sigma**2) / 2.0, ledger.sigma, n), ledger.bound)


@lru_cache
def mean_cost(sigma: float, bound: float) -> float:
    """Of a lognormal of mean 1, cut at `bound`."""
    if not sigma:
        return 1.0
    edge, cdf = (math.log(bound) + sigma**2 / 2.0) / sigma, NormalDist().cdf
    return cdf(edge - sigma) + bound * (1.0 - cdf(edge))
