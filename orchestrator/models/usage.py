"""Every provider's usage as one `Usage` of disjoint token classes that sum to the bill.

Providers differ in whether input includes cached tokens and output includes reasoning; it is settled here, once.
What is malformed (negative, no integer, parts larger than their whole) is None: the caller estimates and says so.

    shape                  input includes cache     output includes reasoning
    OpenAI chat, vLLM,     yes (read; write)        yes, unless `total_tokens` shows otherwise (xAI)
      Mistral
    OpenAI responses       yes                      yes
    DeepSeek               yes (hit + miss)         yes
    LiteLLM                yes (read and write)     yes
    Anthropic              no                       yes, not told apart unless `output_tokens_details` is there
    Gemini                 yes                      no, unless `totalTokenCount` shows otherwise
    Ollama                 yes (not told apart)     yes (not told apart)

Cached audio counts as a cache read: no provider tells what else it would be. Images count as the text they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.records import ServiceTier, Usage

BYTES_PER_TOKEN = 3
"""For estimates only: English runs near 4.3 bytes a token, CJK near 2.5; low is dear, and an estimate should not
flatter."""

_STANDARD = frozenset({"", "default", "standard", "auto", "on_demand", "standard_only", "traffic_type_unspecified"})
_TIERS: Mapping[str, ServiceTier] = {
    "batch": "batch", "flex": "flex", "on_demand_flex": "flex", "priority": "priority", "fast": "priority",
    "on_demand_priority": "priority",
}
_SNAKE = re.compile(r"_([a-z])")
_Shape = Mapping[str, Any]


class _Malformed(Exception):
    pass


def normalise(shape: object, provider: str = "") -> Usage | None:
    """`shape` is a provider's usage object: a mapping, or an SDK's model. None where it can't be trusted.

    `provider` (`openai`, `anthropic`, `gemini`, `deepseek`, `vllm`, `litellm`) is needed only where the keys leave
    it open: `anthropic` says that `input_tokens` excludes cached input even if no cache key is there.
    """
    found = _mapping(shape)
    if not found:
        return None
    try:
        if "prompt_token_count" in found or "candidates_token_count" in found:
            found = _camel(found)  # Google's own package
        if "promptTokenCount" in found or "candidatesTokenCount" in found:
            return _gemini(found)
        if "prompt_tokens" in found or "completion_tokens" in found:
            return _chat(found)
        if "input_tokens" in found or "output_tokens" in found:
            return _anthropic(found) if _is_anthropic(found, provider) else _responses(found)
        if "prompt_eval_count" in found or "eval_count" in found:
            return _usage(_count(found, "prompt_eval_count"), output=_count(found, "eval_count"))
    except _Malformed:
        return None
    return None


def service_tier(reply: object) -> ServiceTier | None:
    """The tier that a reply says has served it: None for the standard one, `other` for one that no book prices.

    OpenAI tells it beside the usage, Anthropic and Gemini in it.
    """
    found = _mapping(reply)
    usage = _mapping(found.get("usage"))
    for told in (
        found.get("service_tier"), usage.get("service_tier"), usage.get("serviceTier"), usage.get("trafficType"),
    ):
        if isinstance(told, str) and told.lower() not in _STANDARD:
            return _TIERS.get(told.lower(), "other")
    return None


def estimate(input_bytes: int, output_bytes: int, *, output_tokens: int | None = None) -> Usage:
    """Usage inferred from sizes where the provider gave none. `output_tokens`: counted from log-probabilities."""
    out = output_tokens if output_tokens is not None else -(-output_bytes // BYTES_PER_TOKEN)
    return Usage(input=-(-input_bytes // BYTES_PER_TOKEN), output=out, estimated=True)


def _chat(shape: _Shape) -> Usage:
    prompt, completion = _count(shape, "prompt_tokens"), _count(shape, "completion_tokens")
    before, after = _mapping(shape.get("prompt_tokens_details")), _mapping(shape.get("completion_tokens_details"))
    read = _same(
        (before, "cached_tokens"), (shape, "cache_read_input_tokens"), (shape, "prompt_cache_hit_tokens"),
        (shape, "cached_tokens"), (shape, "num_cached_tokens"),
    )
    write = _same(
        (before, "cache_write_tokens"), (before, "cache_creation_tokens"), (before, "created_cache_tokens"),
        (shape, "cache_creation_input_tokens"),
    )
    write, write_1h = _by_life(write, _mapping(before.get("cache_creation_token_details")))
    reasoning = _same((after, "reasoning_tokens"), (shape, "reasoning_tokens"))
    if reasoning and shape.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # the total shows that reasoning came on top
    heard = _fresh_audio(before, prompt - read - write - write_1h)
    said = _count(after, "audio_tokens")
    return _usage(
        prompt - read - write - write_1h - heard, heard, read, write, write_1h, completion - reasoning - said, said,
        reasoning,
    )


def _responses(shape: _Shape) -> Usage:
    before, after = _mapping(shape.get("input_tokens_details")), _mapping(shape.get("output_tokens_details"))
    read = _count(before, "cached_tokens")
    write = _same((before, "cache_write_tokens"), (before, "cache_creation_tokens"))
    reasoning, said = _count(after, "reasoning_tokens"), _count(after, "audio_tokens")
    rest = _count(shape, "input_tokens") - read - write
    heard = _fresh_audio(before, rest)
    written = _count(shape, "output_tokens") - reasoning - said
    return _usage(rest - heard, heard, read, write, 0, written, said, reasoning)


def _fresh_audio(details: _Shape, uncached: int) -> int:
    """Audio that no cache held. Where the cached part is not told by kind, audio that does not fit beside it is in it.
    """
    audio = _count(details, "audio_tokens") - _count(_mapping(details.get("cached_tokens_details")), "audio_tokens")
    if audio < 0:
        raise _Malformed
    return min(audio, max(uncached, 0))


def _anthropic(shape: _Shape) -> Usage:
    """With `iterations` (compaction, tools on the server) the bill is their sum; the figures beside them are not."""
    iterations = shape.get("iterations")
    parts = [_mapping(one) for one in iterations] if isinstance(iterations, Sequence) and iterations else [shape]
    read = sum(_count(one, "cache_read_input_tokens") for one in parts)
    writes = [
        _by_life(_count(one, "cache_creation_input_tokens"), _mapping(one.get("cache_creation"))) for one in parts
    ]
    output = sum(_count(one, "output_tokens") for one in parts)
    reasoning = sum(_count(_mapping(one.get("output_tokens_details")), "thinking_tokens") for one in parts)
    return _usage(
        sum(_count(one, "input_tokens") for one in parts), 0, read, sum(short for short, _ in writes),
        sum(long for _, long in writes), output - reasoning, 0, reasoning,
    )


def _by_life(write: int, lives: _Shape) -> tuple[int, int]:
    """Cache writes as (for minutes, for an hour). `write` is of both; some tell it only by life."""
    short, long = _count(lives, "ephemeral_5m_input_tokens"), _count(lives, "ephemeral_1h_input_tokens")
    whole = write or short + long
    if long > whole:
        raise _Malformed
    return whole - long, long


def _gemini(shape: _Shape) -> Usage:
    prompt = _count(shape, "promptTokenCount")
    tools = _count(shape, "toolUsePromptTokenCount")
    read = _count(shape, "cachedContentTokenCount")
    written = _same((shape, "candidatesTokenCount"), (shape, "responseTokenCount"))
    thoughts = _count(shape, "thoughtsTokenCount")
    if thoughts and shape.get("totalTokenCount") == prompt + tools + written:
        written -= thoughts  # the total shows that thoughts were counted in
    heard = _audio(shape.get("promptTokensDetails")) - _audio(shape.get("cacheTokensDetails"))
    said = _audio(shape.get("candidatesTokensDetails")) + _audio(shape.get("responseTokensDetails"))
    if heard < 0:
        raise _Malformed
    rest = prompt - read
    heard = min(heard, max(rest, 0))
    return _usage(rest - heard + tools, heard, read, 0, 0, written - said, said, thoughts)


def _audio(details: object) -> int:
    """Of Gemini's list of tokens by modality."""
    listed = details if isinstance(details, Iterable) and not isinstance(details, str | Mapping) else ()
    return sum(
        _same((one, "tokenCount"), (one, "token_count"))
        for one in map(_mapping, listed) if str(one.get("modality", "")).rpartition(".")[2].upper() == "AUDIO"
    )


def _is_anthropic(shape: _Shape, provider: str) -> bool:
    return provider == "anthropic" or "cache_read_input_tokens" in shape or "cache_creation_input_tokens" in shape


def _usage(
    rest: int, heard: int = 0, read: int = 0, write: int = 0, write_1h: int = 0, output: int = 0, said: int = 0,
    reasoning: int = 0,
) -> Usage:
    found = Usage(
        input=rest, input_audio=heard, cache_read=read, cache_write=write, cache_write_1h=write_1h, output=output,
        output_audio=said, reasoning=reasoning,
    )
    if rest < 0 or output < 0 or found.total == 0:
        raise _Malformed
    return found


def _count(shape: _Shape, key: str) -> int:
    value = shape.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Malformed
    return value


def _same(*places: tuple[_Shape, str]) -> int:
    """One figure that is often told under several names, and is 0 where a name is not in use: never their sum."""
    return max(_count(shape, key) for shape, key in places)


def _camel(shape: _Shape) -> _Shape:
    return {_SNAKE.sub(lambda found: found[1].upper(), key): value for key, value in shape.items()}


def _mapping(shape: object) -> _Shape:
    if isinstance(shape, Mapping):
        return shape
    dump = getattr(shape, "model_dump", None)
    return dump() if callable(dump) else {}
