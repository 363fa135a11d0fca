"""How long do `certify`, the features of a draft and its fitted confidence take?

    python benchmarks/certify_speed.py [--records 10000] [--runs 50]

Best of some runs, in ms; beside it the ratio to sorting the same records by score, measured in the same run, which says
more on another machine. Nothing is judged here.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

import orjson
from pools import add_options, print_head
from synthetic_pools import graded, informative

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.cascade.signals import draft_features
from orchestrator.cascade.signals.features import features_to_json
from orchestrator.config.feature_names import DRAFT_FEATURES, LOGPROB_FEATURES, TASK_FEATURES
from orchestrator.models.logprobs import summarise, value_span
from orchestrator.quality import Record, certify
from orchestrator.quality.fitted.confidence import fit_confidence
from orchestrator.records import Answer, Draft, Signal, Task, TokenLogprobs, Usage

LOGPROBS = [f"{part}_{name}" for part in ("lp", "span") for name in LOGPROB_FEATURES]
NAMES = (*TASK_FEATURES, *DRAFT_FEATURES, *LOGPROBS, "schema.ok")
"""What is kept of a draft of a step with a schema signal and log-probabilities."""
DRAFTS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description="How long does certification take?")
    add_options(parser)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=50)
    asked = parser.parse_args()
    print_head(asked)
    draw = random.Random(asked.seed)
    binary, grades = (
        draw.sample(pool.population.records(), asked.records) for pool in (informative(asked.seed), graded(asked.seed))
    )
    sorting = best(lambda: sorted(binary, key=lambda record: record.score), asked.runs)
    print(f"{asked.records} records, best of {asked.runs} runs{'ms':>26}{'x sorting':>11}")
    line("sorting them by score", sorting, sorting)
    for what, run in cases(binary, grades, draw).items():
        line(what, best(run, asked.runs), sorting)
    print(f"\n{DRAFTS} drafts, best of {asked.runs} runs{'ms a draft':>30}")
    each = {what: best(run, asked.runs) / DRAFTS for what, run in per_draft(draw).items()}
    summed_up, *added = each.values()
    sums = {"features and confidence": sum(added), "with the summary": summed_up + sum(added)}
    for what, seconds in {**each, **sums}.items():
        print(f"{what:<45}{seconds * 1e3:>12.4f}")


def cases(binary: Sequence[Record], grades: Sequence[Record], draw: random.Random) -> dict[str, Callable[[], object]]:
    unequal = [
        Record(r.score, r.draft_ok, r.validator_ok, r.draft_cost, r.validator_cost, draw.choice((0.25, 0.5, 1.0)))
        for r in binary
    ]
    traffic = [r.score for r in binary]
    return {
        "certify, regret": lambda: certify(binary, max_regret=0.1),
        "certify, regret, unequal propensities": lambda: certify(unequal, max_regret=0.1),
        "certify, regret, grades": lambda: certify(grades, max_regret=0.1),
        "certify, regret, traffic": lambda: certify(binary, max_regret=0.1, traffic=traffic),
        "certify, selective": lambda: certify(binary, max_regret=0.2, loss="selective"),
        "certify, selective, traffic": lambda: certify(binary, max_regret=0.2, loss="selective", traffic=traffic),
    }


def per_draft(draw: random.Random) -> dict[str, Callable[[], object]]:
    """From the token log-probabilities of an answer to its confidence, step by step, each over all drafts."""
    said = [sampled(draw) for _ in range(DRAFTS)]
    summaries = [summary(*one) for one in said]
    drafts = [
        Draft(value={}, text=text, parsed=True, answer=Answer(
            text=text, finish_reason="stop", usage=Usage(input=60, output=len(tokens)), model="drafter", logprobs=whole,
            value_logprobs=values,
        )) for (text, tokens, _), (whole, values) in zip(said, summaries, strict=True)
    ]
    task, signals = Task(input={"text": "card payment of 12.50 not recognised " * 4}), {"schema": Signal(name="schema")}
    kept = [draft_features(draft, signals, task, NAMES) for draft in drafts]
    right = [draw.random() < 1.3 + 1.5 * whole.mean - 0.02 * whole.n for whole, _ in summaries]
    artefact = fit_confidence(kept, right)
    confidence = FittedConfidence(artefact.body())
    return {
        "summary of the log-probabilities": lambda: [summary(*one) for one in said],
        f"{len(NAMES)} features": lambda: [draft_features(draft, signals, task, NAMES) for draft in drafts],
        "as kept in the ledger": lambda: [features_to_json(row.values()) for row in kept],
        f"confidence ({artefact.model['kind']})": lambda: [confidence.of(row, {}) for row in kept],
    }


Sampled = tuple[str, list[str], list[float]]


def sampled(draw: random.Random) -> Sampled:
    """A JSON answer of about 40 tokens with log-probabilities, some surer than others."""
    values = (draw.choice(("refund pending", "card arrival", 12.5)) for _ in range(draw.randint(2, 7)))
    text = orjson.dumps({f"field_{i}": value for i, value in enumerate(values)}).decode()
    tokens = [text[i : i + 3] for i in range(0, len(text), 3)]
    unsure = draw.uniform(0.02, 0.6)
    return text, tokens, [-draw.expovariate(1.0 / unsure) for _ in tokens]


def summary(text: str, tokens: list[str], logprobs: list[float]) -> tuple[TokenLogprobs, TokenLogprobs]:
    """Of the whole answer, and of its values alone."""
    seconds, span = [p - 2.0 for p in logprobs], value_span(text, tokens)
    return summarise(tokens, logprobs, seconds), summarise(
        [tokens[i] for i in span], [logprobs[i] for i in span], [seconds[i] for i in span]
    )


def best(run: Callable[[], object], runs: int) -> float:
    """Seconds."""
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return min(found)


def line(what: str, seconds: float, sorting: float) -> None:
    print(f"{what:<45}{seconds * 1e3:>12.3f}{seconds / sorting:>11.2f}", flush=True)


if __name__ == "__main__":
    main()
