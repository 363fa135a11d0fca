"""A streamed answer, collected to the shape of a plain one. Usage comes last; a stream cut short is billed all the
same, by what was received."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.errors import BadAnswer, ConnectionLost, ModelError
from orchestrator.models import chat, faults
from orchestrator.models.usage import normalise, service_tier
from orchestrator.records import Usage


async def collect(
    begin: Callable[[], Awaitable[AsyncIterable[Any]]], *, request_bytes: int, endpoint: str, timeout_s: float,
    secrets: Sequence[str] = (),
) -> dict[str, Any]:
    """The reply that the same request without `stream` would have had; `begin` sends it and gives the parsed chunks.

    Raises what ServedModel.complete raises; once the stream has begun, the error's `usage` holds what was received
    (the server's running count where it sends one, an estimate otherwise; `estimated` is True in both).
    """
    so_far = _Reply()
    outer = sys.exception()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in await begin():
                so_far.add(chunk)
    except Exception as error:  # every class of it has its own meaning: see faults
        fault = faults.from_sdk(error, endpoint, secrets=secrets, outer=outer)
        raise so_far.billed(fault, request_bytes) from error
    if so_far.finish is None and not so_far.is_empty:
        cut = ConnectionLost(f"{endpoint} ended the stream before the answer was complete", endpoint=endpoint)
        raise so_far.billed(cut, request_bytes)
    return so_far.whole()


class _Reply:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.text: list[str] = []
        self.thought: list[str] = []
        self.entries: list[Any] = []
        self.usage: Any = None
        self.finish: str | None = None

    def add(self, chunk: Any) -> None:
        if not isinstance(chunk, dict):
            raise BadAnswer(f"a stream's chunk is no object: {str(chunk)[:80]!r}")
        for key in ("id", "model", "service_tier"):
            if chunk.get(key):
                self.head[key] = chunk[key]
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self.text.append(delta.get("content") or delta.get("refusal") or "")
            self.thought.append(delta.get("reasoning_content") or delta.get("reasoning") or "")
            self.entries += (choice.get("logprobs") or {}).get("content") or ()
            self.finish = choice.get("finish_reason") or self.finish

    @property
    def is_empty(self) -> bool:
        """A stream that began and ended without a choice: an odd answer, not a lost connection."""
        return bool(self.head) and not self.text

    def whole(self) -> dict[str, Any]:
        message = {"content": "".join(self.text), "reasoning_content": "".join(self.thought)}
        if not self.text:
            return {**self.head, "choices": [], "usage": self.usage}
        choice = {"message": message, "finish_reason": self.finish, "logprobs": {"content": self.entries}}
        return {**self.head, "choices": [choice], "usage": self.usage}

    def billed(self, fault: ModelError, request_bytes: int) -> ModelError:
        if self.head and fault.usage is None:
            fault.usage = self._received(request_bytes)
            fault.told(self.head, service_tier({**self.head, "usage": self.usage}))
        return fault

    def _received(self, request_bytes: int) -> Usage:
        told = normalise(self.usage)
        if told is None:
            return chat.guess(request_bytes, {"content": "".join(self.text + self.thought)}, self.entries)
        return replace(told, estimated=True)
