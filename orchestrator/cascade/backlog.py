"""What a runtime knows of spot checks that are still to be made (`later.py` makes them)."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cascade.spot import Check


@dataclass(slots=True)
class Backlog:
    """`here` are those waiting or under way, by run and step; `ended` those that ended while the store was asked for
    others, and `more` says that it may hold some. `workers` make them, `taking` is held by the one that asks."""

    waiting: deque[Check] = field(default_factory=deque)
    here: set[tuple[str, str]] = field(default_factory=set)
    ended: set[tuple[str, str]] = field(default_factory=set)
    workers: int = 0
    more: bool = False
    taken_up_at: float = -math.inf
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
