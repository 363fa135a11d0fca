"""Does the recommendation hold, and does a gate before the draft beat the cascade after it? In money.

    python benchmarks/certify_advice.py [--data FOLDER] [--redraws 200] [--n 500]

1. Pools built so that no cascade pays, and so that no validation pays: the recommendation of every redraw is counted,
   and one printed. Exits with 1 where one of them gets another recommendation in a redraw out of ten or more.
2. A gate sends what it expects to be drafted badly straight to the validator, and saves those drafts; a cascade drafts
   everything and sees more. Both certified to half of the base regret on the same tasks, over prices of a draft.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from fitted import fitted_scores
from pools import Floats, Pool, Population, add_options, print_head
from public_pools import gsm8k, mmlu, out_of_fold, problems
from synthetic_pools import good_drafter, poor_drafter

from orchestrator.quality import certify

DRAFT_OVER_VALIDATION = (0.01, 0.05, 0.1, 0.2, 0.4)
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Recommendations, and gates beside cascades.")
    add_options(parser)
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--n", type=int, default=500, help="labelled records (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.9)
    asked = parser.parse_args()
    print_head(asked)
    wrong = [
        advice(poor_drafter(asked.seed), "always_validate", asked),
        advice(good_drafter(asked.seed), "always_draft", asked),
    ]
    print_gates("mmlu", gate_and_cascades_mmlu(asked), asked)
    print_gates("gsm8k", gate_and_cascades_gsm8k(asked), asked)
    sys.exit(1 if any(wrong) else 0)


def advice(pool: Pool, expected: str, asked: argparse.Namespace) -> bool:
    """Prints what is recommended over redraws of the pool; returns whether it is too often something else."""
    generator, records = random.Random(asked.seed), pool.population.records()
    found: Counter[str] = Counter()
    for _ in range(asked.redraws):
        drawn = generator.choices(records, k=asked.n)
        certificate = certify(drawn, max_regret=pool.tolerance["regret"], confidence=asked.confidence)
        found[certificate.recommendation] += 1
    print(f"{pool.name}: built for {expected}; {dict(found)} in {asked.redraws} redraws of {asked.n}. The last says:")
    print(f"  {certificate.recommendation}: {'; '.join(certificate.reasons)}\n  {certificate.guarantee}\n", flush=True)
    return found[expected] <= 0.9 * float(asked.redraws)


Candidates = dict[str, tuple[Population, bool]]
"""By name: the tasks under a score, and whether it is known before the draft."""


def gate_and_cascades_mmlu(asked: argparse.Namespace) -> tuple[float, Candidates]:
    """The score is known before the draft, so that both may use it."""
    pool = mmlu(asked.data)
    return pool.tolerance["regret"], {
        "gate, prompt": (pool.population, True), "cascade, same score": (pool.population, False)
    }


def gate_and_cascades_gsm8k(asked: argparse.Namespace) -> tuple[float, Candidates]:
    """Before the draft the question; after it what the draft says of itself, and a confidence fitted on features."""
    pool, joined = gsm8k(asked.data), problems(asked.data)
    before = np.array(out_of_fold([p.question for p in joined], [bool(p.drafts[2]["correct"]) for p in joined]))
    whole, every = pool.population, np.arange(len(pool.items))
    return pool.tolerance["regret"], {
        "gate, question": (whole.part(every, before), True), "cascade, raw": (whole, False),
        "cascade, fitted": (whole.part(every, held_out(pool, asked.seed)), False),
    }


def held_out(pool: Pool, seed: int) -> Floats:
    """The fitted confidence of every task, from the other folds."""
    order = np.random.default_rng(seed).permutation(len(pool.items))
    scores = np.empty(len(order))
    for fold in np.array_split(order, FOLDS):
        scores[fold] = fitted_scores(pool.items, np.setdiff1d(order, fold), fold, seed=seed)
    return scores


def print_gates(name: str, given: tuple[float, Candidates], asked: argparse.Namespace) -> None:
    """Mean cost a thousand tasks, a validation at its recorded cost and a draft at a share of it."""
    tolerance, candidates = given
    some = next(iter(candidates.values()))[0]
    always = 1000.0 * float(some.validator_cost.mean())
    print(f"{name}: regret at most {tolerance:.3f}, certified on {asked.n} records, {asked.redraws} redraws; "
          f"always validating costs {always:.3f} USD a thousand tasks, and so does what does not pay")
    print(f"{'draft / validation':<20}" + "".join(f"{column:>22}" for column in candidates))
    for share in DRAFT_OVER_VALIDATION:
        saved = (np.mean(list(savings(*of, share, tolerance, asked))) for of in candidates.values())
        print(f"{share:<20}" + "".join(f"{always * (1.0 - float(share)):>22.3f}" for share in saved), flush=True)
    print()


def savings(
    tasks: Population, before: bool, share: float, tolerance: float, asked: argparse.Namespace
) -> Iterator[float]:
    """The true saving of what each redraw certifies; 0 where it does not pay on its own records."""
    priced = Population(
        tasks.scores, tasks.draft, tasks.validator, share * tasks.validator_cost, tasks.validator_cost, tasks.covariate
    )
    generator, records = random.Random(asked.seed), priced.records()
    for _ in range(asked.redraws):
        drawn = generator.choices(records, k=asked.n)
        found = certify(drawn, max_regret=tolerance, confidence=asked.confidence, drafts_first=not before)
        if found.recommendation == "always_validate":
            yield 0.0
        else:
            yield priced.gated_saving(found.threshold) if before else priced.saving(found.threshold)


if __name__ == "__main__":
    main()
