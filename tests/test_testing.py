"""What the package ships for its users' own tests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.errors import RateLimited
from orchestrator.models.client import ModelClient
from orchestrator.records import Answer, Request, Usage
from orchestrator.testing import FrozenClock, ScriptedModel

REQUEST = Request(messages=[{"role": "user", "content": "hello"}], logprobs=True)


async def say(model: ScriptedModel, call_id: str = "c1") -> Answer:
    return await model.complete(REQUEST, call_id=call_id, endpoint="scripted", timeout_s=1.0)


async def test_a_scripted_model_answers_in_order_raises_what_it_is_told_and_records_its_calls() -> None:
    ready = Answer(text="whole", finish_reason="length", usage=Usage(output=1), model="other")
    model = ScriptedModel(['{"a": 1}', RateLimited("slow"), {"b": [2]}, ready], name="m", logprob=-0.5)
    assert isinstance(model, ModelClient)
    first = await say(model)
    assert (first.text, first.model, first.usage) == ('{"a": 1}', "m", Usage(input=2, output=2))
    assert first.logprobs is not None
    assert (first.logprobs.n, first.logprobs.mean) == (2, -0.5)
    with pytest.raises(RateLimited):
        await say(model, "c2")
    assert (await say(model)).text == '{"b":[2]}'
    assert await say(model) is ready
    assert [asked.call_id for asked in model.calls] == ["c1", "c2", "c1", "c1"]
    with pytest.raises(AssertionError, match="no answer left"):
        await say(model)


async def test_a_scripted_model_may_be_a_function_of_the_request() -> None:
    model = ScriptedModel(lambda request: {"said": request.messages[-1]["content"]}, location="remote", logprob=None)
    answer = await say(model)
    assert answer.text == '{"said":"hello"}'
    assert answer.logprobs is None
    assert model.addresses


async def test_a_frozen_clock_moves_only_when_told() -> None:
    clock = FrozenClock(datetime(2026, 11, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 11, 1, tzinfo=UTC)
    await clock.sleep(90.0)
    clock.advance(30.0)
    assert (clock.monotonic(), clock.slept) == (120.0, [90.0])
    assert clock.now() == datetime(2026, 11, 1, 0, 2, tzinfo=UTC)
