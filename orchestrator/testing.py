"""What tests of a pipeline need: a model that answers by script, and a clock that only moves when told.

    from orchestrator.testing import ScriptedModel

    drafter = ScriptedModel(['{"qty": 2}', RateLimited("slow down"), '{"qty": 3}'], name="drafter")
    validator = ScriptedModel(lambda request: {"verdict": "approved", "reasons": []}, location="remote")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from orchestrator.models.client import Probe
from orchestrator.models.logprobs import summaries
from orchestrator.models.usage import estimate
from orchestrator.records import Answer, Location, Request, TokenLogprobs

Said = str | Answer | Exception | Mapping[str, Any] | Sequence[Any] | int | float | bool | None
"""A text, a value that becomes JSON, a whole Answer, or an error to raise."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that a ScriptedModel received."""

    request: Request
    call_id: str
    endpoint: str


class ScriptedModel:
    """A ModelClient in this process. `answers` is a list, used up in order, or a function of the request.

    `logprob` is the natural-log probability given to every token (pieces of four characters) where the request asks
    for them; None gives none. `usage` is bytes over three, as if told by a server. `calls` records what was asked.
    A list that is used up raises AssertionError, so that a test sees a call it did not expect.
    """

    def __init__(
        self, answers: Sequence[Said] | Callable[[Request], Said], *, name: str = "scripted",
        location: Location = "local", endpoints: tuple[str, ...] = ("scripted",), revision: str | None = None,
        logprob: float | None = -0.01, finish_reason: str = "stop",
    ) -> None:
        self.name = name
        self.location: Location = location
        self.revision = revision
        self.addresses: tuple[str, ...] = () if location == "local" else ("https://scripted.invalid",)
        self.calls: list[Asked] = []
        self.closed = False
        self._endpoints = endpoints
        self._next = answers if callable(answers) else _in_order(answers)
        self._logprob, self._finish = logprob, finish_reason

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._endpoints

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        self.calls.append(Asked(request, call_id, endpoint))
        await asyncio.sleep(0)  # a real model lets others run
        said = self._next(request)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Answer):
            return said
        text = said if isinstance(said, str) else orjson.dumps(said).decode()
        tokens = [text[i : i + 4] for i in range(0, len(text), 4)]
        size = sum(len(str(message.get("content", "")).encode()) for message in request.messages)
        usage = replace(estimate(size, 0, output_tokens=len(tokens)), estimated=False)
        whole, values = _measured(text, tokens, self._logprob) if request.logprobs else (None, None)
        return Answer(
            text=text, finish_reason=self._finish, usage=usage,
            model=self.name, response_id=f"scripted-{len(self.calls)}", endpoint=endpoint,
            logprobs=whole, value_logprobs=values,
        )

    async def probe(self) -> tuple[Probe, ...]:
        return tuple(Probe(endpoint=one, ok=True, models=(self.name,), protocol="scripted") for one in self._endpoints)

    async def aclose(self) -> None:
        self.closed = True


class FrozenClock:
    """Time that stands still. `monotonic` and `now` go wherever a clock is asked for, `sleep` where one sleeps:
    it moves the time on by itself and returns at once."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._passed_s = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self._passed_s

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._passed_s)

    def advance(self, seconds: float) -> None:
        self._passed_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)


def _in_order(answers: Sequence[Said]) -> Callable[[Request], Said]:
    left: Iterator[Said] = iter([answers] if isinstance(answers, str) else answers)

    def following(request: Request) -> Said:
        for said in left:
            return said
        raise AssertionError(f"the script has no answer left for {request.messages[-1]!r}")

    return following


def _measured(
    text: str, tokens: list[str], logprob: float | None
) -> tuple[TokenLogprobs | None, TokenLogprobs | None]:
    if logprob is None or not tokens:
        return None, None
    return summaries(text, tokens, [logprob] * len(tokens))
