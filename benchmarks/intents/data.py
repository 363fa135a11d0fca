"""A data set of short texts, each with one intent of a closed list: what is asked of one, and what is made of it.

Imports nothing but the language: the training runs in vLLM's environment, which has no orchestrator.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SPLIT_SEED = 77
Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Question:
    """`id` is the part of the data and the row in it: test-17."""

    id: str
    text: str
    intent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """`files` stand in the folder that `read` is given. No intent may stand in a text: each becomes one token, wherever
    it is read. `read` raises ValueError where the files are of another form."""

    name: str
    files: tuple[str, ...]
    read: Callable[[Path, Part], list[Question]]


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
