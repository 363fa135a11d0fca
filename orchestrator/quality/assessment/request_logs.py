"""Request logs as people keep them, one JSON object a line, into (messages, the answer that was given, what it cost).

    {"request": {"messages": […]}, "response": {"choices": […], "usage": {…}}}       a proxy's log
    {"messages": […], "response" | "completion" | "answer": …, "usage": {…}}         flat
    {"messages": […, {"role": "assistant", "content": …}]}                           a fine-tuning file

A line that is none of these, and one whose response is an error, is reported with its number, and stops nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson

from orchestrator.cascade.draft import unfenced
from orchestrator.errors import InputError
from orchestrator.records import Json, Money, Usage

ANSWERS = ("response", "completion", "answer")
COSTS = ("cost_usd", "cost", "response_cost")
ENVELOPE = frozenset({"error", "type", "object", "message", "code", "param", "id", "request_id", "status"})
"""All that stands in a response that is an error: a value that was answered may have an `error` of its own."""
NO_ANSWER, NO_REQUEST, NO_TEXT = "without an answer", "without a request", "whose answer has no text"
NO_PLAIN_TEXT = "without a user message of plain text"
SHOWN = 100
"""Characters of an error's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One answered request. `answer` is what the assistant said; `usage` and `cost` where the log has them."""

    number: int
    messages: Sequence[Mapping[str, Json]]
    answer: str
    usage: Usage | None = None
    cost: Money | None = None
    id: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """`why` it is left out, in words, and the `kind` of reason, by which they are counted."""

    number: int
    why: str
    kind: str


class NotALog(ValueError):
    """A line that is no answered request: why, in words, and the kind of reason."""

    def __init__(self, why: str, kind: str) -> None:
        super().__init__(why)
        self.kind = kind


def read_logs(path: Path) -> Iterator[LoggedRequest | BadLine]:
    """The file's lines, one at a time; empty ones are passed over. Raises InputError where it can't be read."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read(number, line.removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise InputError(f"can't read {str(path)!r}: {error.strerror or error}") from error


def as_json(answer: str) -> Json:
    """The answer as JSON, out of a code fence where it stands in one. Raises NotALog where it is none."""
    try:
        return orjson.loads(unfenced(answer))
    except orjson.JSONDecodeError as error:
        why = "the answer is not JSON, and the step has an output schema"
        raise NotALog(why, "whose answer is not JSON") from error


def _read(number: int, line: bytes) -> LoggedRequest | BadLine:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return BadLine(number, f"not JSON: {error}", "not JSON")
    if not isinstance(found, dict):
        return BadLine(number, f"a line is an object, not {type(found).__name__}", "not a JSON object")
    try:
        return _logged(number, found)
    except NotALog as error:
        return BadLine(number, str(error), error.kind)


def _logged(number: int, found: Mapping[str, Any]) -> LoggedRequest:
    request = found.get("request", found)
    if not isinstance(request, Mapping):
        raise NotALog("`request` is not an object", NO_REQUEST)
    messages = _messages(request.get("messages"))
    name = next((name for name in ANSWERS if found.get(name) is not None), None)
    said = found[name] if name is not None else None
    if said is None and messages[-1]["role"] == "assistant" and len(messages) > 1:
        messages, said = messages[:-1], messages[-1]
    if said is None:
        if error := _error_of(found):
            raise _is_error(error)
        why = f"there is no answer: give it as one of {', '.join(ANSWERS)}, or as the last message"
        raise NotALog(why, NO_ANSWER)
    body = said if isinstance(said, Mapping) else {}
    if name != "answer" and body.keys() <= ENVELOPE and (error := _error_of(body)):
        raise _is_error(error)
    return LoggedRequest(
        number=number, messages=tuple(messages), answer=_text(said),
        usage=_usage(found.get("usage") or body.get("usage")), cost=_cost(found),
        id=_id(found.get("id")), model=_id(body.get("model") or request.get("model")),
    )


def _messages(messages: Any) -> list[dict[str, Any]]:
    if isinstance(messages, list) and messages and all(
        isinstance(one, dict) and isinstance(one.get("role"), str) for one in messages
    ):
        return messages
    raise NotALog("there are no `messages` (a list of objects with `role` and `content`)", NO_REQUEST)


def _error_of(said: Mapping[str, Any]) -> str | None:
    """What an API said instead of an answer, by the forms in which they say so."""
    error = said.get("error") or (said if said.get("object") == "error" else None)
    if not isinstance(error, Mapping | str):
        return None
    return str(error.get("message", error) if isinstance(error, Mapping) else error)


def _is_error(said: str) -> NotALog:
    return NotALog(f"the response is an error, and no answer: {said[:SHOWN]!r}", "with an error as response")


def _text(said: Any) -> str:
    """What the assistant said: of a whole response, the first choice's message."""
    if isinstance(said, str):
        return said
    if isinstance(said, Mapping):
        if "choices" in said:
            choices = said["choices"]
            first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
            if first.get("finish_reason") in ("length", "content_filter", "error"):
                raise NotALog(f"the answer was cut short ({first['finish_reason']})", "cut short")
            return _text(first.get("message") or first.get("text"))
        if "role" in said or "content" in said:
            return _content(said.get("content"))
        return json.dumps(said)
    if isinstance(said, list | int | float | bool):
        return json.dumps(said)
    raise NotALog("the answer is empty", NO_ANSWER)


def _content(content: Any) -> str:
    if isinstance(content, str) and content.strip():
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        if parts and all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
    raise NotALog("the answer has no text (a tool call, a refusal, or nothing)", NO_TEXT)


def _usage(found: Any) -> Usage | None:
    """OpenAI's counts, in classes that sum to the bill."""
    if not isinstance(found, Mapping):
        return None
    given = found.get("prompt_tokens", found.get("input_tokens"))
    made = found.get("completion_tokens", found.get("output_tokens"))
    if not _is_count(given) or not _is_count(made):
        return None
    cached = _detail(found, "prompt_tokens_details", "cached_tokens")
    thought = _detail(found, "completion_tokens_details", "reasoning_tokens")
    return Usage(input=given - cached, cache_read=cached, output=made - thought, reasoning=thought)


def _detail(found: Mapping[str, Any], part: str, name: str) -> int:
    inner = found.get(part)
    value = inner.get(name) if isinstance(inner, Mapping) else None
    return value if _is_count(value) and value is not None else 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _cost(found: Mapping[str, Any]) -> Money | None:
    """What the log says the request cost, in dollars."""
    value = next((found[name] for name in COSTS if found.get(name) is not None), None)
    if value is None or isinstance(value, bool):
        return None
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        return None
    return Money(nano=round(exact.scaleb(9))) if exact.is_finite() and exact >= 0 else None


def _id(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
