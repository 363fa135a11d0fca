"""The usage of an answer becomes disjoint classes that sum to the bill; what is malformed becomes None."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.prices import PriceEntry
from orchestrator.models.frontier import load
from orchestrator.models.usage import BYTES_PER_TOKEN, estimate, normalise, service_tier
from orchestrator.records import Usage

COUNT = st.integers(0, 10**7)


def shape(**keys: Any) -> dict[str, Any]:
    return keys


PRICES = {"input": 3, "input_audio": 10, "cache_read": "0.3", "cache_write": "3.75", "cache_write_1h": 6, "output": 15,
          "output_audio": 20, "reasoning": 18}
"""Dollars a million tokens; of one token in billionths: 3000, 10000, 300, 3750, 6000, 15000, 20000, 18000."""


@pytest.mark.parametrize(
    ("told", "expected", "bill"),
    [
        pytest.param(shape(
            prompt_tokens=2006, completion_tokens=300, total_tokens=2306,
            prompt_tokens_details={"cached_tokens": 1920, "audio_tokens": 0},
            completion_tokens_details={"reasoning_tokens": 192, "accepted_prediction_tokens": 0},
        ), Usage(input=86, cache_read=1920, output=108, reasoning=192),
            86 * 3000 + 1920 * 300 + 108 * 15000 + 192 * 18000, id="OpenAI chat"),
        pytest.param(shape(
            prompt_tokens=1500, completion_tokens=400, total_tokens=1900,
            prompt_tokens_details={"cached_tokens": 500, "cache_write_tokens": 300, "audio_tokens": 200},
            completion_tokens_details={"audio_tokens": 350, "reasoning_tokens": 0},
        ), Usage(input=500, input_audio=200, cache_read=500, cache_write=300, output=50, output_audio=350),
            500 * 3000 + 200 * 10000 + 500 * 300 + 300 * 3750 + 50 * 15000 + 350 * 20000, id="OpenAI chat with audio"),
        pytest.param(shape(
            prompt_tokens=1000, completion_tokens=10, total_tokens=1010,
            prompt_tokens_details={
                "cached_tokens": 600, "audio_tokens": 700, "cached_tokens_details": {"audio_tokens": 450},
            },
        ), Usage(input=150, input_audio=250, cache_read=600, output=10),
            150 * 3000 + 250 * 10000 + 600 * 300 + 10 * 15000, id="OpenAI, a part of the audio cached"),
        pytest.param(shape(
            prompt_tokens=100, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36, completion_tokens=40,
            total_tokens=140, completion_tokens_details={"reasoning_tokens": 30},
        ), Usage(input=36, cache_read=64, output=10, reasoning=30),
            36 * 3000 + 64 * 300 + 10 * 15000 + 30 * 18000, id="DeepSeek"),
        pytest.param(shape(
            prompt_tokens=19, completion_tokens=29, total_tokens=48, prompt_audio_seconds=None,
            prompt_tokens_details={"cached_tokens": 8},
        ), Usage(input=11, cache_read=8, output=29), 11 * 3000 + 8 * 300 + 29 * 15000, id="Mistral"),
        pytest.param(shape(
            prompt_tokens=26, completion_tokens=12, total_tokens=38, prompt_tokens_details=None,
        ), Usage(input=26, output=12), 26 * 3000 + 12 * 15000, id="vLLM"),
        pytest.param(shape(
            prompt_tokens=26, completion_tokens=12, total_tokens=38, prompt_tokens_details={"cached_tokens": 16},
        ), Usage(input=10, cache_read=16, output=12), 10 * 3000 + 16 * 300 + 12 * 15000,
            id="vLLM with its prefix cache shown"),
        pytest.param(shape(
            prompt_tokens=2196, completion_tokens=503, total_tokens=2699, cache_read_input_tokens=1800,
            cache_creation_input_tokens=248, prompt_tokens_details={
                "cached_tokens": 1800, "cache_write_tokens": 248, "cache_creation_tokens": 248, "text_tokens": 148,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
            },
        ), Usage(input=148, cache_read=1800, cache_write=148, cache_write_1h=100, output=503),
            148 * 3000 + 1800 * 300 + 148 * 3750 + 100 * 6000 + 503 * 15000, id="LiteLLM, of Anthropic"),
        pytest.param(shape(
            prompt_tokens=820, completion_tokens=130, total_tokens=950, reasoning_tokens=70,
            cache_read_input_tokens=100, prompt_tokens_details={
                "cached_tokens": 100, "audio_tokens": 400, "text_tokens": 300, "tool_use_tokens": 20,
            }, completion_tokens_details={"reasoning_tokens": 70, "audio_tokens": 45, "text_tokens": 15},
        ), Usage(input=320, input_audio=400, cache_read=100, output=15, output_audio=45, reasoning=70),
            320 * 3000 + 400 * 10000 + 100 * 300 + 15 * 15000 + 45 * 20000 + 70 * 18000, id="LiteLLM, of Gemini"),
        pytest.param(shape(
            prompt_tokens=32, completion_tokens=9, total_tokens=141,
            completion_tokens_details={"reasoning_tokens": 100},
        ), Usage(input=32, output=9, reasoning=100), 32 * 3000 + 9 * 15000 + 100 * 18000,
            id="xAI, whose completion excludes reasoning"),
    ],
)
def test_each_shape_becomes_disjoint_classes_and_the_bill_computed_by_hand(
    told: dict[str, Any], expected: Usage, bill: int
) -> None:
    found = normalise(told)
    assert found == expected
    assert PriceEntry.model_validate({"model": "m", "per_million": PRICES}).cost(found).nano == bill


@pytest.mark.parametrize(
    ("reply", "tier"),
    [
        ({"service_tier": "default", "usage": {}}, None), ({"service_tier": "auto"}, None), ({}, None),
        ({"service_tier": None, "usage": None}, None), ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"), ({"service_tier": "fast"}, "priority"),
        ({"usage": {"service_tier": "standard"}}, None), ({"usage": {"service_tier": "batch"}}, "batch"),
        ({"usage": {"service_tier": "priority"}}, "priority"), ({"usage": {"trafficType": "ON_DEMAND"}}, None),
        ({"usage": {"trafficType": "ON_DEMAND_FLEX"}}, "flex"), ({"service_tier": "ultrafast"}, "other"),
        ({"service_tier": "scale"}, "other"), ({"service_tier": 7}, None),
    ],
)
def test_the_tier_that_served_a_call_is_read_from_its_answer(reply: dict[str, Any], tier: str | None) -> None:
    assert service_tier(reply) == tier


def test_litellm_passes_on_the_tier_and_the_lives_of_the_cache_that_anthropic_told() -> None:
    load()
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig

    told = {"input_tokens": 9, "output_tokens": 3, "cache_creation_input_tokens": 7, "service_tier": "batch",
            "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}}
    usage = AnthropicConfig().calculate_usage(usage_object=told, reasoning_content=None).model_dump()
    assert normalise(usage) == Usage(input=9, cache_write=2, cache_write_1h=5, output=3)
    assert service_tier({"usage": usage}) == "batch"


def test_litellms_own_usage_of_an_anthropic_answer_is_read() -> None:
    LiteLLMUsage = load().Usage

    told = LiteLLMUsage(
        prompt_tokens=23, completion_tokens=12, total_tokens=35,
        cache_read_input_tokens=7, cache_creation_input_tokens=5,
    ).model_dump()
    assert normalise(told) == Usage(input=11, cache_read=7, cache_write=5, output=12)


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
        {"prompt_tokens": 3, "completion_tokens": 4, "cache_creation_input_tokens": 2,
         "prompt_tokens_details": {"cache_creation_token_details": {"ephemeral_1h_input_tokens": 3}}},
        {"input_tokens": 3, "output_tokens": 4},
        {"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"audio_tokens": 3}},
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


@given(told=st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
                     "completion_tokens_details", "cache_read_input_tokens", "reasoning_tokens"]),
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
