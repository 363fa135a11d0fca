"""What a runtime knows of spot checks that are still to be made (`later.py` makes them)."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cascade.again import Reason
    from orchestrator.cascade.spot import Check


@dataclass(slots=True)
class Backlog:
    """`here` are those waiting or under way, by run and step; `ended` those that ended while the store was asked for
    others, and `more` says that it may hold some. `workers` make them, `taking` is held by the one that asks.

    A round begins when all that is left undone is taken up. `put_off` are those that no money or no model was there
    for since then, by which of the two: they stay in the store, and are not tried again before the next round.
    """

    waiting: deque[Check] = field(default_factory=deque)
    here: set[tuple[str, str]] = field(default_factory=set)
    ended: set[tuple[str, str]] = field(default_factory=set)
    workers: int = 0
    more: bool = False
    put_off: dict[tuple[str, str], Reason] = field(default_factory=dict)
    begun_at: float = -math.inf
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
