"""Do the intervals of a what-if cover the truth? Full records, of which only what a policy would have shown is kept.

    python benchmarks/what_if.py [--repetitions 1000] [--runs 1000] [--look 0.05] [--seed 0] [--pool NAME ...]

Tasks have a confidence, a draft that is right with a probability that grows with it, and a validation whose cost is
log-normal, dearer where the confidence is low, and bounded. A policy of one threshold escalates below it and has a part
of the accepted looked at; nothing else is known. The question is put for other thresholds, the truth is that of
TRUTH_RUNS full records. Nominal coverage is 0.95; to be at least 0.94. Last, the question where nothing is looked at.

In the labelled pools every draft's truth is known, and the validator may be wrong: that is seen where it was asked,
but for a look where it contradicts a wrong draft. There the present threshold and always validating are asked about,
too, and how much more right each is than always validating.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.groups import Group, grouped
from orchestrator.quality.what_if.order import against_validating
from orchestrator.quality.what_if.replay import Move
from orchestrator.quality.what_if.what_if import Figure, figures, unsupported

PRESENT, ALWAYS = 0.5, 1.01
ASKED = (0.0, 0.2, 0.35, 0.65, 0.8)
LABELLED = (0.0, 0.35, PRESENT, 0.65, 0.8, ALWAYS)
TRUTH_RUNS = 400_000
DRAFT, VALIDATION, BOUND = 20_000, 300_000, 3_000_000
"""Billionths of a dollar."""
SAME = 0.3
"""How often the validator gives the same answer, where both are wrong."""


@dataclass(frozen=True)
class Pool:
    name: str
    right: Callable[[float], float]
    spread: float
    validator: Callable[[float, bool], float] | None = None
    """How often it is right, by confidence and whether the draft is; None where it is the reference."""

    @property
    def asked(self) -> tuple[float, ...]:
        return LABELLED if self.validator else ASKED


POOLS = (
    Pool("calibrated", lambda s: s, 0.5),
    Pool("good drafter", lambda s: 1.0 - 0.3 * (1.0 - s) ** 2, 0.5),
    Pool("useless confidence", lambda s: 0.9, 0.5),
    Pool("near-constant costs", lambda s: math.sqrt(s), 0.02),
    Pool("dear tail", lambda s: math.sqrt(s), 1.0),
    Pool("labelled", lambda s: 1.0 - 0.45 * (1.0 - s) ** 2, 0.5, lambda s, ok: 0.97),
    Pool("labelled, alike", lambda s: math.sqrt(s), 0.5, lambda s, ok: 0.98 if ok else 0.8),
    Pool("labelled, worse", lambda s: 1.0 - 0.3 * (1.0 - s), 0.5, lambda s, ok: 0.95 - 0.15 * s),
)


@dataclass(frozen=True, slots=True)
class Task:
    """A full record. `same`: does the validator give the same wrong answer? It matters where both are wrong."""

    confidence: float
    right: bool
    validation: int
    validator_right: bool = True
    same: bool = False


def draw(pool: Pool, generator: random.Random) -> Task:
    s = generator.random()
    cost = VALIDATION * (1.5 - s) * math.exp(generator.gauss(0.0, pool.spread))
    right = generator.random() < pool.right(s)
    if pool.validator is None:
        return Task(s, right, min(round(cost), BOUND))
    validator_right = generator.random() < pool.validator(s, right)
    return Task(s, right, min(round(cost), BOUND), validator_right, generator.random() < SAME)


def seen(task: Task, look: float, generator: random.Random, *, labelled: bool = False) -> Case:
    """What the present policy leaves in the ledger."""
    escalated = task.confidence < PRESENT
    shown = escalated or generator.random() < look
    if labelled:
        contradicted = shown and not escalated and not task.right and (task.validator_right or not task.same)
        return Case(
            propensity=1.0, right=task.right, look="possible", seen_by_chance=1.0 if escalated else look,
            labelled=True, validator_right=task.validator_right if shown and not contradicted else None,
            contradicted=contradicted, confidence=task.confidence, draft=DRAFT,
            alone=task.validation if shown else None, draft_bound=DRAFT, validator_bound=BOUND if shown else None,
        )
    return Case(
        propensity=1.0 if escalated else look, right=task.right if shown else None,
        look="possible" if escalated or look else "never", confidence=task.confidence, draft=DRAFT,
        alone=task.validation if shown else None, draft_bound=DRAFT, validator_bound=BOUND if shown else None,
        decided="rule 'not_sure'" if escalated else "rule 'otherwise' (accept)",
    )


def moves(confidences: Sequence[float], threshold: float) -> list[Move]:
    accept, escalate = Move(kind="accept", rule="otherwise"), Move(kind="escalate", rule="not_sure")
    return [accept if s >= threshold else escalate for s in confidences]


def truth(tasks: Sequence[Task], threshold: float) -> tuple[float, float, float, float]:
    """Quality, cost in dollars, cost over always validating, and how much more right than that."""
    n = len(tasks)
    right = sum(task.validator_right if task.confidence < threshold else task.right for task in tasks) / n
    cost = DRAFT + sum(task.validation for task in tasks if task.confidence < threshold) / n
    gain = right - sum(task.validator_right for task in tasks) / n
    return right, cost * 1e-9, cost / (sum(task.validation for task in tasks) / n), gain


def covers(figure: Figure, true: float) -> bool:
    """Up to what TRUTH_RUNS leave open where the interval is a point."""
    assert figure.low is not None
    assert figure.high is not None
    return figure.low - 1e-9 <= true <= figure.high + 1e-9


def coverage(pool: Pool, asked: argparse.Namespace) -> list[tuple[float, tuple[float, ...], tuple[float, ...]]]:
    """For each threshold asked about: coverage and mean width, of quality, cost and ratio; in a labelled pool also of
    how much more right than always validating."""
    generator = random.Random(f"{asked.seed} {pool.name}")
    known = [draw(pool, generator) for _ in range(TRUTH_RUNS)]
    labelled = pool.validator is not None
    true = {threshold: truth(known, threshold) for threshold in pool.asked}
    hits = {threshold: [0] * (3 + labelled) for threshold in pool.asked}
    widths = {threshold: [0.0] * (3 + labelled) for threshold in pool.asked}
    for _ in range(asked.repetitions):
        cases = [seen(draw(pool, generator), asked.look, generator, labelled=labelled) for _ in range(asked.runs)]
        confidences = [case.confidence or 0.0 for case in cases]
        for threshold in pool.asked:
            for i, figure in enumerate(shown(grouped(cases, moves(confidences, threshold)))):
                hits[threshold][i] += covers(figure, true[threshold][i])
                widths[threshold][i] += (figure.high or 0.0) - (figure.low or 0.0)
    each = asked.repetitions
    return [
        (t, tuple(h / each for h in hits[t]), tuple(
            w / each / over for w, over in zip(widths[t], (1.0, *true[t][1:3], 1.0), strict=False)
        )) for t in pool.asked
    ]


def shown(groups: Sequence[Group]) -> list[Figure]:
    found, gain = figures("", groups), against_validating(groups)
    return [found.quality, found.cost, found.ratio, *([gain] if gain else [])]


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the intervals of a what-if cover the truth?")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--look", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", action="append", choices=[pool.name for pool in POOLS], help="only these")
    asked = parser.parse_args()
    print(f"{asked.runs} runs under threshold {PRESENT}, {asked.look:g} of the accepted looked at; "
          f"{asked.repetitions} repetitions; coverage (mean width; of costs, over the truth)")
    print(f"{'pool':<21}{'threshold':>10}{'right':>17}{'cost':>17}{'over always':>17}{'more right':>17}")
    least = 1.0
    for pool in [pool for pool in POOLS if not asked.pool or pool.name in asked.pool]:
        for threshold, hits, widths in coverage(pool, asked):
            least = min(least, *hits)
            cells = "".join(f"{h:>9.3f} ({w:.3f})" for h, w in zip(hits, widths, strict=True))
            asked_of = f"{threshold:.2f}" if threshold != ALWAYS else "always"
            print(f"{pool.name:<21}{asked_of:>10}{cells}", flush=True)
    print(f"least coverage: {least:.3f}")
    refusal(asked)


def refusal(asked: argparse.Namespace) -> None:
    """Where nothing is looked at, a lower threshold can't be answered for, and a higher one can."""
    generator = random.Random(asked.seed)
    cases = [seen(draw(POOLS[0], generator), 0.0, generator) for _ in range(asked.runs)]
    confidences = [case.confidence or 0.0 for case in cases]
    for threshold in (0.2, 0.65, ALWAYS):
        never = unsupported(grouped(cases, moves(confidences, threshold)))
        said = ", ".join(f"{n} by {by}" for by, n in never.items())
        print(f"no look, threshold {threshold:g}: " + (f"refused, {said}" if never else "answered"))


if __name__ == "__main__":
    main()
