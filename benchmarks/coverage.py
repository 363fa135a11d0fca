"""Do the intervals of the report cover what they claim to? Simulated ledgers whose truth is known.

    python benchmarks/coverage.py [--redraws 4000] [--seed 0] [--processes 2] [--only TEXT]

Each redraw is a period: runs with an outcome and a cost, some known, some forbidden to look at, the others
spot-checked with a logged probability. They become the cells that the report reads from the ledger, and go through
the report's own functions. Four intervals, all at a nominal 95%:

    own       successes among this period's runs that nobody looked at
    rate      share of successes, in the long run
    own cost  this period's cost per success
    cost      cost per success, in the long run

Prints coverage, mean width over the truth, and that width over the narrowest alternative whose own coverage is 94% or
more (`-` where none is). Exits 1 where a coverage is below 94%. A ledger within one standard error of that line, or
below it, is drawn again, four times as often, before it is judged.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from zlib import crc32

import numpy as np

from orchestrator.finance.cost import cost_per_success
from orchestrator.finance.rates import long_run_rate, own_successes
from orchestrator.finance.success import Cell, Confidences, tally
from orchestrator.intervals import clopper_pearson

LINE, NANO, Z = 0.94, 1_000_000, 1.959963984540054
Limits = dict[str, tuple[float, float]]


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
    def rate(self) -> float:
        return sum(k.share * k.rate for k in self.kinds)


def constant(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    return Ledger(f"{rate:g} one stratum", propensity, checks, (Kind(1.0, rate, propensity),), **more)


def mixed(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    """With runs known from the validator, forbidden ones, and checks without an answer."""
    kinds = (
        Kind(0.75, rate, propensity, unanswered=0.02), Kind(0.22, max(0.5, rate), None, dearer=20.0),
        Kind(0.03, max(0.5, rate - 0.2), None, known=False),
    )
    return Ledger(f"{rate:g} mixed", propensity, checks, kinds, **more)


def unequal(rate: float, propensity: float, checks: int, **more: float) -> Ledger:
    """Two rules: a few doubtful drafts are looked at ten times as often."""
    kinds = (Kind(0.9, rate, propensity, unanswered=0.01), Kind(0.1, max(0.5, rate - 0.15), 10 * propensity))
    return Ledger(f"{rate:g} two strata", propensity, checks, kinds, **more)


def labelled(rate: float, runs: int, **more: float) -> Ledger:
    """All known."""
    return Ledger(f"{rate:g} all known", 1.0, runs, (Kind(1.0, rate),), **more)


def ledgers() -> Iterator[Ledger]:
    for propensity in (0.02, 0.05):
        for rate in (0.5, 0.8, 0.95, 0.995):
            yield constant(rate, propensity, 40)
            yield mixed(rate, propensity, 60, sigma=1.0, bound=30.0)
            yield unequal(rate, propensity, 40, sigma=0.5)
        yield constant(0.9, propensity, 200, sigma=1.5, bound=50.0)
        yield constant(0.98, propensity, 100, sigma=2.0, bound=60.0)
        yield constant(0.9, propensity, 100, sharp=0.7)
        yield unequal(0.85, propensity, 150, sigma=1.0, sharp=0.7)
    for rate in (0.5, 0.9, 0.99):
        yield labelled(rate, 400)
        yield labelled(rate, 1000, sigma=1.0)
        yield labelled(rate, 1000, sigma=2.0, bound=60.0)


class Period:
    """One redraw: arrays over its runs, the cells that the report would read, and what is true of it."""

    def __init__(self, ledger: Ledger, draw: np.random.Generator) -> None:
        n = ledger.runs
        self.ledger = ledger
        shares = np.cumsum([k.share for k in ledger.kinds])
        self.kind = np.searchsorted(shares[:-1], draw.random(n), side="right")
        of = lambda values: np.array(values, dtype=float)[self.kind]  # noqa: E731
        rate = of([k.rate for k in ledger.kinds])
        self.f = None
        if ledger.sharp is not None:  # a calibrated confidence: P(right | f) = f
            size = (1.0 - ledger.sharp) / ledger.sharp
            self.f = draw.beta(rate * size, (1.0 - rate) * size)
            rate = self.f
        self.right = draw.random(n) < rate
        self.propensity = of([k.propensity or 0.0 for k in ledger.kinds])
        drawn = draw.random(n) < self.propensity
        silent = of([k.unanswered for k in ledger.kinds]) * np.where(self.right, 1.0, 2.0)
        self.unanswered = drawn & (draw.random(n) < silent)
        self.checked = drawn & ~self.unanswered
        self.known = of([k.propensity is None and k.known for k in ledger.kinds]) > 0
        self.unchecked = (self.propensity > 0) & ~drawn
        self.cost = np.maximum(1.0, np.rint(NANO * costs(ledger, n, draw) * of([k.dearer for k in ledger.kinds])))

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


def costs(ledger: Ledger, n: int, draw: np.random.Generator) -> np.ndarray:
    if not ledger.sigma:
        return 1.0 + 0.02 * draw.standard_normal(n)
    return np.minimum(draw.lognormal(-(ledger.sigma**2) / 2.0, ledger.sigma, n), ledger.bound)


@lru_cache
def mean_cost(sigma: float, bound: float) -> float:
    """Of a lognormal of mean 1, cut at `bound`."""
    if not sigma:
        return 1.0
    cdf = lambda x: math.erfc(-x / math.sqrt(2.0)) / 2.0  # noqa: E731
    edge = (math.log(bound) + sigma**2 / 2.0) / sigma
    return cdf(edge - sigma) + bound * (1.0 - cdf(edge))


@lru_cache(maxsize=100_000)
def exact(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    found = clopper_pearson(right, n, confidence)
    return found.low, found.high


def shown(period: Period, cells: list[Cell]) -> tuple[Limits, dict[str, float], str]:
    """The report's intervals, the truth they are of, and the methods' names."""
    ledger, limits, methods = period.ledger, Limits(), []
    if (own := own_successes(cells)) is not None:
        limits["own"] = own.low, own.high
        methods.append(own.method)
    if (rate := long_run_rate(cells)) is not None:
        limits["rate"] = rate.low, rate.high
        methods.append(rate.method)
    unit = cost_per_success(sum(c.cost for c in cells), cells)
    if unit.own_low is not None:
        limits["own cost"] = float(unit.own_low), float(unit.own_high or "inf")
    if unit.low is not None and unit.high is not None:
        limits["cost"] = float(unit.low), float(unit.high)
        methods.append(str(unit.method))
    dear = sum(k.share * k.dearer for k in ledger.kinds) * NANO * mean_cost(ledger.sigma, ledger.bound) / 1e9
    truth = {
        "own": float(period.right[period.unchecked].sum()), "rate": ledger.rate,
        "own cost": float(period.cost.sum()) / 1e9 / float(period.right.sum()), "cost": dear / ledger.rate,
    }
    return limits, truth, " ".join(methods)


def alternatives(period: Period, cells: list[Cell]) -> dict[str, Limits]:
    """What else could have been shown. Runs that are not estimated are left out, as most reports do."""
    counts = tally(cells)
    n = counts.runs - counts.not_estimated
    strata, known = counts.strata, counts.right + counts.wrong
    rates = [s.right / s.checked for s in strata]
    weights = [(s.runs - s.unanswered) / n for s in strata]
    rate = counts.right / n + sum(w * r for w, r in zip(weights, rates, strict=True))
    variance = sum(w**2 * r * (1 - r) / s.checked for w, r, s in zip(weights, rates, strata, strict=True))
    variance += (counts.right / n - (counts.right / n) ** 2) / n if known else 0.0
    half = Z * math.sqrt(variance)
    effective = max(1.0, rate * (1 - rate) / variance if variance else sum(s.checked for s in strata))
    wide = math.sqrt(rate * (1 - rate) / effective + Z**2 / 4 / effective**2) * Z
    middle, shrink = rate + Z**2 / 2 / effective, 1 + Z**2 / effective
    parts = [exact(s.right, s.checked, 1 - 0.05 / (len(strata) + (known > 0))) for s in strata]
    sure = exact(counts.right, n, 1 - 0.05 / (len(strata) + 1)) if known else (0.0, 0.0)
    own = sum(s.unchecked * r for s, r in zip(strata, rates, strict=True))
    spread = Z * math.sqrt(sum(
        s.unchecked**2 * r * (1 - r) * (1 / s.checked + 1 / max(1, s.unchecked))
        for s, r in zip(strata, rates, strict=True)
    ))
    mean = float(period.cost.sum()) / counts.runs / 1e9
    theta = mean / rate
    tail = log_delta(period, rates, rate)
    return {
        "Wald": {"own": (own - spread, own + spread), "rate": (rate - half, rate + half)},
        "Wilson": {"rate": ((middle - wide) / shrink, (middle + wide) / shrink)},
        "Bonferroni": {
            "own": (sum(s.unchecked * p[0] for s, p in zip(strata, parts, strict=True)),
                    sum(s.unchecked * p[1] for s, p in zip(strata, parts, strict=True))),
            "rate": (sure[0] + sum(w * p[0] for w, p in zip(weights, parts, strict=True)),
                     sure[1] + sum(w * p[1] for w, p in zip(weights, parts, strict=True))),
        },
        "log-delta": {"cost": (theta * math.exp(-tail), theta * math.exp(tail))},
    }


def log_delta(period: Period, rates: list[float], rate: float) -> float:
    """Half the width of the logarithm: z se / theta, with se^2 = var(c - theta Z) / n / ybar^2."""
    strata = sorted({k.propensity for k in period.ledger.kinds if k.propensity})
    f = np.zeros(len(period.right))
    for propensity, one in zip(strata, rates, strict=False):
        f[period.propensity == propensity] = one
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(period.checked, (period.right - f) / period.propensity, 0.0)
    z = np.where(period.known, period.right, f + seen)
    mean = period.cost.mean()
    residual = period.cost - mean / rate * z
    return float(Z * residual.std() / math.sqrt(len(z)) / mean)


@dataclass
class Score:
    """Of one interval in one ledger: how often it was shown, held the truth, and how wide it was."""

    shown: int = 0
    held: int = 0
    width: float = 0.0

    def add(self, limits: tuple[float, float], truth: float) -> None:
        low, high = limits
        self.shown += 1
        self.held += low <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= high
        self.width += (high - low) / truth

    @property
    def coverage(self) -> float:
        return self.held / self.shown if self.shown else math.nan

    @property
    def error(self) -> float:
        return math.sqrt(self.coverage * (1 - self.coverage) / self.shown)


@dataclass
class Result:
    ledger: Ledger
    scores: dict[str, Score] = field(default_factory=dict)
    others: dict[tuple[str, str], Score] = field(default_factory=dict)
    methods: dict[str, int] = field(default_factory=dict)


def simulate(ledger: Ledger, redraws: int, seed: int) -> Result:
    draw = np.random.default_rng([seed, crc32(repr(ledger).encode())])
    result = Result(ledger)
    for _ in range(redraws):
        period = Period(ledger, draw)
        cells = period.cells()
        limits, truth, methods = shown(period, cells)
        result.methods[methods] = result.methods.get(methods, 0) + 1
        for name, one in limits.items():
            result.scores.setdefault(name, Score()).add(one, truth[name])
        for other, said in alternatives(period, cells).items():
            for name in limits.keys() & said.keys():
                result.others.setdefault((name, other), Score()).add(said[name], truth[name])
    return result


def judged(ledger: Ledger, redraws: int, seed: int) -> Result:
    """Near the line, chance decides: four times as many redraws, of another seed, then do."""
    result = simulate(ledger, redraws, seed)
    if all(score.coverage - score.error > LINE for score in result.scores.values()):
        return result
    return simulate(ledger, 4 * redraws, seed + 1)


def rows(result: Result) -> Iterator[str]:
    ledger = result.ledger
    costs = f"sigma={ledger.sigma:g}" if ledger.sigma else "near-constant"
    print(f"\n{ledger.name}: pi={ledger.propensity:g}, {ledger.checks} checks, {ledger.runs:,} runs, costs {costs}"
          + (", fitted confidence" if ledger.sharp else ""))
    for methods, n in sorted(result.methods.items(), key=lambda item: -item[1])[:3]:
        print(f"    {n / sum(result.methods.values()):4.0%} {methods}")
    for name, score in result.scores.items():
        width = score.width / score.shown
        valid = {k[1]: s.width / s.shown for k, s in result.others.items() if k[0] == name and s.coverage >= LINE}
        best = min(valid, key=lambda k: valid[k], default="")
        against = f"{width / valid[best]:.2f} x {best}" if best else "-"
        yield f"  {name:<10}{score.coverage:>9.4f} +- {score.error:.4f}{width:>10.3f}   {against}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Do the intervals of the report cover what they claim to?")
    parser.add_argument("--redraws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="ledgers whose name holds this text")
    asked = parser.parse_args()
    started, chosen = time.perf_counter(), [one for one in ledgers() if asked.only in one.name]
    print(f"{len(chosen)} ledgers, {asked.redraws:,} redraws of each, nominal 95%, to hold {LINE:.0%}")
    print(f"  {'interval':<10}{'coverage':>9}{'width/truth':>21}   width against the narrowest valid alternative")
    low: list[str] = []
    n = len(chosen)
    with ProcessPoolExecutor(asked.processes) as pool:
        for result in pool.map(judged, chosen, [asked.redraws] * n, [asked.seed] * n):
            for row in rows(result):
                print(row)
            low += [f"{result.ledger.name}: {k}" for k, s in result.scores.items() if s.coverage < LINE]
    print(f"\n{time.perf_counter() - started:.0f} s; below {LINE:.0%}: {', '.join(low) or 'none'}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
