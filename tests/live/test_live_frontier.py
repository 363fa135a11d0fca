"""FrontierModel, by LiteLLM, against a protocol server written by others: vLLM speaks OpenAI's and Anthropic's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ContextOverflow, ModelError, RequestRefused
from orchestrator.models.frontier import FrontierModel
from orchestrator.models.served import ServedModel
from orchestrator.records import Answer
from tests.live_drafter import NAME, Live, draft_request

Lines = list[dict[str, Any]]


def frontier(live: Live, provider: str) -> FrontierModel:
    base = live.url if provider == "openai" else live.url.removesuffix("/v1")
    config = ModelConfig(
        use=f"litellm:{provider}/{NAME}", location="remote", api_key="none", litellm_params={"api_base": base}
    )
    return FrontierModel(f"{provider}/{NAME}", config=config)


async def ask(model: FrontierModel, line: dict[str, Any], **changes: Any) -> Answer:
    request = draft_request(line, thinking=None, **changes)
    return await model.complete(request, call_id="c-live", endpoint=model.endpoints[0], timeout_s=60)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_both_protocols_carry_the_same_answer_and_usage(
    live: Live, drafter: ServedModel, lines: Lines, provider: str
) -> None:
    request = draft_request(lines[0])
    plain = await drafter.complete(request, call_id="c", endpoint=live.url, timeout_s=60)
    answer = await ask(frontier(live, provider), lines[0])
    assert (answer.text, answer.finish_reason) == (plain.text, "stop")
    assert (answer.usage.total, answer.usage.output) == (plain.usage.total, plain.usage.output)
    assert not answer.usage.estimated
    assert answer.response_id


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_an_answer_cut_short_is_length_on_both_protocols(live: Live, lines: Lines, provider: str) -> None:
    answer = await ask(frontier(live, provider), lines[0], max_tokens=5)
    assert (answer.finish_reason, answer.usage.output) == ("length", 5)


async def test_openai_brings_logprobs_through_litellm(live: Live, lines: Lines) -> None:
    answer = await ask(frontier(live, "openai"), lines[0])
    assert answer.logprobs is not None
    assert answer.logprobs.n == answer.usage.output - 1


async def test_a_json_schema_passes_through_litellm(
    live: Live, lines: Lines, output_schema: dict[str, Any]
) -> None:
    answer = await ask(frontier(live, "openai"), lines[2], schema=output_schema)
    assert json.loads(answer.text).keys() == lines[2]["expected"].keys()


@pytest.mark.parametrize(("provider", "error"), [("openai", ContextOverflow), ("anthropic", ModelError)])
async def test_a_request_too_long_is_never_retried(
    live: Live, provider: str, error: type[ModelError]
) -> None:
    with pytest.raises(error) as caught:
        await ask(frontier(live, provider), {"input": {"text": "7 " * 3000}})
    assert isinstance(caught.value, ContextOverflow | RequestRefused)
    assert not caught.value.retryable
