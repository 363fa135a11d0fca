"""Served and frontier models on the wire: what is sent, and what is read back, with a real server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError, RequestRefused
from orchestrator.models import chat
from orchestrator.models.catalog import client_for
from orchestrator.models.client import ModelClient
from orchestrator.models.frontier import FrontierModel
from orchestrator.models.served import ServedModel
from orchestrator.records import Answer, Request, Usage
from orchestrator.testing import ScriptedModel
from tests.loopback import Loopback

SCHEMA: dict[str, Any] = {
    "type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"],
    "additionalProperties": False,
}
MESSAGES = [{"role": "user", "content": "hello"}]
REQUEST = Request(messages=MESSAGES, schema=SCHEMA, max_tokens=30, seed=7, logprobs=True)


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with Loopback() as running:
        yield running


def served(server: Loopback, use: str = "vllm:tiny", **keys: Any) -> ServedModel:
    config = ModelConfig.model_validate({"use": use, "endpoints": (server.url,), "location": "local", **keys})
    return ServedModel(config.target, config=config)


def frontier(base: str, use: str, **keys: Any) -> FrontierModel:
    config = ModelConfig.model_validate({
        "use": f"litellm:{use}", "endpoints": (base,), "location": "remote",
        "litellm_params": {"api_key": "sk-secret"}, **keys,
    })
    return FrontierModel(config.target, config=config)


async def ask(client: ModelClient, request: Request = REQUEST, call_id: str = "call-1") -> Answer:
    try:
        return await client.complete(request, call_id=call_id, endpoint=client.endpoints[0], timeout_s=30)
    finally:
        await client.aclose()


async def test_a_plain_call_carries_its_id_and_reads_text_usage_and_log_probabilities(server: Loopback) -> None:
    answer = await ask(served(server))
    [seen] = server.seen
    assert seen.id == "call-1"
    assert seen.body == {
        "model": "tiny", "messages": MESSAGES, "max_tokens": 30, "temperature": 0.0, "seed": 7, "logprobs": True,
        "top_logprobs": 2, "response_format": {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
        },
    }
    assert (answer.text, answer.finish_reason, answer.model) == ('{"label":"b"}', "stop", "tiny")
    assert answer.usage == Usage(input=8, output=12)
    assert answer.logprobs is not None
    assert answer.value_logprobs is not None
    assert (answer.logprobs.n, answer.logprobs.q0, answer.logprobs.margin_min) == (12, -0.12, pytest.approx(3.0))
    assert (answer.value_logprobs.n, answer.value_logprobs.total) == (1, -0.11)
    assert answer.response_id == "chatcmpl-ab0454db8a1b"
    assert answer.endpoint == server.url
    assert answer.cost is None


async def test_a_streamed_call_gives_the_same_answer_as_a_plain_one(server: Loopback) -> None:
    plain, streamed = await ask(served(server)), await ask(served(server, stream=True))
    assert server.seen[1].id == "call-1"
    assert server.seen[1].body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    for name in ("text", "finish_reason", "usage", "model", "response_id", "logprobs", "value_logprobs"):
        assert getattr(plain, name) == getattr(streamed, name)


@pytest.mark.parametrize(
    ("use", "level", "expected"),
    [
        ("vllm:tiny", "off", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("vllm:tiny", "high", {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "high"}),
        ("vllm:tiny", None, {}),
        ("openai:tiny", "off", {"reasoning_effort": "none"}),
        ("openai:tiny", "low", {"reasoning_effort": "low"}),
    ],
)
async def test_thinking_is_mapped_to_the_servers_dialect(
    server: Loopback, use: str, level: str | None, expected: dict[str, Any]
) -> None:
    await ask(served(server, use, thinking=level), Request(messages=MESSAGES))
    sent = server.seen[0].body
    assert {key: sent[key] for key in sent if key in ("chat_template_kwargs", "reasoning_effort")} == expected


def test_a_sample_is_another_draw_by_its_seed(server: Loopback) -> None:
    client = served(server)
    again = Request(messages=MESSAGES, seed=7, sample=2, temperature=0.7, stop=("\n",))
    sent = client.body(again, server.url)
    assert (sent["seed"], sent["temperature"], sent["stop"]) == (9, 0.7, ["\n"])
    assert "seed" not in client.body(Request(messages=MESSAGES, sample=2), server.url)


def test_extra_body_is_merged_and_its_null_takes_a_field_out(server: Loopback) -> None:
    client = served(server, thinking="off", extra_body={
        "temperature": None, "top_p": 0.9, "chat_template_kwargs": {"custom": 1},
    })
    sent = client.body(REQUEST, server.url)
    assert "temperature" not in sent
    assert sent["top_p"] == 0.9
    assert sent["chat_template_kwargs"] == {"enable_thinking": False, "custom": 1}
    assert "response_format" not in served(server, structured=False).body(REQUEST, server.url)


def test_openai_itself_is_asked_for_max_completion_tokens(server: Loopback) -> None:
    config = ModelConfig(use="openai:gpt-5", location="remote")
    sent = ServedModel("gpt-5", config=config).body(REQUEST, "https://api.openai.com/v1")
    assert sent["max_completion_tokens"] == 30
    assert "max_tokens" not in sent


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (SCHEMA, True),
        ({**SCHEMA, "additionalProperties": True}, False),
        ({**SCHEMA, "required": []}, False),
        ({"type": "array", "items": SCHEMA}, True),
        ({"anyOf": [SCHEMA, {"type": "object"}]}, False),
    ],
)
def test_strict_is_asked_for_only_where_openai_takes_it(schema: dict[str, Any], strict: bool) -> None:
    assert chat.response_format(schema)["json_schema"]["strict"] is strict


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>let me see</think>\n\n42", "42"),
        ("no opening tag</think>\n42", "42"),
        ("<think>cut short by the limit", ""),
        ('{"html": "a </think> in a value"}', '{"html": "a </think> in a value"}'),
        ("plain", "plain"),
    ],
)
def test_what_was_thought_is_never_the_answer(said: str, text: str) -> None:
    assert chat.without_thinking(said) == text


async def test_reasoning_fields_are_left_out_and_billed_with_the_output(server: Loopback) -> None:
    server.plan.append("thinking")
    answer = await ask(served(server))
    assert answer.text == '{"label":"b"}'
    assert answer.usage.output == 12


async def test_a_read_only_request_is_sent_and_half_a_surrogate_pair_is_refused(server: Loopback) -> None:
    frozen = Request(messages=(MappingProxyType(MESSAGES[0]),), schema=MappingProxyType(SCHEMA))
    assert (await ask(served(server), frozen)).text == '{"label":"b"}'
    for client in (served(server), frontier(server.url, "openai/tiny")):
        with pytest.raises(RequestRefused) as refused:
            await ask(client, Request(messages=[{"role": "user", "content": "\ud800"}]))
        assert not refused.value.sent


async def test_each_endpoint_is_asked_by_its_name_and_probed() -> None:
    async with Loopback() as one, Loopback(models=("other",)) as two:
        config = ModelConfig(use="vllm:tiny", endpoints=(one.url + "/", two.url), location="local")
        client = ServedModel("tiny", config=config)
        assert client.endpoints == client.addresses == (one.url, two.url)
        await client.complete(REQUEST, call_id="c", endpoint=two.url, timeout_s=5)
        here, there = await client.probe()
        await client.aclose()
    assert (len(one.seen), len(two.seen)) == (0, 1)
    assert (here.ok, here.models) == (True, ("tiny",))
    assert not there.ok
    assert "'tiny' is not among the models served: other" in there.detail


async def test_a_cancelled_call_closes_its_connection(server: Loopback) -> None:
    server.plan.append("hang")
    client = served(server)
    call = asyncio.ensure_future(client.complete(REQUEST, call_id="c", endpoint=server.url, timeout_s=30))
    await server.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await client.aclose()
    assert call.cancelled()


def test_a_client_moves_to_another_event_loop() -> None:
    async def once(client: ServedModel) -> str:
        async with Loopback() as server:
            answer = await client.complete(REQUEST, call_id="c", endpoint=server.url, timeout_s=5)
            await client.aclose()
            return answer.text

    client = ServedModel("tiny", config=ModelConfig(use="vllm:tiny", location="local"))
    assert [asyncio.run(once(client)) for _ in range(2)] == ['{"label":"b"}'] * 2


async def test_litellm_speaks_openais_protocol(server: Loopback) -> None:
    answer = await ask(frontier(server.url, "openai/tiny", thinking="high"))
    [seen] = server.seen
    assert (seen.id, seen.path) == ("call-1", "/v1/chat/completions")
    assert seen.headers["Authorization"] == "Bearer sk-secret"
    assert seen.body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert seen.body["reasoning_effort"] == "high"
    assert (answer.text, answer.usage, answer.model) == ('{"label":"b"}', Usage(input=8, output=12), "tiny")
    assert answer.logprobs is not None
    assert answer.cost is None


async def test_litellm_speaks_anthropics_protocol_and_its_cache_classes_are_told_apart(server: Loopback) -> None:
    answer = await ask(frontier(server.root, "anthropic/claude-opus-4-1"))
    [seen] = server.seen
    assert (seen.id, seen.path) == ("call-1", "/v1/messages")
    assert seen.headers["x-api-key"] == "sk-secret"
    assert answer.text == '{"label": "b"}' or answer.text == '{"label":"b"}'
    assert answer.usage == Usage(input=11, cache_read=7, cache_write=5, output=12)
    assert (answer.model, answer.response_id) == ("claude-opus-4-1", "req_call-1")


@pytest.mark.parametrize("taken", ["num_retries", "fallbacks", "stream", "caching"])
def test_litellm_params_may_not_turn_one_call_into_several(taken: str) -> None:
    with pytest.raises(ConfigError, match=taken):
        frontier("http://127.0.0.1:1", "openai/tiny", litellm_params={taken: 1})


def test_a_frontier_model_is_not_streamed() -> None:
    with pytest.raises(ConfigError, match="stream"):
        frontier("http://127.0.0.1:1", "openai/tiny", stream=True)


def scripted_factory(config: ModelConfig) -> ScriptedModel:
    return ScriptedModel(["yes"], name=config.target)


def test_a_python_model_is_built_only_where_it_is_allow_listed() -> None:
    target = f"{__name__}:scripted_factory"
    config = ModelConfig(use=f"python:{target}", location="local")
    with pytest.raises(ConfigError, match="allow_imports"):
        client_for("drafter", config, target=target)
    assert isinstance(client_for("drafter", config, target=target, allow_imports=(target,)), ScriptedModel)
    with pytest.raises(ConfigError, match="can't be imported"):
        client_for("drafter", config, target="tests.nowhere:f", allow_imports=("tests.nowhere",))
    with pytest.raises(ConfigError, match="no ModelClient"):
        client_for("drafter", config, target="builtins:repr", allow_imports=("builtins",))


@pytest.mark.parametrize("use", ["vllm:tiny", "openai:tiny", "litellm:openai/tiny"])
def test_every_kind_of_client_honours_the_protocol(use: str) -> None:
    location = "local" if use.startswith("vllm") else "remote"
    config = ModelConfig.model_validate({"use": use, "location": location})
    client = client_for("drafter", config, target=config.target)
    assert isinstance(client, ModelClient)
    assert client.endpoints
    assert client.name == config.target


async def test_the_tier_that_gemini_tells_with_its_usage_is_read() -> None:
    """LiteLLM takes it out of the usage and hides it; without it a flexible call would be priced as a standard one."""
    reply = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10, "trafficType": "ON_DEMAND_FLEX",
        },
        "modelVersion": "gemini-2.5-flash",
    }

    async def generate(request: web.BaseRequest) -> web.Response:
        return web.json_response(reply)

    async with RawTestServer(generate, host="127.0.0.1") as served:
        base = f"http://127.0.0.1:{served.port}/v1beta"
        answer = await ask(frontier(base, "gemini/gemini-2.5-flash"))
    assert (answer.text, answer.tier) == ("a", "flex")
    assert answer.usage is not None
    assert (answer.usage.input, answer.usage.output) == (9, 1)
