"""An output that a pydantic model describes: what the model would refuse is never accepted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, model_validator

from orchestrator import Pipeline
from orchestrator.errors import ConfigError
from tests.pipelines import POLICY, write_pipeline
from tests.test_pipeline import both

HERE = {"allow_imports": ["tests.test_output_model"]}
ACCEPT = {**POLICY, "after": [{"name": "all", "then": "accept"}]}
TAKEN = {"due": "2026-12-01", "total": 3.5}


class Bill(BaseModel):
    due: date
    total: float

    @model_validator(mode="after")
    def not_below_zero(self) -> Bill:
        if self.total < 0:
            raise ValueError(f"{self.total} is below zero")
        return self


class Odd(BaseModel):
    made_by: Callable[[int], int]


def pipeline(folder: Path, output: str, draft: Any, verdict: Any = ()) -> Pipeline:
    path = write_pipeline(folder, policy=ACCEPT, step={"output": output}, **HERE)
    return Pipeline.load(path, store="memory:", clients=both(lambda _: draft, verdict))


async def test_what_the_model_takes_is_accepted(tmp_path: Path) -> None:
    async with pipeline(tmp_path / "p", "tests.test_output_model:Bill", TAKEN) as taking:
        outcome = await taking.arun({"input": {"text": "x"}})
    assert (outcome.status, outcome.value) == ("accepted", TAKEN)
    assert Bill.model_validate(outcome.value).due == date(2026, 12, 1)


@pytest.mark.parametrize(("draft", "reason"), [
    ({"due": "soon", "total": 3.5}, 'value.due: it is not a "date"'),
    ({"due": "2026-12-01", "total": -4}, "value: value_error"),
    ({"due": "2026-12-01"}, 'value: "total" is a required property'),
])
async def test_what_the_model_refuses_goes_to_the_validator(tmp_path: Path, draft: Any, reason: str) -> None:
    """And so does the validator's own answer; what is said of it quotes none of it."""
    async with pipeline(tmp_path / "p", "tests.test_output_model:Bill", draft, lambda _: TAKEN) as taking:
        outcome = await taking.arun({"input": {"text": "x"}})
    assert (outcome.status, outcome.value) == ("redone", TAKEN)
    assert outcome.decision is not None
    assert reason in outcome.decision.explanation
    async with pipeline(tmp_path / "q", "tests.test_output_model:Bill", draft, lambda _: draft) as refusing:
        assert (await refusing.arun({"input": {"text": "x"}})).status == "handed_off"


async def test_a_format_of_a_schema_file_is_meant(tmp_path: Path) -> None:
    dated = {"type": "object", "properties": {"due": {"type": "string", "format": "date"}}, "required": ["due"]}
    for draft, status in (({"due": "2026-12-01"}, "accepted"), ({"due": "soon"}, "handed_off")):
        path = write_pipeline(tmp_path / status, policy=ACCEPT)
        (path.parent / "output.json").write_bytes(orjson.dumps(dated))
        clients = both(lambda _, draft=draft: draft, lambda _, draft=draft: draft)
        async with Pipeline.load(path, store="memory:", clients=clients) as one:
            assert (await one.arun({"input": {"text": "x"}})).status == status


@pytest.mark.parametrize(("output", "words"), [
    ("tests.test_output_model:Odd", "has no JSON Schema"), ("tests.test_output_model:BaseModel", "has no fields"),
    ("tests.test_output_model:date", "is no pydantic model"),
])
def test_a_model_without_a_schema_is_named_with_its_line(tmp_path: Path, output: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        pipeline(tmp_path / "p", output, TAKEN)
    assert caught.value.line is not None
    assert caught.value.key == "steps[0].output"
