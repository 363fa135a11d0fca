"""Each way a model server fails has one defined outcome, plain, streamed, and through LiteLLM."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import openai
import pytest

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import (
    AuthRefused,
    BadAnswer,
    CallTimedOut,
    ConnectionLost,
    ContextOverflow,
    ModelError,
    Outage,
    RateLimited,
    RequestRefused,
    ServerFailed,
)
from orchestrator.models import faults
from orchestrator.models.catalog import client_for
from orchestrator.models.client import ModelClient
from orchestrator.models.frontier import FrontierModel, load
from orchestrator.models.served import ServedModel
from orchestrator.records import Answer, Request, Usage
from tests.loopback import FAULTS, Loopback

REQUEST = Request(messages=[{"role": "user", "content": "hello"}], logprobs=True)
OUTCOMES: dict[str, type[ModelError] | None] = {
    "429": RateLimited, "429-bare": RateLimited, "429-ms": RateLimited, "429-date": RateLimited,
    "500": ServerFailed, "503": ServerFailed, "408": ServerFailed, "409": ServerFailed,
    "400": RequestRefused, "404": RequestRefused, "401": AuthRefused, "403": AuthRefused,
    "redirect": RequestRefused, "overflow": ContextOverflow, "overflow-openai": ContextOverflow,
    "broken-json": BadAnswer, "wrong-type": BadAnswer, "empty-choices": BadAnswer, "empty-message": BadAnswer,
    "not-object": BadAnswer, "no-usage": None, "other-model": None, "negative-usage": None, "truncated": None,
    "thinking": None, "hang": CallTimedOut, "close": ConnectionLost, "cut": ConnectionLost,
    "cut-stream": None, "end-stream": None, "hang-stream": None, "error-stream": None,
}
STREAMED = OUTCOMES | {
    "wrong-type": None, "cut": None, "cut-stream": ConnectionLost, "end-stream": ConnectionLost,
    "hang-stream": CallTimedOut, "error-stream": ServerFailed,
}
OPENAIS_OWN = ("empty-message", "overflow-openai")
BY_LITELLM = OUTCOMES | {"408": CallTimedOut, "redirect": None, "not-object": None, "wrong-type": None}


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with Loopback() as running:
        yield running


def served(server: Loopback, *, stream: bool = False, **keys: Any) -> ServedModel:
    config = ModelConfig(use="vllm:tiny", endpoints=(server.url,), location="local", stream=stream, **keys)
    return ServedModel("tiny", config=config)


async def outcome(client: ModelClient, *, timeout_s: float) -> Answer | ModelError:
    try:
        return await client.complete(REQUEST, call_id="c1", endpoint=client.endpoints[0], timeout_s=timeout_s)
    except ModelError as error:
        return error
    finally:
        await client.aclose()


def timeout_s(fault: str) -> float:
    return 1.5 if "hang" in fault else 30.0  # the request must have arrived by then


def test_every_fault_of_the_server_has_an_outcome() -> None:
    assert OUTCOMES.keys() == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_served_models_fault_has_its_outcome(server: Loopback, fault: str, stream: bool) -> None:
    server.plan.append(fault)
    found = await outcome(served(server, stream=stream), timeout_s=timeout_s(fault))
    expected = (STREAMED if stream else OUTCOMES)[fault]
    assert type(found) is (expected or Answer), found
    assert len(server.seen) == 1, "sent once, whatever happens"


@pytest.mark.parametrize(
    ("use", "fault"),
    [("openai/tiny", fault) for fault in FAULTS if BY_LITELLM[fault] is not None]
    + [("anthropic/claude-opus-4-1", fault) for fault in FAULTS if BY_LITELLM[fault] and fault not in OPENAIS_OWN],
)
async def test_a_frontier_models_fault_has_the_same_outcome(server: Loopback, use: str, fault: str) -> None:
    server.plan.append(fault)
    base = server.root if use.startswith("anthropic") else server.url
    config = ModelConfig(
        use=f"litellm:{use}", endpoints=(base,), location="remote", litellm_params={"api_key": "sk-secret"},
    )
    found = await outcome(FrontierModel(use, config=config), timeout_s=2.0 if "hang" in fault else 30.0)
    assert type(found) is BY_LITELLM[fault], found
    assert len(server.seen) == 1, "sent once, whatever happens"


@pytest.mark.parametrize(
    ("fault", "seconds"), [("429", 0.05), ("429-ms", 0.07), ("429-bare", None), ("429-date", pytest.approx(30, abs=5))]
)
async def test_retry_after_is_read_in_each_of_its_forms(server: Loopback, fault: str, seconds: float | None) -> None:
    server.plan.append(fault)
    found = await outcome(served(server), timeout_s=5)
    assert isinstance(found, RateLimited)
    assert found.retry_after_s == seconds


@pytest.mark.parametrize("value", ["-1", "inf", "nan", "soon", ""])
def test_a_senseless_retry_after_is_none(value: str) -> None:
    assert faults.retry_after({"Retry-After": value}) is None


async def test_missing_or_negative_usage_is_estimated_from_bytes_and_marked(server: Loopback) -> None:
    for fault in ("no-usage", "negative-usage"):
        server.plan.append(fault)
        found = await outcome(served(server), timeout_s=5)
        assert isinstance(found, Answer)
        assert found.usage.estimated
        assert (found.usage.output, found.usage.input) == (12, 44)


async def test_the_model_that_answered_is_the_one_recorded(server: Loopback) -> None:
    server.plan.append("other-model")
    found = await outcome(served(server), timeout_s=5)
    assert isinstance(found, Answer)
    assert found.model == "another-model"


async def test_an_answer_cut_by_the_limit_is_an_answer(server: Loopback) -> None:
    server.plan.append("truncated")
    found = await outcome(served(server), timeout_s=5)
    assert isinstance(found, Answer)
    assert (found.text, found.finish_reason) == ('{"lab', "length")


async def test_an_empty_answer_is_billed_all_the_same(server: Loopback) -> None:
    server.plan.append("empty-message")
    found = await outcome(served(server), timeout_s=5)
    assert isinstance(found, BadAnswer)
    assert found.usage == Usage(input=8, output=12)


@pytest.mark.parametrize("fault", ["cut-stream", "end-stream", "hang-stream", "error-stream"])
async def test_a_stream_cut_short_is_billed_by_what_was_received(server: Loopback, fault: str) -> None:
    server.plan.append(fault)
    found = await outcome(served(server, stream=True), timeout_s=timeout_s(fault))
    assert isinstance(found, Outage)
    assert found.usage == Usage(input=8, output=3, estimated=True)


async def test_a_stream_cut_short_without_a_running_count_is_estimated(server: Loopback) -> None:
    server.plan.append("cut-stream")
    config = ModelConfig(use="openai:tiny", endpoints=(server.url,), location="local", stream=True)
    found = await outcome(ServedModel("tiny", config=config), timeout_s=5)
    assert isinstance(found, ConnectionLost)
    assert found.usage is not None
    assert (found.usage.output, found.usage.estimated) == (3, True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_connection_was_never_sent(stream: bool) -> None:
    async with Loopback() as gone:
        client = served(gone, stream=stream)
    found = await outcome(client, timeout_s=5)
    assert isinstance(found, ConnectionLost)
    assert not found.sent


@pytest.mark.parametrize("use", ["vllm:tiny", "litellm:openai/tiny"])
async def test_an_error_being_handled_elsewhere_is_no_cause_of_this_one(server: Loopback, use: str) -> None:
    config = ModelConfig(use=use, endpoints=(server.url,), location="remote", litellm_params={"api_key": "sk-secret"})
    client = client_for("validator", config, target=config.target)
    server.plan.append("400")
    try:
        raise aiohttp.ServerDisconnectedError
    except aiohttp.ServerDisconnectedError:
        found = await outcome(client, timeout_s=30)
    assert type(found) is RequestRefused


async def test_the_key_that_was_sent_is_in_no_message(server: Loopback) -> None:
    server.plan.append("401")
    found = await outcome(served(server, api_key="API key"), timeout_s=5)
    assert str(found).endswith("answered 401: incorrect ***")


async def test_a_key_with_a_line_end_is_refused_before_it_is_sent(server: Loopback) -> None:
    found = await outcome(served(server, api_key="sk-secret\n"), timeout_s=5)
    assert isinstance(found, RequestRefused)
    assert not found.sent
    assert "sk-secret" not in str(found)


def openai_errors() -> list[type[Exception]]:
    return [one for _, one in inspect.getmembers(openai, inspect.isclass) if issubclass(one, openai.OpenAIError)]


def litellm_errors() -> list[type[Exception]]:
    load()
    from litellm import exceptions

    found = [one for _, one in inspect.getmembers(exceptions, inspect.isclass) if issubclass(one, Exception)]
    return [one for one in found if one.__module__ == exceptions.__name__]


def httpx_errors() -> list[type[Exception]]:
    return [one for _, one in inspect.getmembers(httpx, inspect.isclass) if issubclass(one, Exception)]


def made(kind: type[Exception]) -> Exception:
    """An instance without its constructor: they share no signature."""
    error = kind.__new__(kind)
    error.args = ("the message",)
    for name in ("num_retries", "max_retries"):
        setattr(error, name, None)
    for name in ("message", "param", "code", "request_data", "original_exception"):
        if not isinstance(getattr(kind, name, None), property):
            setattr(error, name, "the message")
    return error


EXPECTED = {
    "AuthenticationError": AuthRefused, "PermissionDeniedError": AuthRefused, "OAuthError": AuthRefused,
    "RateLimitError": RateLimited, "APITimeoutError": CallTimedOut, "Timeout": CallTimedOut,
    "APIConnectionError": ConnectionLost, "InternalServerError": ServerFailed, "ServiceUnavailableError": ServerFailed,
    "BadGatewayError": ServerFailed, "ConflictError": ServerFailed, "BadRequestError": RequestRefused,
    "NotFoundError": RequestRefused, "UnprocessableEntityError": RequestRefused,
    "ContentPolicyViolationError": RequestRefused, "UnsupportedParamsError": RequestRefused,
    "ContextWindowExceededError": ContextOverflow, "BudgetExceededError": RequestRefused,
    "APIResponseValidationError": BadAnswer, "JSONSchemaValidationError": BadAnswer,
    "MidStreamFallbackError": ConnectionLost, "GuardrailRaisedException": RequestRefused,
    "ConnectError": ConnectionLost, "ReadError": ConnectionLost, "RemoteProtocolError": ConnectionLost,
    "ReadTimeout": CallTimedOut, "ConnectTimeout": CallTimedOut, "DecodingError": BadAnswer,
    "UnsupportedProtocol": RequestRefused, "InvalidURL": RequestRefused,
}


def test_every_exception_of_the_packages_maps_to_a_model_error() -> None:
    seen = set()
    for kind in openai_errors() + litellm_errors() + httpx_errors():
        found = faults.from_sdk(made(kind), "http://127.0.0.1/v1")
        assert isinstance(found, ModelError), kind
        assert type(found) is not ModelError, kind
        if kind.__name__ in EXPECTED:
            assert type(found) is EXPECTED[kind.__name__], (kind, type(found))
            seen.add(kind.__name__)
    assert seen == EXPECTED.keys(), "an expected class is gone from its package"
