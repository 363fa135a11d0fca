"""The sum that one file run may cost (`--max-cost`), held as budgets are: a call holds the most that it can cost before
it leaves, and gives back what it did not need.

**At any moment, spent + held ≤ the sum.** A cost that stays unknown counts as what was held. It is of one process and
one run, so it is kept in memory; what must hold across processes is a budget.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from orchestrator.errors import CostReached
from orchestrator.records import Money


class Purse:
    """One sum, in one event loop. Once a call did not fit although none was under way, none leaves any more."""

    def __init__(self, limit: Money) -> None:
        self.limit = limit
        self.refusal = ""
        self._spent = self._held = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def holding(self, bound: Money | None) -> AsyncIterator[None]:
        """Hold `bound` for a call until it has ended; where only calls under way leave no room, wait for them first.
        Nothing is held for a call that can't be bounded in this currency. Raises CostReached where it never fits."""
        if bound is None or bound.currency != self.limit.currency:
            yield
            return
        await self._take(bound)
        try:
            yield
        finally:
            self._held -= bound.nano
            self._freed.set()

    def spend(self, cost: Money | None, bound: Money | None) -> None:
        """Count what a call cost: where that is unknown, its `bound`."""
        counts = bound if cost is None else cost
        if counts is not None and counts.currency == self.limit.currency:
            self._spent += counts.nano

    async def _take(self, bound: Money) -> None:
        async with self._turn:  # in the order of their coming: a dear call is not passed by cheap ones for ever
            while not self.refusal and self._spent + self._held + bound.nano > self.limit.nano:
                if self._held:
                    self._freed.clear()
                    await self._freed.wait()
                else:
                    self.refusal = self._refused(bound)
            if self.refusal:
                raise CostReached(self.refusal)
            self._held += bound.nano

    def _refused(self, bound: Money) -> str:
        spent = Money(nano=self._spent, currency=self.limit.currency)
        return f"{spent} are spent, and the next call could cost {bound}: that is above --max-cost {self.limit}"
