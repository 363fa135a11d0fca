"""OpenAI's chat protocol, both ways: the body a `Request` becomes, and the `Answer` read from a reply.

Spoken by vLLM, every OpenAI-compatible server, and LiteLLM for all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from orchestrator.errors import BadAnswer, RequestRefused
from orchestrator.models.logprobs import summaries
from orchestrator.models.usage import estimate, normalise, service_tier
from orchestrator.records import Answer, Json, Request, ServiceTier, TokenLogprobs, Usage

_FINISHES = frozenset({"stop", "length", "content_filter", "tool_calls"})
_THOUGHT = re.compile(r"^\s*(?:<think>)?.*?</think>\s*", re.DOTALL)


def body(
    request: Request, *, model: str, structured: bool = True, max_tokens_key: str = "max_tokens"
) -> dict[str, Any]:
    """The JSON body every dialect shares. `sample` moves the seed, so that a redraft is another draw."""
    found: dict[str, Any] = {
        "model": model,
        "messages": request.messages,
        max_tokens_key: request.max_tokens,
        "temperature": request.temperature,
    }
    if request.seed is not None:
        found["seed"] = request.seed + request.sample
    if request.logprobs:
        found["logprobs"], found["top_logprobs"] = True, 2
    if request.stop:
        found["stop"] = list(request.stop)
    if request.schema is not None and structured:
        found["response_format"] = response_format(request.schema)
    return found


def response_format(schema: Mapping[str, Json]) -> dict[str, Any]:
    """`strict` only where the schema is one that OpenAI's strict mode takes: it refuses all others with a 400."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": _is_strict(schema)},
    }


def merge(found: dict[str, Any], extra: Mapping[str, Json]) -> dict[str, Any]:
    """`extra` over `found`, one level deep; a null takes the field out."""
    for key, value in extra.items():
        old = found.get(key)
        found[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return {key: value for key, value in found.items() if value is not None}


def encoded(value: Any, model: str) -> bytes:
    """`value` as JSON. Raises RequestRefused where it is none: half a surrogate pair, or an object."""
    try:
        return orjson.dumps(value, default=dict)  # a read-only mapping is no dict
    except TypeError as error:
        raise RequestRefused(f"the request to {model!r} is no JSON: {error}", sent=False) from error


def read(reply: Json, *, request_bytes: int, endpoint: str, latency_ms: float, asked: str) -> Answer:
    """The Answer in a parsed reply. Raises BadAnswer (with what was billed, where it is told) for anything else.

    `request_bytes` (the request as sent) and the answer's size stand in where usage is missing. The model that
    answered is believed, whatever was asked for: it is what will be billed.
    """
    if not isinstance(reply, dict):
        raise BadAnswer(f"{endpoint} answered JSON that is no object", endpoint=endpoint)
    billed, tier = normalise(reply.get("usage")), service_tier(reply)
    choices = reply.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        raise _bad(f"{endpoint} answered without a choice", endpoint, reply, billed, tier)
    said = message.get("content") or message.get("refusal") or ""
    if not isinstance(said, str):
        raise _bad(f"{endpoint} answered with content that is no text", endpoint, reply, billed, tier)
    finish = first.get("finish_reason")
    if not said and finish not in ("length", "content_filter", "tool_calls"):
        raise _bad(f"{endpoint} answered with an empty message", endpoint, reply, billed, tier)
    text = without_thinking(said)
    probs = first.get("logprobs")
    entries = probs.get("content") if isinstance(probs, dict) else None
    whole, values = measured(text, entries)
    model = reply.get("model")
    return Answer(
        text=text,
        finish_reason=finish if finish in _FINISHES else "other",
        usage=billed or guess(request_bytes, message, entries),
        model=model if isinstance(model, str) and model else asked,
        response_id=reply.get("id") if isinstance(reply.get("id"), str) else None,
        endpoint=endpoint, logprobs=whole, value_logprobs=values, latency_ms=latency_ms, tier=tier,
    )


def _bad(
    message: str, endpoint: str, reply: Mapping[str, Json], billed: Usage | None, tier: ServiceTier | None
) -> BadAnswer:
    error = BadAnswer(message, endpoint=endpoint, usage=billed)
    error.told(reply, tier)
    return error


def guess(request_bytes: int, message: Mapping[str, Json], entries: Json) -> Usage:
    """Usage of a reply that told none: thinking counted with the answer, tokens counted where they are listed."""
    said = (message.get(key) for key in ("content", "reasoning_content", "reasoning"))
    size = sum(len(part.encode("utf-8", "surrogatepass")) for part in said if isinstance(part, str))
    return estimate(request_bytes, size, output_tokens=len(entries) if isinstance(entries, list) and entries else None)


def without_thinking(text: str) -> str:
    """The answer after a `<think>` block; nothing where the block never ended. JSON is left as it is."""
    start = text.lstrip()
    if start.startswith(("{", "[", '"')):
        return text
    if "</think>" in text:
        return _THOUGHT.sub("", text, count=1)
    return "" if start.startswith("<think>") else text


def measured(text: str, entries: Json) -> tuple[TokenLogprobs | None, TokenLogprobs | None]:
    """Summaries over the answer's tokens and over those of its values; None, None where the list is missing or odd."""
    if not isinstance(entries, list) or not entries:
        return None, None
    try:
        tokens = [_bytes(entry) for entry in entries]
        probs = [float(entry["logprob"]) for entry in entries]
        seconds = [_runner_up(entry, p) for entry, p in zip(entries, probs, strict=True)]
    except (KeyError, TypeError, ValueError):
        return None, None
    return summaries(text, tokens, probs, seconds)


def _bytes(entry: Mapping[str, Json]) -> bytes:
    raw = entry.get("bytes")
    return bytes(raw) if raw is not None else entry["token"].encode("utf-8", "surrogatepass")


def _runner_up(entry: Mapping[str, Json], chosen: float) -> float | None:
    """The best log-probability of any token but the chosen one, from the two likeliest."""
    top: Sequence[Mapping[str, Json]] = entry.get("top_logprobs") or ()
    if len(top) < 2:
        return None
    return float(top[1]["logprob"]) if chosen >= top[0]["logprob"] else float(top[0]["logprob"])


def _is_strict(schema: Json) -> bool:
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        listed = properties if isinstance(properties, Mapping) else {}
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(listed):
            return False
    return all(map(_is_strict, schema.values()))
