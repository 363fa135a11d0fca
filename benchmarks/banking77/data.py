"""banking77: questions of bank customers, each with one of 77 intents (Casanueva et al. 2020, CC BY 4.0).

Imports nothing but the language: the training runs in vLLM's environment, which has no orchestrator.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SPLIT_SEED = 77
FILES = ("train.csv", "test.csv")


@dataclass(frozen=True, slots=True)
class Question:
    """`id` is the file and the row in it: test-17."""

    id: str
    text: str
    intent: str


def read(path: Path) -> list[Question]:
    """The questions of train.csv or test.csv. Raises ValueError where a column is missing."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["text", "category"]:
            raise ValueError(f"{str(path)!r} has the columns {reader.fieldnames!r}: text,category is needed")
        return [Question(f"{path.stem}-{row}", r["text"], r["category"]) for row, r in enumerate(reader, 1)]


def intents(questions: Iterable[Question]) -> list[str]:
    """The labels, sorted: their order in the schema and in the tokenizer."""
    return sorted({q.intent for q in questions})


def halves(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """A random half to certify on and the other to measure on: always the same, whoever asks."""
    drawn = random.Random(SPLIT_SEED).sample(questions, len(questions))
    return drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]


def write_tasks(path: Path, questions: Iterable[Question], part: str) -> None:
    """Tasks with their labels, as `orchestrator run` and `calibrate` read them; `part` is the half they are of."""
    lines = (
        {"id": q.id, "input": {"text": q.text}, "meta": {"part": part}, "expected": {"intent": q.intent}}
        for q in questions
    )
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
