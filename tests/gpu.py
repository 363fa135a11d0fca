"""A store whose one model runs on a rented GPU, and the clock by which its hours close."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.charges import read_charges
from orchestrator.finance.period import Period
from orchestrator.records import Usage
from orchestrator.store.allocations import NOBODY, allocated, close_hours
from orchestrator.store.engine import Store
from orchestrator.store.entries import PriceRecord
from tests.stores import Clock, claim, ended, intent, settlement

START = 1_793_491_200.0  # 2026-11-01, on the hour
HOUR = 3600.0
BILL = 2_500_000_001  # billionths: a price that does not split evenly
GPU: dict[str, Any] = {"price": "2.500000001", "tokens_per_s": "1000", "input_weight": "0.1"}


class Gpu:
    """A store whose one model runs on a rented GPU."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock, self.calls = store, clock, 0

    async def call(
        self, at: float, output: int, *, step: str = "extract", price: PriceEntry | None = None, **run: Any
    ) -> None:
        self.calls += 1
        entry = price or PriceEntry.model_validate({"model": "local", "gpu_hour": GPU})
        usage = Usage(output=output)
        name = f"{self.calls}"
        await self.store.claim([claim(name, **run)])
        await self.store.intend(intent(name, name, step=step))
        await self.store.settle(settlement(
            name, ended_at=at, usage=usage, cost=entry.cost(usage), costs=entry.costs(usage),
            price_version=entry.version_id,
        ), PriceRecord(version=entry.version_id, model="local", body_json=entry.body_json, created_at=START))

    async def close(self, at: float) -> int:
        self.clock.now = at
        return await self.store._write(close_hours)

    def charges(self, period: Period | None = None, **asked: Any) -> list[Charge]:
        with self.store.read() as connection:
            return read_charges(connection, period=period or Period(), **asked)

    def shares(self, period: Period | None = None, **asked: Any) -> list[int | None]:
        """What each charge bears of the bills."""
        return [one.allocated.nano if one.allocated else None for one in self.charges(period, **asked)]

    def idle(self) -> list[tuple[float, int]]:
        """Hours without a call, and their bills."""
        c = allocated.c
        wanted = select(c.hour, c.nano).where(c.key_id == NOBODY, c.nano != 0).order_by(c.hour)
        with self.store.read() as connection:
            return [(hour * HOUR, nano) for hour, nano in connection.execute(wanted)]

    async def end(self, at: float, success: bool) -> None:
        """The run of the last call ends, by its label."""
        await self.store.finish([ended(f"{self.calls}", ended_at=at, success=success, success_source="label")])
