"""Tasks and scripted models for the tests of calibrations: the drafter is right and sure, or wrong and unsure."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.models.logprobs import summarise
from orchestrator.quality.calibration.calibrate import Calibration, calibrate
from orchestrator.quality.calibration.evidence import Source
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.testing import ScriptedModel
from tests.pipelines import user_text, write_pipeline

CERTIFIED: dict[str, Any] = {"confidence": {"from": "logprob.mean", "certificate": "certificates/label.json"}}
FITTED: dict[str, Any] = {
    "confidence": {"fitted": "confidence/label.json", "certificate": "certificates/label.json"},
}


def labels(sure: int, unsure: int) -> list[Task]:
    """Tasks whose right answer is always "a"; the drafter is right and sure, or wrong and unsure."""
    texts = [f"sure {i}" for i in range(sure)] + [f"unsure {i}" for i in range(unsure)]
    return [Task(id=text, input={"text": text}, expected={"label": "a"}) for text in texts]


def drafter() -> ScriptedModel:
    return ScriptedModel(draft, name="drafter")


def draft(request: Request) -> Answer:
    """How sure it is varies a little from task to task, with the number in its text."""
    text = user_text(request)
    unsure, number = "unsure" in text, int("".join(filter(str.isdigit, text)) or 0)
    logprob = (-2.0 if unsure else -0.01) * (1.0 + number % 97 / 1000.0)
    return said('{"label":"b"}' if unsure else '{"label":"a"}', logprob)


def said(text: str, logprob: float) -> Answer:
    found = summarise([text], [logprob])
    return Answer(text=text, finish_reason="stop", usage=Usage(input=10, output=5), model="drafter", logprobs=found,
                  value_logprobs=found)


def validator() -> ScriptedModel:
    """Says "a" to everything, for 10 tokens in and 5 out: 105,000 billionths of a dollar at the tests' prices."""
    return ScriptedModel(
        lambda request: Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=10, output=5),
                               model="validator"), name="validator",
    )


async def calibrated(folder: Path, source: Source | list[Task], **options: Any) -> Calibration:
    """A calibration of the pipeline in `folder`/p (made where it is not there), on the store beside it."""
    path = folder / "p/pipeline.yaml"
    if not path.exists():
        write_pipeline(folder / "p", step=options.pop("step_config", CERTIFIED))
    return await calibrate(path, source, **{
        "max_regret": 0.03, "store": f"sqlite:///{folder / 's.db'}", "now": lambda: datetime(2026, 11, 22, tzinfo=UTC),
        "clients": {"drafter": drafter(), "validator": validator()}, **options,
    })
