"""Which budgets of the pipeline's file a call falls under, before it leaves (those of the store are found there), and
waiting for room in them.

A call reserves far more than most calls cost. **Where only reservations of calls in flight leave no room, a call waits
for them to settle; it is refused where what is spent leaves none.**
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator

from orchestrator.cascade.model import Model
from orchestrator.cascade.run import Run
from orchestrator.config.budget import BudgetConfig, SpanLimits, bucket, soft_of, tenant_of_pipeline
from orchestrator.errors import BudgetExceeded, UnpricedCall
from orchestrator.records import Money
from orchestrator.store.entries import BudgetLine, Covered

LOOK_AGAIN_S = 1.0
"""How long a call waits, at most, before it asks again: calls of other processes may have settled."""
WOKEN = 2
"""How many try again when one has settled: it mostly leaves room for one, and sometimes for more."""


class Budgets:
    """The budgets of one pipeline, in one event loop."""

    def __init__(self, pipeline: str, config: BudgetConfig) -> None:
        self._pipeline, self._config = pipeline, config
        self._waiting: deque[asyncio.Future[None]] = deque()

    def lines(self, run: Run, model: Model, bound: Money | None, at: float) -> tuple[BudgetLine, ...]:
        """The budgets that reserve `bound` for a call that begins `at`. Raises UnpricedCall where one applies and the
        call can't be bounded."""
        if not self._config.limited:
            return ()
        lines = tuple(self._lines(run, at))
        for line in lines:
            if bound is None or bound.currency != line.limit.currency:
                raise UnpricedCall(
                    f"model {model.client.name!r} has no price in {line.limit.currency}, and budget {line.scope!r} "
                    "applies: its cost can't be bounded"
                )
        return lines

    async def room(self, refusal: BudgetExceeded, give_up: float) -> None:
        """Wait until there may be room again, until `give_up` (monotonic seconds) at the latest. Raises `refusal`
        where no waiting helps."""
        left = give_up - time.monotonic()
        if not refusal.for_now or left <= 0:
            raise refusal
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await asyncio.wait([mine], timeout=min(left, LOOK_AGAIN_S))
        finally:
            mine.cancel()

    def settled(self) -> None:
        """A call has settled: those that have waited longest try again."""
        woken = 0
        while self._waiting and woken < WOKEN:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(None)
                woken += 1

    def _lines(self, run: Run, at: float) -> Iterator[BudgetLine]:
        tenant = run.task.tenant
        yield from self._of(self._config, self._pipeline, None, at)
        yield from self._of(self._config.tenants, tenant_of_pipeline(self._pipeline, tenant), tenant, at)
        if self._config.per_task is not None:
            yield BudgetLine(scope=f"task:{run.run_id}", limit=self._config.per_task)

    def _of(self, limits: SpanLimits, who: str, tenant: str | None, at: float) -> Iterator[BudgetLine]:
        for span, limit in limits.spans():
            now = bucket(span, at)
            yield BudgetLine(
                scope=now.scope(who), limit=limit, soft=soft_of(limit, self._config.soft),
                covered=Covered(since=now.since, until=now.until, pipeline=self._pipeline, tenant=tenant),
            )
