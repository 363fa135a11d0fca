"""Logs of what a frontier model answered, and pipelines to assess on them, for the tests of `assess`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

from orchestrator.quality.assessment.assess import Assessment, assess
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, drafter
from tests.pipelines import write_pipeline

TASK = {
    "type": "object", "properties": {
        "input": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    },
}
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}
USER = [{"role": "user", "content": "hello"}]


def pipeline(folder: Path, *, step: dict[str, Any] | None = None, **settings: Any) -> Path:
    (folder / "p").mkdir()
    (folder / "p/task.json").write_bytes(orjson.dumps(TASK))
    return write_pipeline(folder / "p", step={**CERTIFIED, **(step or {})}, task="task.json", **settings)


def log(path: Path, texts: list[str], answer: str = '{"label":"a"}', **more: Any) -> Path:
    """What a frontier model answered, always the same, in the form of a proxy's log."""
    rows = [
        {"request": {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]},
         "response": {"choices": [{"message": {"role": "assistant", "content": answer}}], "usage": USAGE}, **more}
        for text in texts
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    return path


def texts(sure: int, unsure: int) -> list[str]:
    found = [f"sure {i}" for i in range(sure)] + [f"unsure {i}" for i in range(unsure)]
    random.Random(1).shuffle(found)
    return found


async def assessed(path: Path, logs: Path | None, model: ScriptedModel | None = None, **options: Any) -> Assessment:
    clients = {"drafter": model or drafter(), "validator": ScriptedModel([], name="validator")}
    store = f"sqlite:///{path.parent.parent / 's.db'}"
    return await assess(path, logs, **{"store": store, "clients": clients, **options})
