"""How long an answer takes in the embedded runtime, by batch size, threads and whether log-probabilities are taken.

python examples/order_lines/bench_batches.py [--lines 192]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from evaluate import SECRET, held_out
from generate import HERE
from prompts import check_messages, draft_messages
from runtime import Embedded

BATCHES = (1, 2, 4, 8, 16, 32)  # 32 is the most the runtime takes


def per_answer(model: Embedded, prompts: list[list[int]], batch: int) -> float:
    """Milliseconds an answer, generation alone, the better of two runs."""
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        model.answers(prompts, batch)
        best = min(best, time.perf_counter() - started)
    return best / len(prompts) * 1_000


def row(folder: Path, kind: str, threads: int, count: int) -> str:
    model = Embedded(folder, threads)
    tasks = held_out(count)
    texts = [task["input"]["text"] for task in tasks]
    if kind == "repair":
        messages = [check_messages(x, task["expected"], kind, SECRET) for x, task in zip(texts, tasks, strict=True)]
    else:
        messages = [draft_messages(text) for text in texts]
    prompts = [model.prompt(m) for m in messages]
    figures = (per_answer(model, prompts, batch) for batch in BATCHES)
    return f"| {folder.name} {kind} | {threads} | " + " | ".join(f"{ms:.2f}" for ms in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--lines", type=int, default=192)
    args = parser.parse_args()
    print("| ms an answer | threads | " + " | ".join(f"batch {n}" for n in BATCHES) + " |")
    print("| --- | --- |" + " ---: |" * len(BATCHES))
    for name, kind in (("drafter", "draft"), ("validator", "redo"), ("validator", "repair")):
        for threads in (1, 2):
            if (args.models / name / "genai_config.json").exists():
                print(row(args.models / name, kind, threads, args.lines), flush=True)


if __name__ == "__main__":
    main()
