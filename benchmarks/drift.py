"""How often does the drift alarm cry wolf, and how soon does it see the wolf?

    python benchmarks/drift.py [--paths 2000] [--steps 100000] [--seed 0] [--only plain|granted]
                                [--records 600]

False alarms: pipelines whose regret is exactly the tolerance (and whose confidence is off by exactly the error that
is allowed) for all of 100,000 tasks, looked at after every one of them. Delays: tasks and checks from a shift of the
regret to the alarm, for a shift at once and after 50,000 tasks at half the tolerance. `granted`: the validator is wrong
on some accepted drafts as well; each path draws its own records, has them certified, and is watched for what that
certificate grants. Exits with 1 where false alarms are more than promised (by over 3 standard errors), or where the
vectorised e-values are not those of the product.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.cascade.nulls import Nulls, Promise, Tolerance, broken, promised
from orchestrator.quality import Record, certify, drift

Array = NDArray[np.float64]
TOLERANCE, ERROR, FALSE_ALARM = 0.03, 0.05, 0.10
GOOD = TOLERANCE / 2
ACCEPTED = 0.8
SHIFTS = (0.02, 0.05, 0.10)
AT_MOST = {0.02: 250_000, 0.05: 60_000, 0.10: 25_000}
"""Tasks to wait for the alarm, by shift."""
GAP = 0.01
"""By how much the confidence may be too high where a validator is granted something: more would be above 1."""


@dataclass(frozen=True)
class Stratum:
    """A kind of task: its share of all, with what probability its accepted drafts are checked, and what part of the
    whole regret is its own."""

    share: float
    propensity: float
    regret: float

    def wrong(self, regret: float, accepted: float) -> float:
        """The share of its accepted drafts that are wrong where the whole regret is this."""
        return regret * self.regret / self.share / accepted


PLANS = {
    "2%": (Stratum(1.0, 0.02, 1.0),),
    "5%": (Stratum(1.0, 0.05, 1.0),),
    "1, 5 and 20%": (Stratum(0.6, 0.01, 0.2), Stratum(0.3, 0.05, 0.5), Stratum(0.1, 0.20, 0.3)),
}


@dataclass(frozen=True)
class Watched:
    """A certificate in use: what it promises, by how much its confidence is too low at most, the share of drafts that
    its threshold accepts, and the share of all tasks whose draft is accepted while the validator is wrong."""

    promise: Promise
    off: float = 0.0
    accepted: float = ACCEPTED
    doubt: float = 0.0


def plain(fitted: bool) -> Watched:
    error = Tolerance(ERROR) if fitted else None
    only = Nulls(regret=Tolerance(TOLERANCE), calibration=error, accepted_only=False)
    return Watched(Promise(cases=(only,), false_alarm=FALSE_ALARM), off=ERROR)


def certified(n: int, draw: np.random.Generator, *, fitted: bool = False, as_before: bool = False) -> Watched:
    """The certificate of `n` records. Of a draft with confidence s, uniform, the regret is 0.3 (1 - s)^2 and the
    validator is wrong with 0.02 + 0.04 (1 - s): on 4% of the tasks. `as_before`: that much is granted, as found."""
    s, u = draw.random(n), draw.random(n)
    regret = 0.3 * (1 - s) ** 2
    validator_ok = (u < regret) | (u >= regret + 0.02 + 0.04 * (1 - s))
    rows = zip(s.tolist(), (u >= regret).tolist(), validator_ok.tolist(), strict=True)
    found = certify([Record(score, draft, validator) for score, draft, validator in rows], max_regret=TOLERANCE)
    body = {"reference": "label", **found.body(), **({"validator_asked": None} if as_before else {})}
    promise = promised(body, calibration_error=GAP if fitted else None, false_alarm=FALSE_ALARM)
    accepted = 0.0 if found.threshold is None else 1.0 - found.threshold
    return Watched(promise, off=-GAP, accepted=accepted, doubt=0.02 * accepted * (1.0 + accepted))


@dataclass(frozen=True)
class Path:
    """The checked tasks of one simulated pipeline: which they are (from 1), their propensity, found wrong, gap."""

    task: Array
    propensity: Array
    wrong: NDArray[np.bool_]
    gap: Array


def simulate(
    plan: tuple[Stratum, ...], phases: list[tuple[int, float]], watched: Watched, *, sure_of: float, off: float,
    draw: np.random.Generator,
) -> Path:
    """`phases` are (tasks, regret). The confidence is what it should be at a regret of `sure_of`, less `off`."""
    tasks, propensities, wrongs, confidences = [], [], [], []
    begun, accepted = 0, watched.accepted
    for length, regret in phases:
        for one in plan:
            drawn = draw.binomial(length, one.share * accepted * one.propensity)
            sure = 1.0 - one.wrong(sure_of, accepted) - off
            tasks.append(begun + draw.integers(1, length + 1, drawn))
            propensities.append(np.full(drawn, one.propensity))
            wrongs.append(draw.random(drawn) < one.wrong(regret, accepted) + watched.doubt / accepted)
            confidences.append(draw.beta(sure * 40, (1 - sure) * 40, drawn))
        begun += length
    task, propensity = np.concatenate(tasks), np.concatenate(propensities)
    wrong, confidence = np.concatenate(wrongs), np.concatenate(confidences)
    order = np.argsort(task, kind="stable")
    return Path(task[order].astype(float), propensity[order], wrong[order], confidence[order] - ~wrong[order])


def log_evidence(path: Path, watched: Watched) -> Array:
    """The log e-value after each check, or what it is at most where that is never enough: between two checks it only
    falls."""
    promise = watched.promise
    regret = gaps = together = np.full(len(path.task), promise.beyond)
    for nulls in promise.cases:
        parts = _of_case(path, nulls)
        regret = np.minimum(regret, nulls.records + parts[0])
        together = regret
        if len(parts) > 1:
            gaps = np.minimum(gaps, nulls.records + parts[1])
            together = np.logaddexp(regret, gaps) - math.log(2)
        if together.max() < -math.log(promise.false_alarm):
            break
    return together


def _of_case(path: Path, nulls: Nulls) -> list[Array]:
    """Against regret, and against calibration where that is watched. Vectorised over checks and bets."""
    first = np.arange(0, len(path.task), drift.CHECKS_A_START)  # the checks before each start
    weights = np.array([drift._weight(i) for i in range(len(first))])
    tolerance = nulls.regret.most
    bets = np.array([drift._BOLDEST / tolerance * drift._STEP**k for k in range(drift.BETS)])
    lost = np.log1p(-bets * tolerance)
    won = (np.log1p(bets * (1 / path.propensity[:, None] - tolerance)) - lost) * path.wrong[:, None]
    parts = [(np.cumsum(won, axis=0), lost)]
    if nulls.calibration is not None:
        error = nulls.calibration.most
        sides = np.array([b * s for b in _gap_bets(error) for s in (1.0, -1.0)])
        parts.append((np.cumsum(np.log1p(path.gap[:, None] * sides - error * np.abs(sides)), axis=0), 0.0 * sides))
    return [_mixture(total, rate, path.task, first, weights) for total, rate in parts]


def _gap_bets(error: float) -> list[float]:
    return [drift._BOLDEST / (1 + error) * drift._STEP**k for k in range(drift.GAP_BETS)]


def _mixture(total: Array, rate: Array, task: Array, first: NDArray[np.int_], weights: Array) -> Array:
    mixed = np.zeros(len(task))
    begun = np.zeros(len(task))
    for before, weight in zip(first, weights, strict=True):
        at_start, start = (total[before - 1], task[before - 1]) if before else (np.zeros(total.shape[1]), 0.0)
        log = total[before:] - at_start + (task[before:, None] - start) * rate
        mixed[before:] += weight * np.exp(np.clip(log, -700, 600)).mean(axis=1)
        begun[before:] += weight
    return np.log(mixed + 1.0 - begun)


def as_product(path: Path, upto: int, watched: Watched) -> tuple[float, bool]:
    """After check `upto`, by the code that runs: the log e-value against the first case, and is it an alarm?"""
    stretches, begun = [], 0
    for first in range(0, upto + 1, drift.CHECKS_A_START):
        here = slice(first, min(first + drift.CHECKS_A_START, upto + 1))
        last = int(path.task[here][-1])
        stretches.append(drift.Stretch(
            tasks=last - begun, drawn=here.stop - first, gaps=tuple(path.gap[here]),
            wrong=Counter(path.propensity[here][path.wrong[here]].tolist()),
        ))
        begun = last
    case = watched.promise.cases[0]
    error = None if case.calibration is None else case.calibration.most
    found = drift.evidence(stretches, max_regret=case.regret.most, calibration_error=error)
    return found.total, broken(watched.promise, stretches) is not None


def false_alarms(
    name: str, *, fitted: bool, records: int, paths: int, steps: int, draw: np.random.Generator
) -> bool:
    """Print one row; whether the promise is kept. Without `records` nothing is granted."""
    alarms, apart = 0, 0.0
    for i in range(paths):
        watched = certified(records, draw, fitted=fitted) if records else plain(fitted)
        path = simulate(PLANS[name], [(steps, TOLERANCE)], watched, sure_of=TOLERANCE, off=watched.off, draw=draw)
        log, threshold = log_evidence(path, watched), -math.log(watched.promise.false_alarm)
        alarms += bool(log.max() >= threshold)
        if i < 3:
            at = int(log.argmax())
            total, alarm = as_product(path, at, watched)
            parts = [part[at] for part in _of_case(path, watched.promise.cases[0])]
            apart = max(apart, abs(np.logaddexp.reduce(parts) - math.log(len(parts)) - total))
            apart = max(apart, float(alarm != (log[at] >= threshold)))
    share, error = alarms / paths, math.sqrt(FALSE_ALARM * (1 - FALSE_ALARM) / paths)
    kept = share <= FALSE_ALARM + 3 * error and apart < 1e-6
    words = "regret" + ", calibration" * fitted + ", granted" * bool(records)
    verdict = "ok" if kept else "BROKEN"
    print(f"{name:<14}{words:<30}{paths:>6}{share:>14.4f}{FALSE_ALARM:>10.2f}  {verdict}", flush=True)
    return kept


def delays(
    name: str, shift: float, before: int, words: str, watch: Callable[[], Watched], *, paths: int,
    draw: np.random.Generator,
) -> None:
    """Print one row, each path under a certificate of its own where `watch` draws one."""
    tasks, checks, early = [], [], 0
    for _ in range(paths):
        watched = watch()
        phases = [(before, GOOD), (AT_MOST[shift], TOLERANCE + shift)]
        path = simulate(PLANS[name], phases, watched, sure_of=GOOD, off=0.0, draw=draw)
        over = np.flatnonzero(log_evidence(path, watched) >= -math.log(watched.promise.false_alarm))
        at = path.task[over[0]] - before if len(over) else math.inf
        early += at <= 0
        if at > 0:
            tasks.append(at)
            checks.append(over[0] + 1 - np.searchsorted(path.task, before, side="right") if len(over) else math.inf)
    figures = [f"{np.quantile(x, q, method='higher'):>9,.0f}" for x in (tasks, checks) for q in (0.5, 0.9)]
    when = f"after {before:,}" if before else "at once"
    print(f"{name:<6}{words:<25}{f'+{shift * 100:.0f} points':<12}{when:<14}{''.join(figures)}{early:>7}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("plain", "granted"))
    parser.add_argument("--records", type=int, default=600)
    asked = parser.parse_args()
    draw = np.random.default_rng(asked.seed)
    print(f"tolerated regret {TOLERANCE}, calibration error {ERROR}; {ACCEPTED:.0%} of drafts accepted")
    print(f"granted: {asked.records:,} records, the validator wrong on 4% of the tasks, calibration error {GAP}")
    print(f"\nfalse alarms within {asked.steps:,} tasks, looked at after each")
    print(f"{'checked':<14}{'watched':<30}{'paths':>6}{'false alarms':>14}{'promised':>10}")
    kinds = [n for n in (0, asked.records) if asked.only != ("plain" if n else "granted")]
    kept = [
        false_alarms(
            name, fitted=fitted, records=n, paths=asked.paths // (4 if fitted else 1), steps=asked.steps, draw=draw
        )
        for n in kinds for fitted in (False, True) for name in PLANS
    ]
    paths = max(20, asked.paths // 20)
    print(f"\ndelay of the alarm, {paths} paths each")
    print(f"{'':<57}{'tasks':>12}{'checks':>18}{'before':>13}")
    print(f"{'check':<6}{'watched':<25}{'shift':<12}{'':<14}" + f"{'median':>9}{'90%':>9}" * 2 + f"{'shift':>7}")
    watches: dict[str, Callable[[], Watched]] = {}
    if 0 in kinds:
        watches |= {"regret": lambda: plain(False), "regret, calibration": lambda: plain(True)}
    if asked.records in kinds:
        watches |= {
            "regret, granted": lambda: certified(asked.records, draw),
            "regret, granted before": lambda: certified(asked.records, draw, as_before=True),
        }
    for name in ("2%", "5%"):
        for words, watch in watches.items():
            for before in (0, 50_000):
                for shift in SHIFTS:
                    delays(name, shift, before, words, watch, paths=paths, draw=draw)
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
