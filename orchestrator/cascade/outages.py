"""A model that is away is waited for, and a person is told: when it begins, once a minute, and when it is back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.errors import ModelError, Outage

T = TypeVar("T")

POLL_S = 2.0
TOLD_EVERY_S = 60.0


@dataclass(slots=True)
class _Away:
    since: float
    told: float


@dataclass(slots=True)
class Outages:
    """The models that are away, for as many runs as wait for them. `tell` is given each line at once: while all wait,
    nothing else of a run moves. `clock` is in seconds."""

    clock: Callable[[], float]
    tell: Callable[[str], None] = lambda words: None
    _away: dict[str, _Away] = field(default_factory=dict)
    _returns: Counter[str] = field(default_factory=Counter)

    async def through(self, model: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, asked again until it raises no Outage."""
        waited = False
        while True:
            away, returns = self._away.get(model), self._returns[model]
            try:
                said = await ask()
            except Outage as error:
                waited = True
                if returns == self._returns[model]:  # else it was asked before the model was back
                    self._gone(model, error)
                await asyncio.sleep(POLL_S)
            except ModelError:  # an answer, though not the one that was wanted
                self._back(model, away if waited else None)
                raise
            else:
                self._back(model, away if waited else None)
                return said

    def _gone(self, model: str, error: Outage) -> None:
        now = self.clock()
        if (away := self._away.get(model)) is None:
            self._away[model] = _Away(since=now, told=now)
            self.tell(f"waiting for model {model!r}: {error}")
        elif now - away.told >= TOLD_EVERY_S:
            away.told = now
            self.tell(f"still waiting for model {model!r}, for {_words(now - away.since)} now: {error}")

    def _back(self, model: str, away: _Away | None) -> None:
        """`away` as it stood when the answer was asked for: an answer from before an outage does not end it."""
        if away is not None and self._away.get(model) is away:
            del self._away[model]
            self._returns[model] += 1
            self.tell(f"model {model!r} is back, after {_words(self.clock() - away.since)}")


def _words(seconds: float) -> str:
    """`20 s`, `1 min 33 s`, `2 h 05 min`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
