"""How often does the drift alarm cry wolf, and how soon does it see the wolf?

    python benchmarks/drift.py [--paths 2000] [--steps 100000] [--seed 0]

False alarms: pipelines whose regret is exactly the tolerance (and whose confidence is off by exactly the error that
is allowed) for all of 100,000 tasks, looked at after every one of them. Delays: tasks and checks from a shift of the
regret to the alarm, for a shift at once and after 50,000 tasks at half the tolerance. Exits with 1 where false alarms
are more than promised (by over 3 standard errors), or where the vectorised e-values are not those of the product.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.quality import drift

Array = NDArray[np.float64]
TOLERANCE, ERROR, FALSE_ALARM = 0.03, 0.05, 0.10
GOOD = TOLERANCE / 2
ACCEPTED = 0.8
SHIFTS = (0.02, 0.05, 0.10)
AT_MOST = {0.02: 250_000, 0.05: 60_000, 0.10: 25_000}
"""Tasks to wait for the alarm, by shift."""


@dataclass(frozen=True)
class Stratum:
    """A kind of task: its share of all, with what probability its accepted drafts are checked, and what part of the
    whole regret is its own."""

    share: float
    propensity: float
    regret: float

    def wrong(self, regret: float) -> float:
        """The share of its accepted drafts that are wrong where the whole regret is this."""
        return regret * self.regret / self.share / ACCEPTED


PLANS = {
    "2%": (Stratum(1.0, 0.02, 1.0),),
    "5%": (Stratum(1.0, 0.05, 1.0),),
    "1, 5 and 20%": (Stratum(0.6, 0.01, 0.2), Stratum(0.3, 0.05, 0.5), Stratum(0.1, 0.20, 0.3)),
}


@dataclass(frozen=True)
class Path:
    """The checked tasks of one simulated pipeline: which they are (from 1), their propensity, found wrong, gap."""

    task: Array
    propensity: Array
    wrong: NDArray[np.bool_]
    gap: Array


def simulate(
    plan: tuple[Stratum, ...], phases: list[tuple[int, float]], *, sure_of: float, off: float, draw: np.random.Generator
) -> Path:
    """`phases` are (tasks, regret). The confidence is what it should be at a regret of `sure_of`, less `off`."""
    tasks, propensities, wrongs, confidences = [], [], [], []
    begun = 0
    for length, regret in phases:
        for one in plan:
            drawn = draw.binomial(length, one.share * ACCEPTED * one.propensity)
            sure = 1.0 - one.wrong(sure_of) - off
            tasks.append(begun + draw.integers(1, length + 1, drawn))
            propensities.append(np.full(drawn, one.propensity))
            wrongs.append(draw.random(drawn) < one.wrong(regret))
            confidences.append(draw.beta(sure * 40, (1 - sure) * 40, drawn))
        begun += length
    task, propensity = np.concatenate(tasks), np.concatenate(propensities)
    wrong, confidence = np.concatenate(wrongs), np.concatenate(confidences)
    order = np.argsort(task, kind="stable")
    return Path(task[order].astype(float), propensity[order], wrong[order], confidence[order] - ~wrong[order])


def log_evidence(path: Path, *, fitted: bool) -> Array:
    """The log e-value after each check: between two of them it only falls. Vectorised over checks and bets."""
    first = np.arange(0, len(path.task), drift.CHECKS_A_START)  # the checks before each start
    weights = np.array([drift._weight(i) for i in range(len(first))])
    bets = np.array([drift._BOLDEST / TOLERANCE * drift._STEP**k for k in range(drift.BETS)])
    lost = np.log1p(-bets * TOLERANCE)
    won = (np.log1p(bets * (1 / path.propensity[:, None] - TOLERANCE)) - lost) * path.wrong[:, None]
    parts = [(np.cumsum(won, axis=0), lost)]
    if fitted:
        sides = np.array([b * s for b in _gap_bets() for s in (1.0, -1.0)])
        parts.append((np.cumsum(np.log1p(path.gap[:, None] * sides - ERROR * np.abs(sides)), axis=0), 0.0 * sides))
    logs = [_mixture(total, rate, path.task, first, weights) for total, rate in parts]
    return logs[0] if not fitted else np.logaddexp(logs[0], logs[1]) - math.log(2)


def _gap_bets() -> list[float]:
    return [drift._BOLDEST / (1 + ERROR) * drift._STEP**k for k in range(drift.GAP_BETS)]


def _mixture(total: Array, rate: Array, task: Array, first: NDArray[np.int_], weights: Array) -> Array:
    mixed = np.zeros(len(task))
    begun = np.zeros(len(task))
    for before, weight in zip(first, weights, strict=True):
        at_start, start = (total[before - 1], task[before - 1]) if before else (np.zeros(total.shape[1]), 0.0)
        log = total[before:] - at_start + (task[before:, None] - start) * rate
        mixed[before:] += weight * np.exp(np.clip(log, -700, 600)).mean(axis=1)
        begun[before:] += weight
    return np.log(mixed + 1.0 - begun)


def as_product(path: Path, upto: int, *, fitted: bool) -> float:
    """The same after check `upto`, by the code that runs."""
    stretches, begun = [], 0
    for first in range(0, upto + 1, drift.CHECKS_A_START):
        here = slice(first, min(first + drift.CHECKS_A_START, upto + 1))
        last = int(path.task[here][-1])
        stretches.append(drift.Stretch(
            tasks=last - begun, drawn=here.stop - first, gaps=tuple(path.gap[here]),
            wrong=Counter(path.propensity[here][path.wrong[here]].tolist()),
        ))
        begun = last
    return drift.evidence(stretches, max_regret=TOLERANCE, calibration_error=ERROR if fitted else None).total


def false_alarms(name: str, *, fitted: bool, paths: int, steps: int, draw: np.random.Generator) -> bool:
    """Print one row; whether the promise is kept."""
    threshold, alarms, apart = -math.log(FALSE_ALARM), 0, 0.0
    for i in range(paths):
        path = simulate(PLANS[name], [(steps, TOLERANCE)], sure_of=TOLERANCE, off=ERROR, draw=draw)
        log = log_evidence(path, fitted=fitted)
        alarms += bool(log.max() >= threshold)
        if i < 3:
            at = int(log.argmax())
            apart = max(apart, abs(as_product(path, at, fitted=fitted) - log[at]))
    share, error = alarms / paths, math.sqrt(FALSE_ALARM * (1 - FALSE_ALARM) / paths)
    kept = share <= FALSE_ALARM + 3 * error and apart < 1e-6
    watched = "regret, calibration" if fitted else "regret"
    verdict = "ok" if kept else "BROKEN"
    print(f"{name:<14}{watched:<21}{paths:>6}{share:>14.4f}{FALSE_ALARM:>10.2f}  {verdict}", flush=True)
    return kept


def delays(name: str, shift: float, before: int, *, fitted: bool, paths: int, draw: np.random.Generator) -> None:
    threshold, tasks, checks, early = -math.log(FALSE_ALARM), [], [], 0
    for _ in range(paths):
        phases = [(before, GOOD), (AT_MOST[shift], TOLERANCE + shift)]
        path = simulate(PLANS[name], phases, sure_of=GOOD, off=0.0, draw=draw)
        over = np.flatnonzero(log_evidence(path, fitted=fitted) >= threshold)
        at = path.task[over[0]] - before if len(over) else math.inf
        early += at <= 0
        if at > 0:
            tasks.append(at)
            checks.append(over[0] + 1 - np.searchsorted(path.task, before, side="right") if len(over) else math.inf)
    figures = [f"{np.quantile(x, q, method='higher'):>9,.0f}" for x in (tasks, checks) for q in (0.5, 0.9)]
    when = f"after {before:,}" if before else "at once"
    watched = "regret, calibration" if fitted else "regret"
    print(f"{name:<6}{watched:<21}{f'+{shift * 100:.0f} points':<12}{when:<14}{''.join(figures)}{early:>7}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw = np.random.default_rng(asked.seed)
    print(f"tolerated regret {TOLERANCE}, calibration error {ERROR}; {ACCEPTED:.0%} of drafts accepted")
    print(f"\nfalse alarms within {asked.steps:,} tasks, looked at after each")
    print(f"{'checked':<14}{'watched':<21}{'paths':>6}{'false alarms':>14}{'promised':>10}")
    kept = [
        false_alarms(name, fitted=fitted, paths=asked.paths // (4 if fitted else 1), steps=asked.steps, draw=draw)
        for fitted in (False, True) for name in PLANS
    ]
    paths = max(20, asked.paths // 20)
    print(f"\ndelay of the alarm, {paths} paths each")
    print(f"{'':<53}{'tasks':>12}{'checks':>18}{'before':>13}")
    print(f"{'check':<6}{'watched':<21}{'shift':<12}{'':<14}" + f"{'median':>9}{'90%':>9}" * 2 + f"{'shift':>7}")
    for name in ("2%", "5%"):
        for fitted in (False, True):
            for before in (0, 50_000):
                for shift in SHIFTS:
                    delays(name, shift, before, fitted=fitted, paths=paths, draw=draw)
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
