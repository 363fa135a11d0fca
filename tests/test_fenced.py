"""JSON in a code fence, as models write it that nothing holds to a schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import Pipeline
from orchestrator.cascade.draft import parse
from tests.pipelines import POLICY, write_pipeline
from tests.test_pipeline import A, B, both

ESCALATE = {**POLICY, "after": [{"name": "all", "then": "escalate"}]}


@pytest.mark.parametrize(("text", "value", "parsed"), [
    ('```json\n{"label": "a"}\n```', A, True), ('\n```\n{"label": "a"}```\n\n', A, True),
    ('```JSON  \n{"label": "```"}\n```', {"label": "```"}, True), ('{"label": "```json"}', {"label": "```json"}, True),
    ('Sure:\n```json\n{"label": "a"}\n```', None, False), ('```json\n{"label": "a"}', None, False),
    ('```json\n{"label": "a"}\n```\nor\n```json\n{"label": "b"}\n```', None, False), ("```\n```", None, False),
])
def test_what_stands_alone_in_one_fence_is_read(text: str, value: object, parsed: bool) -> None:
    assert parse(text, structured=True) == (value, parsed)
    assert parse(text, structured=False) == (text, True), "a text is what it is"


async def test_drafts_and_verdicts_in_a_fence_are_taken(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=ESCALATE, step={"validate": {"model": "validator", "mode": "repair"}})
    verdict = '```json\n{"verdict": "repaired", "reasons": ["b"], "value": {"label": "b"}}\n```'
    clients = both(lambda _: '```json\n{"label": "a"}\n```', lambda _: verdict)
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun({"input": {"text": "x"}})
    assert (outcome.status, outcome.value) == ("repaired", B)
    assert outcome.steps["label"].signals["schema"].ok
