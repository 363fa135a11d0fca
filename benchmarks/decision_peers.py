"""The same recorded tasks through a peer's accept/reject and through a certified threshold: cost and regret of both.

    python -m venv PEER && PEER/bin/pip install cascadeflow==1.2.0 openai
    python benchmarks/decision_peers.py --peer PEER/bin/python [--data FOLDER] [--redraws 200]

The peer decides every task by its defaults (peer_decisions.py). Then, over random halves of the tasks: ours is fitted
on 0.4 of one half and certified on the rest of it, and everyone is measured on the other half. Ours is asked for half
of the base regret, and for the regret that the peer's agent showed on the first half.
Two yardsticks accept as many drafts as the agent: `blind` at random, `surest` those with the highest fitted confidence.
A signal that is worth something regrets less than blind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fitted import fitted_scores
from numpy.typing import NDArray
from pools import Floats, Pool, Population, add_options, print_head, ranks
from public_pools import SERVED, Problem, gsm8k, mixtral, problems

from orchestrator.quality import certify

FIT_SHARE = 0.4
Figures = tuple[float, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="A peer's accept/reject beside a certified threshold.")
    add_options(parser)
    parser.add_argument("--peer", help="Python of an environment with cascadeflow==1.2.0")
    parser.add_argument("--redraws", type=int, default=200)
    parser.add_argument("--confidence", type=float, default=0.9)
    asked = parser.parse_args()
    print_head(asked)
    version = peer_version(asked.peer)
    print(f"peer: {version or 'not installed: give --peer PYTHON'}")
    joined = problems(asked.data)
    for name, pool in (("gsm8k", gsm8k(asked.data)), ("mixtral", mixtral(asked.data))):
        decided = peer_decisions(asked.peer, joined, name) if version else []
        more = {"fitted on four drafts": gsm8k(asked.data, four=True)} if name == "gsm8k" else {}
        print_pool(pool, more, decided, asked)


def peer_version(python: str | None) -> str | None:
    if python is None:
        return None
    ask = "from importlib.metadata import version; import cascadeflow; print('cascadeflow', version('cascadeflow'))"
    said = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 else None


def peer_decisions(python: str, joined: list[Problem], name: str) -> list[dict[str, Any]]:
    """What the peer did with each problem, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = Path(folder) / "tasks.jsonl"
        tasks.write_text("".join(json.dumps(task(i, p, name)) + "\n" for i, p in enumerate(joined)), encoding="utf-8")
        script = str(Path(__file__).with_name("peer_decisions.py"))
        ran = subprocess.run([python, script, str(tasks)], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def task(number: int, problem: Problem, name: str) -> dict[str, Any]:
    of_mixtral = name == "mixtral"
    draft = problem.drafts[SERVED]
    return {
        "id": str(number), "question": problem.question, "answer": problem.validator_text,
        "draft": problem.mixtral_text if of_mixtral else draft["raw_text"],
        "confidence": None if of_mixtral else draft["conf"],
    }


def print_pool(pool: Pool, more: Mapping[str, Pool], decided: list[dict[str, Any]], asked: argparse.Namespace) -> None:
    """`more`: the same tasks with other features and costs, for another confidence."""
    figures: dict[str, list[Figures]] = defaultdict(list)
    for number in range(asked.redraws):
        order = np.random.default_rng([asked.seed, number]).permutation(len(pool.items))
        halves = Halves(order[: len(order) // 2], order[len(order) // 2 :], number)
        for name, found in halves.rows(pool, more, decided, asked.confidence).items():
            figures[name].append(found)
    print(f"\n{pool.name}: {pool.about}; {asked.redraws} halves of {len(pool.items)} tasks, base regret "
          f"{pool.population.regret.mean():.3f}, always validating is right on {pool.population.validator.mean():.3f}")
    print(f"{'':<56}{'cost ratio':>11}{'regret':>8}{'accepted':>10}{'right':>8}")
    for name, rows in figures.items():
        cost, regret, accepted, right = np.mean(rows, axis=0)
        print(f"{name:<56}{cost:>11.3f}{regret:>8.3f}{accepted:>10.3f}{right:>8.3f}", flush=True)


@dataclass(frozen=True, slots=True)
class Halves:
    """The indices of the tasks that ours learns from, and of those that everyone is measured on."""

    ours: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int

    def rows(
        self, pool: Pool, more: Mapping[str, Pool], decided: list[dict[str, Any]], confidence: float
    ) -> dict[str, Figures]:
        fitting = round(FIT_SHARE * len(self.ours))
        fit_on, left = self.ours[:fitting], self.ours[fitting:]
        scores = {
            name: fitted_scores(under.items, fit_on, np.arange(len(under.items)), seed=self.seed)
            for name, under in {"fitted": pool, **more}.items()
        }
        rows: dict[str, Figures] = {}
        targets = {"half of the base regret": pool.tolerance["regret"]}
        if decided:
            rows |= self.peer(pool.population, decided, scores["fitted"])
            accepted = np.array([d["accepted"] for d in decided])[self.ours]
            targets["the agent's regret"] = float((accepted * pool.population.regret[self.ours]).mean())
        for target, tolerance in targets.items():
            rows[f"certified, raw; {target}"] = self.certified(
                pool.population, pool.population.scores, self.ours, tolerance, confidence
            )
            for name, under in {"fitted": pool, **more}.items():
                rows[f"certified, {name}; {target}"] = self.certified(
                    under.population, scores[name], left, tolerance, confidence
                )
        return rows

    def certified(
        self, tasks: Population, scores: Floats, used: NDArray[np.int64], tolerance: float, confidence: float
    ) -> Figures:
        certificate = certify(
            tasks.part(used, scores[used]).records(), max_regret=tolerance, confidence=confidence, seed=self.seed
        )
        part = tasks.part(self.test, scores[self.test])
        threshold = np.inf if certificate.threshold is None else certificate.threshold
        pays = certificate.recommendation != "always_validate"
        return measured(part, (part.scores >= threshold) * float(pays), np.full(len(part), float(pays)))

    def peer(self, tasks: Population, decided: list[dict[str, Any]], fitted: Floats) -> dict[str, Figures]:
        part, of = tasks.part(self.test), [decided[i] for i in self.test]
        accepted, drafted = (np.array([d[key] for d in of], dtype=float) for key in ("accepted", "drafted"))
        surest = (ranks(fitted[self.test]) > 1.0 - accepted.mean()).astype(float)
        rows = {
            "cascadeflow, agent": measured(part, accepted, drafted),
            "blind, as many accepted": measured(part, np.full(len(part), accepted.mean()), drafted),
            "surest, as many accepted (not certified)": measured(part, surest, np.ones(len(part))),
        }
        if of[0]["quality"] is not None:
            quality = np.array([d["quality"] for d in of], dtype=float)
            rows["cascadeflow, validator given the confidence"] = measured(part, quality, np.ones(len(part)))
        return rows


def measured(tasks: Population, accepted: NDArray[np.floating[Any]], drafted: Floats) -> Figures:
    """Cost over always validating, regret, share of drafts accepted, share of tasks answered rightly."""
    spent = (drafted * tasks.draft_cost + (1.0 - accepted) * tasks.validator_cost).sum()
    right = accepted * tasks.draft + (1.0 - accepted) * tasks.validator
    return (
        float(spent / tasks.validator_cost.sum()), float((accepted * tasks.regret).mean()), float(accepted.mean()),
        float(right.mean()),
    )


if __name__ == "__main__":
    main()
