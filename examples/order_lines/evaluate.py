"""Measure both models on the held-out lines with the embedded runtime.

    python examples/order_lines/evaluate.py [--models DIR] [--data held_out] [--limit N] [--batch 32] [--threads 1]

Right means equal to `expected` as JSON (7 and 7.0 are equal). Repair checks the drafter's own drafts on the same lines;
its result is the draft if approved, else the corrected value.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from generate import HERE
from prompts import Messages, check_messages, draft_messages
from runtime import Answer, Embedded, auroc, parsed

SECRET = b"evaluate: any 64 bytes will do; a store draws its own at random"[:64]
Task = dict[str, Any]


def held_out(limit: int | None, name: str = "held_out") -> list[Task]:
    path = HERE / "data" / f"{name}.jsonl"
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()][:limit]


def timed(model: Embedded, messages: list[Messages], batch: int) -> tuple[list[Answer], float]:
    """Answers, and milliseconds an answer: prompt rendering and tokenizing included."""
    started = time.perf_counter()
    found = model.answers([model.prompt(m) for m in messages], batch)
    return found, (time.perf_counter() - started) / len(messages) * 1_000


def right(values: list[Any], tasks: list[Task]) -> list[bool]:
    return [value == task["expected"] for value, task in zip(values, tasks, strict=True)]


def share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 4)


def wrong_fields(values: list[Any], tasks: list[Task]) -> dict[str, int]:
    """How often each field of a wrong answer was at fault."""
    count: Counter[str] = Counter()
    for value, task in zip(values, tasks, strict=True):
        if not isinstance(value, dict):
            count["format"] += 1
            continue
        count.update(key for key, x in task["expected"].items() if value.get(key) != x)
    return dict(count)


def drafter_figures(drafter: Embedded, tasks: list[Task], batch: int) -> tuple[dict[str, Any], list[Any]]:
    found, ms = timed(drafter, [draft_messages(t["input"]["text"]) for t in tasks], batch)
    values = [parsed(a.text) for a in found]
    flags = right(values, tasks)
    means = [sum(a.logprobs) / len(a.logprobs) for a in found]
    figures = {
        "right": share(flags),
        "auroc_min_logprob": round(auroc([min(a.logprobs) for a in found], flags), 4),
        "auroc_mean_logprob": round(auroc(means, flags), 4),
        "ms_per_answer": round(ms, 2),
        "wrong_fields": wrong_fields(values, tasks),
    }
    return figures, values


def validator_figures(validator: Embedded, tasks: list[Task], drafts: list[Any], batch: int) -> dict[str, Any]:
    texts = [t["input"]["text"] for t in tasks]
    redo, redo_ms = timed(validator, [draft_messages(text) for text in texts], batch)
    redone = [parsed(a.text) for a in redo]
    figures: dict[str, Any] = {
        "redo": {
            "right": share(right(redone, tasks)),
            "ms_per_answer": round(redo_ms, 2),
            "wrong_fields": wrong_fields(redone, tasks),
        }
    }
    draft_right = right(drafts, tasks)
    for mode in ("repair", "judge"):
        messages = [check_messages(text, draft, mode, SECRET) for text, draft in zip(texts, drafts, strict=True)]
        found, ms = timed(validator, messages, batch)
        replies = [parsed(a.text) for a in found]
        approved = [isinstance(r, dict) and r.get("verdict") == "approved" for r in replies]
        figures[mode] = {
            "ms_per_answer": round(ms, 2),
            "wrong_drafts": draft_right.count(False),
            "wrong_approved": sum(a and not r for a, r in zip(approved, draft_right, strict=True)),
            "right_not_approved": sum(r and not a for a, r in zip(approved, draft_right, strict=True)),
        }
        if mode == "repair":
            values = [final(reply, draft) for reply, draft in zip(replies, drafts, strict=True)]
            figures[mode] |= {"right": share(right(values, tasks)), "wrong_fields": wrong_fields(values, tasks)}
        else:
            figures[mode]["right"] = share([a == r for a, r in zip(approved, draft_right, strict=True)])
    return figures


def final(reply: Any, draft: Any) -> Any:
    """What is served after a repair: the draft if approved, the corrected value if repaired, else nothing."""
    if not isinstance(reply, dict):
        return None
    return draft if reply.get("verdict") == "approved" else reply.get("value")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--only", choices=("drafter", "validator"))
    parser.add_argument("--data", choices=("held_out", "calibration"), default="held_out")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tasks = held_out(args.limit, args.data)
    figures: dict[str, Any] = {"lines": len(tasks), "batch": args.batch, "threads": args.threads}
    figures["drafter"], drafts = drafter_figures(Embedded(args.models / "drafter", args.threads), tasks, args.batch)
    if args.only != "drafter":
        validator = Embedded(args.models / "validator", args.threads)
        figures["validator"] = validator_figures(validator, tasks, drafts, args.batch)
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
