"""The usage that an answer tells, as one `Usage` of disjoint token classes that sum to the bill.

Every client is answered in OpenAI's chat protocol, LiteLLM's too: `prompt_tokens` include cache reads and writes,
`completion_tokens` include reasoning, unless `total_tokens` shows otherwise (xAI). Some figures go by many names, as
cached tokens do at DeepSeek. What is malformed (negative, no integer, parts larger than their whole) is None: the
caller estimates and says so.

Cached audio counts as a cache read: no provider tells what else it would be. Images count as the text they stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
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
_Shape = Mapping[str, Any]


class _Malformed(Exception):
    pass


def normalise(told: object) -> Usage | None:
    """`told` is an answer's usage object. None where it can't be trusted."""
    try:
        return _disjoint(_mapping(told))
    except _Malformed:
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


def _disjoint(shape: _Shape) -> Usage:
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
    rest, written = prompt - read - write - write_1h - heard, completion - reasoning - said
    found = Usage(
        input=rest, input_audio=heard, cache_read=read, cache_write=write, cache_write_1h=write_1h, output=written,
        output_audio=said, reasoning=reasoning,
    )
    if rest < 0 or written < 0 or found.total == 0:
        raise _Malformed
    return found


def _by_life(write: int, lives: _Shape) -> tuple[int, int]:
    """Cache writes as (for minutes, for an hour). `write` is of both; some tell it only by life."""
    short, long = _count(lives, "ephemeral_5m_input_tokens"), _count(lives, "ephemeral_1h_input_tokens")
    whole = write or short + long
    if long > whole:
        raise _Malformed
    return whole - long, long


def _fresh_audio(details: _Shape, uncached: int) -> int:
    """Audio that no cache held. Where the cached part is not told by kind, audio that does not fit beside it is in it.
    """
    audio = _count(details, "audio_tokens") - _count(_mapping(details.get("cached_tokens_details")), "audio_tokens")
    if audio < 0:
        raise _Malformed
    return min(audio, max(uncached, 0))


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


def _mapping(shape: object) -> _Shape:
    return shape if isinstance(shape, Mapping) else {}
