"""Every provider's usage as one `Usage` of disjoint token classes that sum to the bill.

Providers differ in whether input includes cached tokens and output includes reasoning; it is settled here, once.
What is malformed (negative, no integer, parts larger than their whole) is None: the caller estimates and says so.

    shape                  input includes cache     output includes reasoning
    OpenAI chat, vLLM      yes (read; write)        yes, unless `total_tokens` shows otherwise (xAI)
    OpenAI responses       yes                      yes
    DeepSeek               yes (hit + miss)         yes
    LiteLLM                yes (read and write)     yes
    Anthropic              no                       yes, not told apart unless `output_tokens_details` is there
    Gemini                 yes                      no
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.records import Usage

BYTES_PER_TOKEN = 3
"""For estimates only: English runs near 4.3 bytes a token, CJK near 2.5; low is dear, and an estimate should not
flatter."""

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
        if "promptTokenCount" in found or "candidatesTokenCount" in found:
            return _gemini(found)
        if "prompt_tokens" in found or "completion_tokens" in found:
            return _chat(found)
        if "input_tokens" in found or "output_tokens" in found:
            return _anthropic(found) if _is_anthropic(found, provider) else _responses(found)
    except _Malformed:
        return None
    return None


def estimate(input_bytes: int, output_bytes: int, *, output_tokens: int | None = None) -> Usage:
    """Usage inferred from sizes where the provider gave none. `output_tokens`: counted from log-probabilities."""
    out = output_tokens if output_tokens is not None else -(-output_bytes // BYTES_PER_TOKEN)
    return Usage(input=-(-input_bytes // BYTES_PER_TOKEN), output=out, estimated=True)


def _chat(shape: _Shape) -> Usage:
    prompt, completion = _count(shape, "prompt_tokens"), _count(shape, "completion_tokens")
    before, after = _mapping(shape.get("prompt_tokens_details")), _mapping(shape.get("completion_tokens_details"))
    read = _first(
        (before, "cached_tokens"), (shape, "cache_read_input_tokens"), (shape, "prompt_cache_hit_tokens")
    )
    write = _first(
        (before, "cache_write_tokens"), (before, "cache_creation_tokens"), (before, "created_cache_tokens"),
        (shape, "cache_creation_input_tokens"),
    )
    reasoning = _first((after, "reasoning_tokens"), (shape, "reasoning_tokens"))
    output = completion - reasoning
    if reasoning and shape.get("total_tokens") == prompt + completion + reasoning:
        output = completion  # the total shows that reasoning came on top
    return _usage(prompt - read - write, read, write, output, reasoning)


def _responses(shape: _Shape) -> Usage:
    before, after = _mapping(shape.get("input_tokens_details")), _mapping(shape.get("output_tokens_details"))
    read, write = _count(before, "cached_tokens"), _count(before, "cache_write_tokens")
    reasoning = _count(after, "reasoning_tokens")
    rest = _count(shape, "input_tokens") - read - write
    return _usage(rest, read, write, _count(shape, "output_tokens") - reasoning, reasoning)


def _anthropic(shape: _Shape) -> Usage:
    reasoning = _count(_mapping(shape.get("output_tokens_details")), "thinking_tokens")
    return _usage(
        _count(shape, "input_tokens"),
        _count(shape, "cache_read_input_tokens"),
        _count(shape, "cache_creation_input_tokens"),
        _count(shape, "output_tokens") - reasoning,
        reasoning,
    )


def _gemini(shape: _Shape) -> Usage:
    read = _count(shape, "cachedContentTokenCount")
    prompt = _count(shape, "promptTokenCount") + _count(shape, "toolUsePromptTokenCount")
    return _usage(prompt - read, read, 0, _count(shape, "candidatesTokenCount"), _count(shape, "thoughtsTokenCount"))


def _is_anthropic(shape: _Shape, provider: str) -> bool:
    return provider == "anthropic" or "cache_read_input_tokens" in shape or "cache_creation_input_tokens" in shape


def _usage(rest: int, read: int, write: int, output: int, reasoning: int) -> Usage:
    if min(rest, output) < 0 or rest + read + write + output + reasoning == 0:
        raise _Malformed
    return Usage(input=rest, cache_read=read, cache_write=write, output=output, reasoning=reasoning)


def _count(shape: _Shape, key: str) -> int:
    value = shape.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Malformed
    return value


def _first(*places: tuple[_Shape, str]) -> int:
    """The first place that holds a count: the same figure is often told under several names."""
    for shape, key in places:
        if shape.get(key) is not None:
            return _count(shape, key)
    return 0


def _mapping(shape: object) -> _Shape:
    if isinstance(shape, Mapping):
        return shape
    dump = getattr(shape, "model_dump", None)
    return dump() if callable(dump) else {}
