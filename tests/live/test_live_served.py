"""ServedModel against a real vLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ContextOverflow, RequestRefused
from orchestrator.models.embedded import EmbeddedModel
from orchestrator.models.served import ServedModel
from orchestrator.records import Answer, Request
from tests.live_drafter import EXAMPLE, NAME, Live, draft_request, served

Lines = list[dict[str, Any]]


async def ask(model: ServedModel, request: Request) -> Answer:
    return await model.complete(request, call_id="c-live", endpoint=model.endpoints[0], timeout_s=60)


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedModel]:
    model = EmbeddedModel(str(EXAMPLE / NAME), config=ModelConfig(use=f"embedded:{NAME}", location="local"))
    yield model
    await model.aclose()


async def test_a_draft_comes_with_its_logprobs_usage_and_finish_reason(drafter: ServedModel, lines: Lines) -> None:
    answer = await ask(drafter, draft_request(lines[0]))
    assert json.loads(answer.text).keys() == lines[0]["expected"].keys()
    assert (answer.finish_reason, answer.model) == ("stop", NAME)
    assert answer.response_id
    assert answer.usage.input > 0
    assert answer.logprobs is not None
    assert answer.value_logprobs is not None
    assert answer.logprobs.n == answer.usage.output - 1  # the end mark is billed and not measured
    assert 0 < answer.value_logprobs.n < answer.logprobs.n
    assert answer.logprobs.mean <= 0
    assert answer.logprobs.margin_mean is not None


async def test_both_runtimes_give_the_same_drafts_and_confidence(
    drafter: ServedModel, embedded: EmbeddedModel, lines: Lines
) -> None:
    """bfloat16 on one side and float32 on the other: a rare near-tie may fall differently."""
    requests = [draft_request(line) for line in lines[:50]]
    there = await asyncio.gather(*(ask(drafter, request) for request in requests))
    here = [await embedded.complete(r, call_id="c", endpoint="in-process", timeout_s=60) for r in requests]
    same = [(a, b) for a, b in zip(there, here, strict=True) if a.text == b.text]
    assert len(same) >= 48
    for a, b in same:
        assert a.usage == b.usage
        assert a.logprobs is not None
        assert b.logprobs is not None
        assert a.logprobs.n == b.logprobs.n
        assert a.logprobs.mean == pytest.approx(b.logprobs.mean, abs=0.05)


async def test_a_json_schema_is_enforced(drafter: ServedModel, lines: Lines, output_schema: dict[str, Any]) -> None:
    free = await ask(drafter, draft_request(lines[0]))
    assert json.loads(free.text)["currency"] == "USD"
    output_schema["properties"]["currency"] = {"enum": ["SEK"]}
    answer = await ask(drafter, draft_request(lines[0], schema=output_schema))
    assert json.loads(answer.text)["currency"] == "SEK"


async def test_a_seed_draws_the_same_answer_again_and_the_next_sample_another(
    drafter: ServedModel, lines: Lines
) -> None:
    def drawn(sample: int) -> Request:
        return draft_request(lines[0], temperature=2.0, seed=7, sample=sample, max_tokens=60)

    first, again, other = [(await ask(drafter, drawn(sample))).text for sample in (0, 0, 1)]
    assert first == again
    assert first != other


async def test_a_streamed_answer_is_the_plain_one_usage_and_logprobs_included(
    live: Live, drafter: ServedModel, lines: Lines
) -> None:
    streaming = ServedModel(NAME, config=served(live.url, stream=True))
    plain, streamed = await ask(drafter, draft_request(lines[1])), await ask(streaming, draft_request(lines[1]))
    await streaming.aclose()
    assert (streamed.text, streamed.finish_reason) == (plain.text, plain.finish_reason)
    assert (streamed.usage, streamed.logprobs) == (plain.usage, plain.logprobs)


async def test_max_tokens_ends_an_answer_with_length(drafter: ServedModel, lines: Lines) -> None:
    answer = await ask(drafter, draft_request(lines[0], max_tokens=5))
    assert (answer.finish_reason, answer.usage.output) == ("length", 5)


async def test_a_request_longer_than_the_context_is_an_overflow(drafter: ServedModel) -> None:
    with pytest.raises(ContextOverflow):
        await ask(drafter, draft_request({"input": {"text": "7 " * 3000}}))


async def test_a_model_that_is_not_served_is_refused(live: Live, lines: Lines) -> None:
    unknown = ServedModel("models/nobody", config=served(live.url))
    with pytest.raises(RequestRefused, match="nobody"):
        await ask(unknown, draft_request(lines[0]))
    (probe,) = await unknown.probe()
    assert not probe.ok
    assert NAME in probe.detail
    await unknown.aclose()


async def test_the_probe_names_what_is_served(drafter: ServedModel) -> None:
    (probe,) = await drafter.probe()
    assert (probe.ok, probe.models) == (True, (NAME,))


async def test_a_cancelled_call_leaves_the_client_usable(drafter: ServedModel, lines: Lines) -> None:
    task = asyncio.create_task(ask(drafter, draft_request(lines[0])))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(drafter, draft_request(lines[0]))).finish_reason == "stop"
