"""A large ledger of one pipeline: its first runs by the real pipeline with scripted models, then copied by SQL.

For benchmarks/ledger_scale.py. A fifth of the runs is escalated, 2% of the accepted drafts are spot-checked, no content
is kept. Each copy is an hour later than the one before, with confidences of its own.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from functools import partial
from pathlib import Path

from benchmarks.ledger_fill import FAST, copy_rows
from orchestrator.models.logprobs import summarise
from orchestrator.pipeline import Pipeline
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.testing import ScriptedModel
from tests.lapsing import watched_policy, write_certified
from tests.pipelines import user_text

LIVED = 5000
HOUR_S = 3600
COPIED = ("run", "outcome", "step", "spot_check", "feedback", "call")
SHIFTED = ("created_at", "ended_at", "started_at", "at")


def fill(place: Path, pipeline: Path, runs: int) -> None:
    """Write the pipeline's folder, where there is none, and the store at `place`."""
    if not pipeline.exists():
        write_certified(pipeline, policy=watched_policy(0.02), content={"keep": "none"}, drift={"false_alarm": 1e-9})
    lived = min(runs, LIVED)
    asyncio.run(live(pipeline / "pipeline.yaml", place, lived))
    multiply(place, runs // lived)


async def live(pipeline: Path, place: Path, runs: int) -> None:
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validate, name="validator")}
    async with Pipeline.load(pipeline, store=f"sqlite:///{place}", clients=clients) as opened:
        tasks = (Task(id=str(i), input={"text": f"text {i}"}) for i in range(runs))
        async for _ in opened.amap(tasks):
            continue


def draft(request: Request) -> Answer:
    """Surer and more often right by a number that the task's own picks; a fifth is below the threshold of -0.5."""
    generator = random.Random(user_text(request))
    confidence = -0.625 * generator.random()
    text = '{"label":"a"}' if generator.random() < 0.99 + confidence / 4 else '{"label":"b"}'
    found = summarise([text], [confidence])
    usage = Usage(input=generator.randrange(200, 600), output=5)
    return Answer(text=text, finish_reason="stop", usage=usage, model="drafter", logprobs=found, value_logprobs=found)


def validate(request: Request) -> Answer:
    usage = Usage(input=random.Random(user_text(request)).randrange(300, 900), output=5)
    return Answer(text='{"label":"a"}', finish_reason="stop", usage=usage, model="validator")


def multiply(place: Path, times: int) -> None:
    """The ledger `times` over: each copy an hour later. Its sums by the hour are not: nothing here reads them."""
    with sqlite3.connect(place) as connection:
        for pragma in FAST:
            connection.execute(pragma)
        for name in COPIED:
            connection.execute(f"CREATE TEMP TABLE lived_{name} AS SELECT * FROM {name}")
        for copy in range(1, times):
            for name in COPIED:
                copy_rows(connection, name, f"lived_{name}", partial(_value, copy=copy))
            connection.commit()


def _value(column: str, copy: int) -> str:
    if column in ("run_id", "call_id", "feedback_id"):  # in order of time, as they are
        return f"substr({column}, 1, 2) || '{copy:05d}' || substr({column}, 8)"
    if column == "task_key":
        return f"{column} || '-{copy:05d}'"
    if column in SHIFTED:
        return f"{column} + {copy * HOUR_S}"
    return f"{column} - {copy} * 1e-9" if column == "confidence" else column

