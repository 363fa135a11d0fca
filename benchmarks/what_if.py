"""Do the intervals of a what-if cover the truth? Full records, of which only what a policy would have shown is kept.

    python benchmarks/what_if.py [--repetitions 1000] [--runs 1000] [--look 0.05] [--seed 0] [--pool NAME]

Tasks have a confidence, a draft that is right with a probability that grows with it, and a validation whose cost is
log-normal, dearer where the confidence is low, and bounded. A policy of one threshold escalates below it and has a part
of the accepted looked at; nothing else is known. The question is put for other thresholds, the truth is that of
TRUTH_RUNS full records. Nominal coverage is 0.95; to be at least 0.94. Last, the question where nothing is looked at.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.groups import grouped
from orchestrator.quality.what_if.replay import Move
from orchestrator.quality.what_if.what_if import Figure, PolicyFigures, figures, unsupported

PRESENT = 0.5
ASKED = (0.0, 0.2, 0.35, 0.65, 0.8)
TRUTH_RUNS = 400_000
DRAFT, VALIDATION, BOUND = 20_000, 300_000, 3_000_000
"""Billionths of a dollar."""


@dataclass(frozen=True)
class Pool:
    name: str
    right: Callable[[float], float]
    spread: float


POOLS = (
    Pool("calibrated", lambda s: s, 0.5),
    Pool("good drafter", lambda s: 1.0 - 0.3 * (1.0 - s) ** 2, 0.5),
    Pool("useless confidence", lambda s: 0.9, 0.5),
    Pool("near-constant costs", lambda s: math.sqrt(s), 0.02),
    Pool("dear tail", lambda s: math.sqrt(s), 1.0),
)


@dataclass(frozen=True, slots=True)
class Task:
    """A full record."""

    confidence: float
    right: bool
    validation: int


def draw(pool: Pool, generator: random.Random) -> Task:
    s = generator.random()
    cost = VALIDATION * (1.5 - s) * math.exp(generator.gauss(0.0, pool.spread))
    return Task(s, generator.random() < pool.right(s), min(round(cost), BOUND))


def seen(task: Task, look: float, generator: random.Random) -> Case:
    """What the present policy leaves in the ledger."""
    escalated = task.confidence < PRESENT
    shown = escalated or generator.random() < look
    return Case(
        propensity=1.0 if escalated else look, right=task.right if shown else None,
        look="possible" if escalated or look else "never", confidence=task.confidence, draft=DRAFT,
        alone=task.validation if shown else None, draft_bound=DRAFT, validator_bound=BOUND if shown else None,
        decided="rule 'not_sure'" if escalated else "rule 'otherwise' (accept)",
    )


def moves(confidences: Sequence[float], threshold: float) -> list[Move]:
    accept, escalate = Move(kind="accept", rule="otherwise"), Move(kind="escalate", rule="not_sure")
    return [accept if s >= threshold else escalate for s in confidences]


def truth(tasks: Sequence[Task], threshold: float) -> tuple[float, float, float]:
    """Quality, cost in dollars, cost over always validating."""
    n = len(tasks)
    right = sum(task.confidence < threshold or task.right for task in tasks) / n
    cost = DRAFT + sum(task.validation for task in tasks if task.confidence < threshold) / n
    return right, cost * 1e-9, cost / (sum(task.validation for task in tasks) / n)


def covers(figure: Figure, true: float) -> bool:
    """Up to what TRUTH_RUNS leave open where the interval is a point."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.low - 1e-9 <= true <= figure.high + 1e-9


def coverage(pool: Pool, asked: argparse.Namespace) -> list[tuple[float, tuple[float, ...], tuple[float, ...]]]:
    """For each threshold asked about: coverage and mean width, of quality, cost and ratio."""
    generator = random.Random(f"{asked.seed} {pool.name}")
    known = [draw(pool, generator) for _ in range(TRUTH_RUNS)]
    true = {threshold: truth(known, threshold) for threshold in ASKED}
    hits = {threshold: [0, 0, 0] for threshold in ASKED}
    widths = {threshold: [0.0, 0.0, 0.0] for threshold in ASKED}
    for _ in range(asked.repetitions):
        cases = [seen(draw(pool, generator), asked.look, generator) for _ in range(asked.runs)]
        confidences = [case.confidence or 0.0 for case in cases]
        for threshold in ASKED:
            found = figures("", grouped(cases, moves(confidences, threshold)))
            for i, figure in enumerate(shown(found)):
                hits[threshold][i] += covers(figure, true[threshold][i])
                widths[threshold][i] += (figure.high or 0.0) - (figure.low or 0.0)
    each = asked.repetitions
    return [
        (t, tuple(h / each for h in hits[t]),
         (widths[t][0] / each, widths[t][1] / each / true[t][1], widths[t][2] / each / true[t][2])) for t in ASKED
    ]


def shown(found: PolicyFigures) -> tuple[Figure, Figure, Figure]:
    return found.quality, found.cost, found.ratio


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the intervals of a what-if cover the truth?")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--look", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", choices=[pool.name for pool in POOLS], help="only this one")
    asked = parser.parse_args()
    print(f"{asked.runs} runs under threshold {PRESENT}, {asked.look:g} of the accepted looked at; "
          f"{asked.repetitions} repetitions; coverage (mean width; of costs, over the truth)")
    print(f"{'pool':<21}{'threshold':>10}{'right':>17}{'cost':>17}{'over always':>17}")
    least = 1.0
    for pool in [pool for pool in POOLS if asked.pool in (None, pool.name)]:
        for threshold, hits, widths in coverage(pool, asked):
            least = min(least, *hits)
            cells = "".join(f"{h:>9.3f} ({w:.3f})" for h, w in zip(hits, widths, strict=True))
            print(f"{pool.name:<21}{threshold:>10.2f}{cells}")
    print(f"least coverage: {least:.3f}")
    refusal(asked)


def refusal(asked: argparse.Namespace) -> None:
    """Where nothing is looked at, a lower threshold can't be answered for, and a higher one can."""
    generator = random.Random(asked.seed)
    cases = [seen(draw(POOLS[0], generator), 0.0, generator) for _ in range(asked.runs)]
    confidences = [case.confidence or 0.0 for case in cases]
    for threshold in (0.2, 0.65, 1.01):
        never = unsupported(grouped(cases, moves(confidences, threshold)))
        said = ", ".join(f"{n} by {by}" for by, n in never.items())
        print(f"no look, threshold {threshold:g}: " + (f"refused, {said}" if never else "answered"))


if __name__ == "__main__":
    main()
