"""Every provider's usage becomes disjoint classes that sum to the bill; what is malformed becomes None."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.frontier import load
from orchestrator.models.usage import BYTES_PER_TOKEN, estimate, normalise
from orchestrator.records import Usage

COUNT = st.integers(0, 10**7)


def shape(**keys: Any) -> dict[str, Any]:
    return keys


@pytest.mark.parametrize(
    ("provider", "told", "expected"),
    [
        pytest.param("openai", shape(
            prompt_tokens=2006, completion_tokens=300, total_tokens=2306,
            prompt_tokens_details={"cached_tokens": 1920, "audio_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 192, "accepted_prediction_tokens": 0},
        ), Usage(input=86, cache_read=1920, output=108, reasoning=192), id="OpenAI chat"),
        pytest.param("openai", shape(
            input_tokens=75, input_tokens_details={"cached_tokens": 64}, output_tokens=1186,
            output_tokens_details={"reasoning_tokens": 1024}, total_tokens=1261,
        ), Usage(input=11, cache_read=64, output=162, reasoning=1024), id="OpenAI responses"),
        pytest.param("anthropic", shape(
            input_tokens=50, cache_read_input_tokens=100_000, cache_creation_input_tokens=248, output_tokens=503,
        ), Usage(input=50, cache_read=100_000, cache_write=248, output=503), id="Anthropic"),
        pytest.param("anthropic", shape(input_tokens=50, output_tokens=3), Usage(input=50, output=3),
                     id="Anthropic without a cache"),
        pytest.param("gemini", shape(
            promptTokenCount=500, cachedContentTokenCount=400, candidatesTokenCount=20, thoughtsTokenCount=70,
            totalTokenCount=590,
        ), Usage(input=100, cache_read=400, output=20, reasoning=70), id="Gemini"),
        pytest.param("deepseek", shape(
            prompt_tokens=100, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36, completion_tokens=40,
            total_tokens=140, completion_tokens_details={"reasoning_tokens": 30},
        ), Usage(input=36, cache_read=64, output=10, reasoning=30), id="DeepSeek"),
        pytest.param("vllm", shape(
            prompt_tokens=26, completion_tokens=12, total_tokens=38, prompt_tokens_details=None,
        ), Usage(input=26, output=12), id="vLLM"),
        pytest.param("", shape(
            prompt_tokens=32, completion_tokens=9, total_tokens=141,
            completion_tokens_details={"reasoning_tokens": 100},
        ), Usage(input=32, output=9, reasoning=100), id="xAI, whose completion excludes reasoning"),
    ],
)
def test_each_provider_is_normalised_to_disjoint_classes(provider: str, told: dict[str, Any], expected: Usage) -> None:
    assert normalise(told, provider) == expected


def test_litellms_own_usage_of_an_anthropic_answer_is_read() -> None:
    LiteLLMUsage = load().Usage

    told = LiteLLMUsage(
        prompt_tokens=23, completion_tokens=12, total_tokens=35,
        cache_read_input_tokens=7, cache_creation_input_tokens=5,
    )
    assert normalise(told, "litellm") == Usage(input=11, cache_read=7, cache_write=5, output=12)


@pytest.mark.parametrize(
    "told",
    [
        None, {}, [], "12", 7, {"tokens": 3},
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": True},
        {"prompt_tokens": "5", "completion_tokens": 2},
        {"prompt_tokens": 5.0, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 3}},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"input_tokens": 3, "output_tokens": -4},
        {"promptTokenCount": 3, "cachedContentTokenCount": 4},
    ],
)
def test_malformed_usage_is_none_so_that_the_caller_estimates(told: object) -> None:
    assert normalise(told) is None


@given(read=COUNT, write=COUNT, fresh=COUNT, text=COUNT, thought=COUNT)
def test_openai_classes_sum_to_the_totals_on_the_bill(
    read: int, write: int, fresh: int, text: int, thought: int
) -> None:
    prompt, completion = read + write + fresh, text + thought
    told = {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    found = normalise(told)
    if prompt + completion == 0:
        assert found is None
        return
    assert found == Usage(input=fresh, cache_read=read, cache_write=write, output=text, reasoning=thought)
    assert found.total == told["total_tokens"]


@given(read=COUNT, write=COUNT, fresh=st.integers(1, 10**7), text=COUNT)
def test_anthropic_classes_sum_to_every_token_it_bills(read: int, write: int, fresh: int, text: int) -> None:
    told = {
        "input_tokens": fresh, "cache_read_input_tokens": read, "cache_creation_input_tokens": write,
        "output_tokens": text,
    }
    found = normalise(told, "anthropic")
    assert found is not None
    assert found.total == sum(told.values())


@given(told=st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens",
                     "prompt_tokens_details", "cache_read_input_tokens", "promptTokenCount", "thoughtsTokenCount"]),
    st.one_of(st.none(), st.integers(-5, 50), st.text(max_size=2), st.booleans(), st.floats(),
              st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens"]), st.integers(-5, 50))),
))
def test_nothing_a_server_says_raises_or_gives_a_negative_class(told: dict[str, Any]) -> None:
    found = normalise(told)
    if found is not None:
        assert min(found.input, found.cache_read, found.cache_write, found.output, found.reasoning) >= 0
        assert found.total > 0


def test_an_estimate_says_that_it_is_one_and_rounds_up() -> None:
    assert estimate(BYTES_PER_TOKEN + 1, 1) == Usage(input=2, output=1, estimated=True)
    assert estimate(0, 100, output_tokens=12) == Usage(output=12, estimated=True)
