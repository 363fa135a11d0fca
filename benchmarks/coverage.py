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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from zlib import crc32

import numpy as np
from simulated_ledgers import NANO, Ledger, Period, ledgers, mean_cost

from orchestrator.finance.cost import cost_per_success
from orchestrator.finance.rates import long_run_rate, own_successes
from orchestrator.finance.success import Cell, tally
from orchestrator.intervals import clopper_pearson

LINE, Z, Z_BOX = 0.94, 1.959963984540054, 2.241402727604947
Limits = dict[str, tuple[float, float]]


@lru_cache(maxsize=100_000)
def exact(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    found = clopper_pearson(right, n, confidence)
    return found.low, found.high


def shown(period: Period, cells: list[Cell]) -> tuple[Limits, dict[str, float], str]:
    """The report's intervals, the truth they are of, and the methods' names."""
    ledger, limits, methods = period.ledger, Limits(), list[str]()
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
    n, runs = counts.runs - counts.not_estimated, counts.runs
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
    own = sum(s.unchecked * r for s, r in zip(strata, rates, strict=True))
    spread = Z * math.sqrt(sum(
        s.unchecked**2 * r * (1 - r) * (1 / s.checked + 1 / max(1, s.unchecked))
        for s, r in zip(strata, rates, strict=True)
    ))
    cost, error = period.cost.sum() / 1e9, Z_BOX * period.cost.std() / math.sqrt(runs) / 1e9
    least, most = bonferroni(cells, 0.975)["rate"]
    tail, theta = log_delta(period, rates, rate), cost / runs / rate
    found = {
        "Wald": {"own": (own - spread, own + spread), "rate": (rate - half, rate + half)},
        "Wilson": {"rate": ((middle - wide) / shrink, (middle + wide) / shrink)},
        "Bonferroni": bonferroni(cells, 0.95),
        "log-delta": {"cost": (theta * math.exp(-tail), theta * math.exp(tail))},
        "Wald/exact": {"cost": ((cost / runs - error) / most, (cost / runs + error) / least if least else math.inf)},
    }
    for one in (found["Wald"], found["Bonferroni"]):
        low, high = (counts.known_right + end for end in one["own"])
        one["own cost"] = cost / high, cost / low
    return found


def bonferroni(cells: list[Cell], confidence: float) -> Limits:
    """By stratum, exact in each: the rule that the melded interval replaces."""
    counts = tally(cells)
    n, known = counts.runs - counts.not_estimated, counts.right + counts.wrong
    each = (1 - confidence) / (len(counts.strata) + (known > 0))
    rate, own = list(exact(counts.right, n, 1 - each)) if known else [0.0, 0.0], [0.0, 0.0]
    for s in counts.strata:
        for end, limit in enumerate(exact(s.right, s.checked, 1 - each)):
            rate[end] += (s.runs - s.unanswered) / n * limit
            own[end] += s.unchecked * limit
    return {"own": (own[0], own[1]), "rate": (rate[0], rate[1])}


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


def against(result: Result, name: str) -> tuple[float, str]:
    """Width over that of the narrowest alternative whose coverage is 94% or more, and its name."""
    score = result.scores[name]
    valid = {k[1]: s.width / s.shown for k, s in result.others.items() if k[0] == name and s.coverage >= LINE}
    best = min(valid, key=lambda k: valid[k], default="")
    return (score.width / score.shown / valid[best] if best else math.nan), best


def show(result: Result) -> None:
    ledger = result.ledger
    costs = f"sigma={ledger.sigma:g}" if ledger.sigma else "near-constant"
    print(f"\n{ledger.rate_of_first:g}, {ledger.name}: pi={ledger.propensity:g}, {ledger.checks} checks, "
          f"{ledger.runs:,} runs, costs {costs}")
    for methods, n in sorted(result.methods.items(), key=lambda item: -item[1])[:3]:
        print(f"    {n / sum(result.methods.values()):4.0%} {methods}")
    for name, score in result.scores.items():
        ratio, best = against(result, name)
        other = f"{ratio:.2f} x {best}" if best else "-"
        beside = ", ".join(f"{k[1]} {o.coverage:.3f}" for k, o in result.others.items() if k[0] == name)
        figures = f"{score.coverage:>9.4f} +- {score.error:.4f}{score.width / score.shown:>10.3f}"
        print(f"  {name:<10}{figures}   {other:<20}   ({beside})")


def summary(results: list[Result]) -> None:
    print(f"\n{'ledgers':<31}{'interval':<11}{'lowest':>8}{'highest':>9}   over the narrowest valid alternative")
    for kind in dict.fromkeys(r.ledger.name for r in results):
        for name in ("own", "rate", "own cost", "cost"):
            some = [r for r in results if r.ledger.name == kind and name in r.scores]
            if not some:
                continue
            held = [r.scores[name].coverage for r in some]
            ratios = sorted(ratio for r in some if not math.isnan(ratio := against(r, name)[0]))
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}, median {ratios[len(ratios) // 2]:.2f}" if ratios else "-"
            print(f"{kind:<31}{name:<11}{min(held):>8.4f}{max(held):>9.4f}   {spread}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Do the intervals of the report cover what they claim to?")
    parser.add_argument("--redraws", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="ledgers whose name holds this text")
    asked = parser.parse_args()
    started, chosen = time.perf_counter(), [one for one in ledgers() if asked.only in one.name]
    print(f"{len(chosen)} ledgers, {asked.redraws:,} redraws of each, nominal 95%, to hold {LINE:.0%}")
    print(f"  {'interval':<10}{'coverage':>9}{'width/truth':>21}   over the narrowest valid other (their coverage)")
    results: list[Result] = []
    n = len(chosen)
    with ProcessPoolExecutor(asked.processes) as pool:
        for result in pool.map(judged, chosen, [asked.redraws] * n, [asked.seed] * n):
            results.append(result)
            show(result)
    summary(results)
    low = [f"{r.ledger.name} {k}" for r in results for k, s in r.scores.items() if s.coverage < LINE]
    print(f"\n{time.perf_counter() - started:.0f} s; below {LINE:.0%}: {', '.join(low) or 'none'}")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
