"""Do the intervals of the paired savings hold what they promise? Simulated pairs, the report's own functions.

    python benchmarks/paired.py [--redraws 4000]

Each setting is a pipeline: a draft costs a tenth of an answer of the validator, some are escalated and cost both,
some spot-checked; costs are constant, or log-normal with the bound known. Prints how often the 95% interval of the
mean saving, and of the difference of the success rates, holds the true one; exits 1 where one falls below 94% by more
than two standard errors.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np

from orchestrator.finance.paired import mean_difference, rate_difference
from orchestrator.finance.pairs import PairRow
from orchestrator.finance.success import Cell

UNIT = 1_000_000  # billionths: a validator's answer costs about this
CONFIDENCE, LINE = 0.95, 0.94


@dataclass(frozen=True)
class Setting:
    pairs: int
    escalated: float
    sigma: float  # of the log-normal costs; 0: constant
    draft: float  # rate at which accepted drafts are right
    alone: float  # and the validator
    checked: float = 0.02


SETTINGS = [
    Setting(pairs, escalated, sigma, draft, alone)
    for pairs in (40, 200, 1000)
    for escalated, sigma in ((0.3, 0.0), (0.05, 0.0), (0.3, 0.5), (0.3, 1.0), (0.05, 1.5))
    for draft, alone in ((0.95, 0.97), (0.8, 0.9), (0.995, 0.995))
]


def lognormal(rng: np.random.Generator, sigma: float, n: int) -> np.ndarray:
    """With mean 1, cut at its bound."""
    return np.minimum(np.exp(rng.normal(-sigma**2 / 2.0, sigma, n)), bound(sigma))


def bound(sigma: float) -> float:
    return 1.0 if sigma == 0.0 else math.exp(4.0 * sigma)


def mean_cut(sigma: float) -> float:
    """The mean of `lognormal`."""
    if sigma == 0.0:
        return 1.0
    b = math.log(bound(sigma))
    phi = lambda z: 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))  # noqa: E731
    return phi((b - sigma**2 / 2.0) / sigma) + bound(sigma) * (1.0 - phi((b + sigma**2 / 2.0) / sigma))


def draw(rng: np.random.Generator, s: Setting) -> list[PairRow]:
    size = lognormal(rng, s.sigma, s.pairs)  # of the task: long ones cost both sides more
    alone = np.rint(size * UNIT).astype(np.int64)
    again = (rng.random(s.pairs) < s.escalated) | (rng.random(s.pairs) < s.checked)
    cascade = np.rint(size * UNIT * 0.1 + again * size * UNIT).astype(np.int64)
    hard = rng.random(s.pairs)  # what is hard for the one is hard for the other
    right_alone = hard < s.alone
    right = np.where(again, right_alone, np.where(rng.random(s.pairs) < 0.5, hard < s.draft,
                                                  rng.random(s.pairs) < s.draft))
    d = (alone - cascade).astype(float)
    rows = []
    for mine in (True, False):
        for theirs in (True, False):
            at = (right == mine) & (right_alone == theirs)
            if n := int(at.sum()):
                here, there = (
                    Cell(runs=n, success=success, cost=int(costs[at].sum()),
                         bound=math.ceil(bound(s.sigma) * UNIT * most))
                    for success, costs, most in ((mine, cascade, 1.1), (theirs, alone, 1.0))
                )
                rows.append(PairRow(
                    group=(), judge="label", cascade=here, alone=there, d2=float((d[at] ** 2).sum()),
                    d3=float((d[at] ** 3).sum()),
                ))
    return rows


def truth(s: Setting) -> tuple[float, float]:
    """The mean saving (billionths) and the difference of the success rates, in the long run."""
    again = 1.0 - (1.0 - s.escalated) * (1.0 - s.checked)
    return UNIT * mean_cut(s.sigma) * (0.9 - again), (1.0 - again) * (s.draft - s.alone)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--redraws", type=int, default=4000)
    redraws = parser.parse_args().redraws
    slack = 2.0 * math.sqrt(LINE * (1.0 - LINE) / redraws)
    print("pairs escalated sigma draft alone | saving: coverage  width/saving  method | rates: coverage  width")
    worst = [1.0, 1.0]
    for number, s in enumerate(SETTINGS):
        rng = np.random.default_rng(number)
        saving, rates = truth(s)
        held, widths, methods = [0, 0], [0.0, 0.0], Counter[str]()
        for _ in range(redraws):
            rows = draw(rng, s)
            found = mean_difference(rows, CONFIDENCE)
            assert found is not None
            methods[found.method] += 1
            limits = rate_difference(rows, CONFIDENCE, alone=True)
            for i, (low, high, true) in enumerate(((found.low, found.high, saving), (limits.low, limits.high, rates))):
                held[i] += low - 1e-9 <= true <= high + 1e-9
                widths[i] += high - low
        shares = [h / redraws for h in held]
        worst = [min(pair) for pair in zip(worst, shares, strict=True)]
        print(f"{s.pairs:5d} {s.escalated:9.2f} {s.sigma:5.1f} {s.draft:5.3f} {s.alone:5.3f} | {shares[0]:16.4f} "
              f"{widths[0] / redraws / abs(saving):13.2f}  {methods.most_common(1)[0][0]:8s} | {shares[1]:15.4f} "
              f"{widths[1] / redraws:6.3f}", flush=True)
    print(f"lowest coverage: saving {worst[0]:.4f}, rates {worst[1]:.4f} (line {LINE}, slack {slack:.4f})")
    return 0 if min(worst) >= LINE - slack else 1


if __name__ == "__main__":
    sys.exit(main())
