"""How often does a certificate break its promise? Redraws of labelled records from pools whose truth is known.

    python benchmarks/certify_validity.py [--data FOLDER] [--redraws 1000] [--n 300,500,1000] [--processes 2]

A row is a pool, a loss and a way in which labels come to be seen; a column the number of labelled records drawn with
replacement (the expected number, where labels are seen by chance). It prints the share of redraws in which the true
risk of the certified threshold exceeds the tolerance, and exits with 1 where that is above delta plus three standard
errors. The tolerance is 2% below the true risk of some threshold near the pool's own, so that the nearest mistake
counts.

    equal      every label seen
    escalated  the unsure half always, the others at 0.25 or 0.5 by a covariate: what escalations and spot checks leave
    smooth     at a probability from 0.2 to 1, continuous in score and covariate
    +traffic   the scores of tasks without a label are given too: of any others where every label is seen, else of the
               other tasks of the same stream
    plug-in    not ours: the lowest threshold that looks good on the sample, every label seen (printed, not judged)
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from multiprocessing import get_context

import numpy as np
from pools import (
    LOSSES,
    Pool,
    add_options,
    by_escalation,
    pools,
    print_head,
    print_pools,
    smooth,
    standard_error,
)

from orchestrator.quality import Record, certify
from orchestrator.quality.records import Loss

LABELS = ("equal", "equal+traffic", "escalated", "escalated+traffic", "smooth", "smooth+traffic", "plug-in")
PROPENSITIES = {"escalated": by_escalation, "smooth": smooth}
NOT_HERE = ("gsm8k_4", "poor_drafter", "good_drafter")
"""Its scores are those of gsm8k; and the two that certify_advice.py is for."""

Drawn = tuple[list[Record], list[float] | None]
"""Labelled records, and the scores of other tasks."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The share of `redraws` that broke the bound, and the mean true share of tasks accepted."""

    redraws: int
    violations: float
    accepted: float

    def fails(self, delta: float) -> bool:
        return self.violations > self.limit(delta)

    def limit(self, delta: float) -> float:
        return delta + 3.0 * standard_error(delta, self.redraws)


@dataclass(frozen=True, slots=True)
class Row:
    pool: Pool
    loss: Loss
    labels: str

    def cell(self, n: int, asked: argparse.Namespace) -> Cell:
        population, tolerance = self.pool.population, self.tolerance()
        generator = random.Random(f"{asked.seed}/{self.pool.name}/{self.loss}/{self.labels}/{n}")
        redraws = asked.redraws_traffic if self.labels.endswith("+traffic") else asked.redraws
        draws = islice(self._draws(n, asked.traffic, generator), redraws)
        thresholds = [self._threshold(*drawn, tolerance, asked, generator) for drawn in draws]
        return Cell(
            redraws=redraws,
            violations=float(np.mean([population.risk(t, self.loss) > tolerance + 1e-12 for t in thresholds])),
            accepted=float(np.mean([population.accepted(t) for t in thresholds])) / len(population),
        )

    def tolerance(self) -> float:
        """2% below the true risk of a threshold, so that certifying that one is a violation, however few scores."""
        risks, asked = self.pool.population.risks(self.loss), self.pool.tolerance[self.loss]
        return 0.98 * float(np.min(risks[risks >= asked], initial=np.max(risks)))

    def _draws(self, n: int, others: int, generator: random.Random) -> Iterator[Drawn]:
        """Labelled records, and the scores of tasks without a label where they are to be given."""
        way, _, traffic = self.labels.partition("+")
        population, scores = self.pool.population, self.pool.population.scores.tolist()
        if way not in PROPENSITIES:
            records = population.records()
            while True:
                yield generator.choices(records, k=n), generator.choices(scores, k=others) if traffic else None
        propensity = PROPENSITIES[way](population)
        records, stream = population.records(propensity), round(n / float(propensity.mean()))
        while True:
            tasks = generator.choices(records, k=stream)
            seen = [generator.random() < task.propensity for task in tasks]
            unseen = [task.score for task, by in zip(tasks, seen, strict=True) if not by]
            yield [*compress(tasks, seen)], unseen if traffic else None

    def _threshold(
        self, drawn: Sequence[Record], traffic: Sequence[float] | None, tolerance: float, asked: argparse.Namespace,
        generator: random.Random,
    ) -> float | None:
        if self.labels == "plug-in":
            return plug_in(drawn, tolerance, self.loss)
        return certify(
            drawn, max_regret=tolerance, confidence=asked.confidence, loss=self.loss, traffic=traffic,
            seed=generator.getrandbits(32),
        ).threshold


def plug_in(records: Sequence[Record], tolerance: float, loss: str) -> float | None:
    """The lowest threshold at which the risk on the sample is within the tolerance, as most cascades are tuned."""
    known = sorted((r for r in records if r.level is not None), key=lambda r: -r.score)
    losses = np.cumsum([r.regret if loss == "regret" else r.error for r in known])
    counted = len(records) if loss == "regret" else np.arange(1, len(known) + 1)
    ends = [i for i, r in enumerate(known) if i + 1 == len(known) or known[i + 1].score < r.score]
    risk = losses / counted
    return next((known[i].score for i in reversed(ends) if risk[i] <= tolerance), None)


def main() -> None:
    parser = argparse.ArgumentParser(description="How often does a certificate break its promise?")
    add_options(parser)
    parser.add_argument("--redraws", type=int, default=1000)
    parser.add_argument("--redraws-traffic", type=int, help="fewer with traffic (default: the same)")
    parser.add_argument("--n", default="300,500,1000", help="labelled records (default: %(default)s)")
    parser.add_argument("--traffic", type=int, default=2000, help="scores of other tasks (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--losses", default=",".join(LOSSES), help="only these (default: %(default)s)")
    parser.add_argument("--labels", default=",".join(LABELS), help="only these ways (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    asked.redraws_traffic = asked.redraws_traffic or asked.redraws
    print_head(asked)
    found = [pool for pool in pools(asked) if pool.name not in NOT_HERE]
    print_pools(found)
    sys.exit(1 if print_rows(found, asked) else 0)


def print_rows(found: Sequence[Pool], asked: argparse.Namespace) -> int:
    """Prints every row as it is done; returns how many failed."""
    sizes, delta = [int(n) for n in asked.n.split(",")], 1.0 - asked.confidence
    losses = [loss for loss in LOSSES if loss in asked.losses.split(",")]
    rows = [Row(pool, loss, labels) for pool in found for loss in losses for labels in asked.labels.split(",")]
    print(f"violations (and the mean share accepted) at n =\n{'pool':<16}{'loss':<11}{'max':<7}{'labels':<18}"
          + "".join(f"{n:>15}" for n in sizes))
    failed = 0
    work = [(row, sizes, asked) for row in rows]
    with get_context("fork").Pool(asked.processes) as workers:
        for row, cells in zip(rows, workers.imap(_cells, work), strict=True):
            fails = row.labels != "plug-in" and any(cell.fails(delta) for cell in cells)
            failed += fails
            verdict = "" if row.labels == "plug-in" else "FAIL" if fails else "pass"
            figures = "".join(f"{cell.violations:>7.3f} ({cell.accepted:.3f})" for cell in cells)
            name = f"{row.pool.name:<16}{row.loss:<11}{row.tolerance():<7.3f}{row.labels:<18}"
            print(f"{name}{figures}  {verdict}", flush=True)
    counts = (asked.redraws, asked.redraws_traffic)
    limits = (f"{delta + 3.0 * standard_error(delta, of):.4f} over {of}" for of in counts)
    print(f"\npromised: at most {delta:.3f}; judged three standard errors above it, {' redraws, '.join(limits)} with "
          f"traffic. {failed} of {sum(row.labels != 'plug-in' for row in rows)} rows fail.")
    return failed


def _cells(work: tuple[Row, Sequence[int], argparse.Namespace]) -> list[Cell]:
    row, sizes, asked = work
    return [row.cell(n, asked) for n in sizes]


if __name__ == "__main__":
    main()
