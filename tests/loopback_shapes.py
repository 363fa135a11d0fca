"""The shapes that tests/loopback.py answers with: OpenAI's chat, Anthropic's messages, whole, streamed, spoiled."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson


def label(body: dict[str, Any]) -> dict[str, Any]:
    """The default reply: an approval where a verdict is asked for, else one of three labels by the last message."""
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
    if "verdict" in schema.get("properties", {}):
        return {"verdict": "approved", "reasons": [], **({"value": None} if "value" in schema["properties"] else {})}
    last = orjson.dumps(body["messages"][-1].get("content"))
    return {"label": "abc"[hashlib.blake2b(last, digest_size=1).digest()[0] % 3]}


def chat_reply(body: dict[str, Any], text: str) -> dict[str, Any]:
    pieces = tokens(text)
    choice: dict[str, Any] = {
        "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [logprob(token, i) for i, token in enumerate(pieces)]}
    asked = max(1, len(orjson.dumps(body["messages"])) // 4)
    usage = {
        "prompt_tokens": asked, "completion_tokens": len(pieces), "total_tokens": asked + len(pieces),
        "prompt_tokens_details": None,
    }
    name = f"chatcmpl-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
    return {
        "id": name, "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
        "usage": usage,
    }


def messages_reply(body: dict[str, Any], text: str) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": text}
    if body.get("tools"):
        block = {"type": "tool_use", "id": "t1", "name": body["tools"][0]["name"], "input": orjson.loads(text)}
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [block],
        "stop_reason": "tool_use" if body.get("tools") else "end_turn", "stop_sequence": None,
        "usage": {
            "input_tokens": 11, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 5, "output_tokens": 12,
        },
    }


def spoiled(reply: dict[str, Any], fault: str) -> Any:
    first = (reply.get("choices") or [{}])[0]
    match fault:
        case "no-usage":
            reply.pop("usage")
        case "negative-usage":
            reply["usage"] = {"prompt_tokens": -3, "completion_tokens": 2}
        case "other-model":
            reply["model"] = "another-model"
        case "empty-choices":
            reply["choices"] = reply["content"] = []
        case "empty-message":
            first["message"] = {"role": "assistant", "content": ""}
        case "truncated":
            first["finish_reason"], first["message"] = "length", {"role": "assistant", "content": '{"lab'}
        case "thinking":
            said = first.get("message", {}).get("content")
            first["message"] = {
                "role": "assistant", "content": f"<think>hm, a?</think>\n{said}", "reasoning_content": "let me see",
            }
        case "not-object":
            return [reply]
    return reply


def events(reply: Any, body: dict[str, Any]) -> list[bytes]:
    """The reply as chunks: the role, one a token, the finish reason, the usage."""
    if not isinstance(reply, dict):
        return [b"[1]"]
    head = {key: reply[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    if not reply["choices"]:
        return [orjson.dumps({**head, "choices": []})]
    choice, options = reply["choices"][0], body.get("stream_options") or {}
    entries = (choice["logprobs"] or {}).get("content")
    running = dict(reply["usage"]) if options.get("continuous_usage_stats") and "usage" in reply else None
    begun = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    chunks: list[dict[str, Any]] = [{"choices": [begun]}]
    for i, token in enumerate(tokens(choice["message"]["content"])):
        one: dict[str, Any] = {"index": 0, "delta": {"content": token}, "finish_reason": None}
        if entries:
            one["logprobs"] = {"content": entries[i : i + 1]}
        chunks.append({"choices": [one]} | ({"usage": {**running, "completion_tokens": i + 1}} if running else {}))
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if options.get("include_usage") and "usage" in reply:
        chunks.append({"choices": [], "usage": reply["usage"]})
    return [orjson.dumps({**head, **chunk}) for chunk in chunks]


def tokens(text: str) -> list[str]:
    """At most twelve pieces of about even length."""
    n = min(12, len(text))
    return [text[i * len(text) // n : (i + 1) * len(text) // n] for i in range(n)]


def logprob(token: str, i: int) -> dict[str, Any]:
    chosen = -0.01 * (i + 1)
    top = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in ((token, chosen), ("?", chosen - 3.0))]
    return {**top[0], "top_logprobs": top}
