"""The pipeline as a node: whatever state the caller's graph has, and what its checkpointer reads back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Outcome, Pipeline
from orchestrator.errors import InputError
from orchestrator.node import STATE_TYPES
from tests.pipelines import POLICY, write_pipeline
from tests.test_pipeline import A, B, both

ESCALATE = {**POLICY, "after": [{"name": "all", "then": "escalate"}]}


class Mail(BaseModel):
    ticket: dict[str, str]
    key: int | None = None


async def test_a_state_without_an_id_is_a_task_without_one(tmp_path: Path) -> None:
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        node = pipeline.as_node(input="ticket", output="reply", outcome="outcome", id="key")
        states: list[Any] = [{"ticket": {"text": "x"}}, {"ticket": {"text": "x"}, "key": 7}, {
            "ticket": {"text": "x"}, "key": "7"}, Mail(ticket={"text": "x"}), Mail(ticket={"text": "x"}, key=7)]
        done = [(await node.ainvoke(state))["outcome"] for state in states]
        assert [outcome.id for outcome in done] == [None, "7", "7", None, "7"]
        assert len({outcome.run_id for outcome in done}) == 3
        with pytest.raises(InputError, match="nothing under 'ticket'") as caught:
            await node.ainvoke({"tickets": 1, "key": 2})
        assert caught.value.hint == "it has 'key', 'tickets'"


async def test_a_strict_checkpointer_reads_a_whole_outcome_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

    path = write_pipeline(tmp_path / "p", policy=ESCALATE, step={"validate": {"model": "validator", "mode": "repair"}})
    verdict = {"verdict": "repaired", "reasons": ["it is b"], "value": B}
    async with Pipeline.load(path, store="memory:", clients=both(lambda _: A, lambda _: verdict)) as pipeline:
        node = pipeline.as_node(input="t", output="r", outcome="o")
        outcome: Outcome = (await node.ainvoke({"t": {"text": "x"}}))["o"]
    assert outcome.verdict is not None
    assert outcome.steps["label"].signals
    serializer = JsonPlusSerializer(allowed_msgpack_modules=STATE_TYPES)
    read = serializer.loads_typed(serializer.dumps_typed(outcome))
    assert read.cost_usd == outcome.cost_usd
    assert read.steps["label"].decision == outcome.steps["label"].decision
    assert json.dumps(asdict(read), default=str) == json.dumps(asdict(outcome), default=str), "but for tuples"
    assert caplog.messages == []
