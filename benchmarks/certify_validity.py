"""How often does a certificate break its promise? Redraws of labelled records from pools whose truth is known.

    python benchmarks/certify_validity.py [--redraws 600] [--n 300] [--max-regret 0.05] [--confidence 0.9]

Prints, for each pool and rule: the share of redraws in which the true regret of the certified threshold exceeds the
tolerance (to be at most 1 - confidence), the mean share of drafts accepted, and that share over the best threshold
known in hindsight. Beside `certify` stands the plug-in rule that most cascades use: the lowest threshold whose regret
on the sample is within the tolerance.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.quality.certify import certify
from orchestrator.quality.records import Record

Rule = Callable[[Sequence[Record], float, float], float | None]


@dataclass(frozen=True)
class Pool:
    """Scores are uniform on [0, 1]; P(right | score) is `right`, and `regret(t)` its integral over score >= t."""

    name: str
    right: Callable[[float], float]
    regret: Callable[[float], float]

    def draw(self, n: int, generator: random.Random) -> list[Record]:
        scores = [generator.random() for _ in range(n)]
        return [Record(s, generator.random() < self.right(s)) for s in scores]

    def best(self, tolerance: float) -> float:
        """The lowest threshold whose true regret is within the tolerance."""
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.regret(middle) <= tolerance else (middle, high)
        return high


POOLS = (
    Pool("calibrated", lambda s: s, lambda t: (1 - t) ** 2 / 2),
    Pool("sharp", lambda s: 1 - 0.5 * (1 - s) ** 4, lambda t: 0.1 * (1 - t) ** 5),
    Pool("weak", lambda s: 0.7 + 0.2 * s, lambda t: 0.3 * (1 - t) - 0.1 * (1 - t * t)),
    Pool("useless", lambda s: 0.9, lambda t: 0.1 * (1 - t)),
    Pool("misleading", lambda s: 1 - 0.2 * s, lambda t: 0.1 * (1 - t * t)),
)


def certified(records: Sequence[Record], tolerance: float, confidence: float) -> float | None:
    return certify(records, max_regret=tolerance, confidence=confidence).threshold


def plug_in(records: Sequence[Record], tolerance: float, confidence: float) -> float | None:
    """Accept as much as looks good enough on the sample; `confidence` plays no part."""
    allowed = math.floor(tolerance * len(records))
    wrong, best = 0, None
    for record in sorted(records, key=lambda r: -r.score):
        wrong += not record.draft_ok
        if wrong > allowed:
            break
        best = record.score
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="How often does a certificate break its promise?")
    parser.add_argument("--redraws", type=int, default=600)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--max-regret", type=float, default=0.05)
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print(f"n = {asked.n}, max regret {asked.max_regret}, confidence {asked.confidence}, {asked.redraws} redraws")
    print(f"{'pool':<12}{'rule':<12}{'violations':>12}{'accepted':>10}{'of best':>9}")
    rules: dict[str, Rule] = {"certify": certified, "plug-in": plug_in}
    for pool in POOLS:
        for name, rule in rules.items():
            print(f"{pool.name:<12}{name:<12}{row(pool, rule, asked)}")
    standard = math.sqrt(asked.confidence * (1 - asked.confidence) / asked.redraws)
    print(f"promised: at most {1 - asked.confidence:.3f}; one standard error is {standard:.3f}")


def row(pool: Pool, rule: Rule, asked: argparse.Namespace) -> str:
    generator = random.Random(asked.seed)
    thresholds = [
        rule(pool.draw(asked.n, generator), asked.max_regret, asked.confidence) for _ in range(asked.redraws)
    ]
    violations = sum(t is not None and pool.regret(t) > asked.max_regret for t in thresholds) / asked.redraws
    accepted = sum(0.0 if t is None else 1.0 - t for t in thresholds) / asked.redraws
    return f"{violations:>12.3f}{accepted:>10.3f}{accepted / (1.0 - pool.best(asked.max_regret)):>9.3f}"


if __name__ == "__main__":
    main()
