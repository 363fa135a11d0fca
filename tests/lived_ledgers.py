"""Ledgers that a store wrote itself: calls and runs, and all that may be learned of them before and after they are
counted, in a random order."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from orchestrator.records import Money, Usage
from orchestrator.store.engine import Store
from orchestrator.store.entries import ConfigEntry, HandOffEntry, SpotCheckEntry, StepEntry
from tests.stores import Clock, claim, ended, intent, settlement

START = 1_793_491_200.0  # 2026-11-01, on the hour
HOURS = 30


class Life:
    """One pipeline of three configurations, driven by `random`. `clock` is the store's."""

    def __init__(self, store: Store, clock: Clock, random: Random) -> None:
        self.store, self.clock, self.random = store, clock, random
        self.running: dict[str, str] = {}
        self.ended: list[str] = []
        self.checked: list[str] = []
        self.handed_off: list[str] = []
        self.open_calls: list[str] = []
        self.numbers = iter(range(1_000_000))

    async def begin(self) -> None:
        for i in range(3):
            steps = [{"id": "s", "confidence": {"fitted": True}}] if i else []
            body = {"pipeline": {"pipeline": "p", "tags": ["team"], "steps": steps,
                                 "success": {"feedback_window": f"{i * 2}h" if i else "5d"}}}
            await self.store.record_config(ConfigEntry(
                config_id=f"c{i}", pipeline="p", version=str(i), owner="desk", cost_center="CC", mode="cascade",
                body_json=json.dumps(body), created_at=float(i),
            ))

    async def live(self, events: int) -> None:
        acts = [self.take_in, self.take_in, self.call, self.call, self.settle, self.settle, self.end, self.end,
                self.hear, self.check, self.resolve, self.count, self.call_late]
        for _ in range(events):
            self.clock.now += self.random.expovariate(events / (HOURS * 3600))
            await self.random.choice(acts)()

    async def take_in(self) -> None:
        run_id, config_id = f"r{next(self.numbers)}", f"c{self.random.randrange(3)}"
        tags = self.random.choice([{}, {"team": "blue"}, {"team": 7}, {"team": True}])
        await self.store.claim([claim(run_id, config_id=config_id, tags=tags, tenant=self.random.choice(["", "a"]))])
        self.running[run_id] = config_id

    async def call(self) -> None:
        if self.running:
            await self._call(self.random.choice(list(self.running)))

    async def call_late(self) -> None:
        """As a spot check's call is made once its run has ended."""
        if self.ended:
            await self._call(self.random.choice(self.ended))

    async def _call(self, run_id: str) -> None:
        call_id, r = f"k{next(self.numbers)}", self.random
        bound = r.choice([None, Money(nano=10 ** r.randrange(3, 9)), Money(nano=5_000, currency="EUR")])
        await self.store.intend(intent(
            call_id, run_id, bound=bound, role=r.choice(["draft", "judge", "baseline"]), model=r.choice(["m", "n"]),
        ))
        self.open_calls.append(call_id)

    async def settle(self) -> None:
        if not self.open_calls:
            return
        r = self.random
        call_id = self.open_calls.pop(r.randrange(len(self.open_calls)))
        cost = r.choice([None, Money(nano=r.randrange(10 ** r.randrange(1, 10))), Money(nano=77, currency="EUR")])
        costs = None if cost is None or r.random() < 0.3 else (cost.nano, *(0,) * 7)
        await self.store.settle(settlement(
            call_id, ended_at=self.clock.now, cost=cost, costs=costs, provenance="priced" if cost else "unpriced",
            usage=r.choice([None, Usage(), Usage(input=r.randrange(900), output=r.randrange(90), cache_read=3)]),
            model_answered=r.choice([None, "m", "m-2"]), tier=r.choice([None, "batch"]),
        ))

    async def end(self) -> None:
        if not self.running:
            return
        r = self.random
        run_id = r.choice(list(self.running))
        config_id = self.running.pop(run_id)
        source = r.choice([*self.ended[-3:], *list(self.running)[:3]] or [None]) if r.random() < 0.3 else None
        propensity = r.choice([None, 0.1, 0.25])
        checked = propensity is not None and r.random() < 0.5
        handed = r.random() < 0.1
        known: Any = r.choice([(None, "unknown")] * 3 + [(True, "validator"), (False, "label"), (True, "proof"),
                                                         (False, "require")])
        step = StepEntry(step="s", status="accepted", propensity=propensity, confidence=r.choice([0.9, 0.5, None, 2.0]))
        await self.store.finish([ended(
            run_id, config_id=config_id, ended_at=self.clock.now, success=known[0], success_source=known[1],
            steps=(step,), status="handed_off" if handed else r.choice(["accepted", "repaired", "failed"]),
            from_cache=source is not None, source_run_id=source, escalated=r.random() < 0.2,
            saved=Money(nano=r.randrange(99)) if source else None,
            spot_checks=(SpotCheckEntry(step="s", propensity=propensity),) if checked and propensity else (),
            handoff=HandOffEntry(step="s", reason="why") if handed else None,
        )])
        self.ended.append(run_id)
        if checked:
            self.checked.append(run_id)
        if handed:
            self.handed_off.append(run_id)

    async def hear(self) -> None:
        if self.ended:
            at = self.random.choice([None, self.clock.now - 9_000.0])
            await self.store.record_feedback(self.random.choice(self.ended), success=self.random.random() < 0.5, at=at)

    async def check(self) -> None:
        if self.checked:
            run_id = self.checked.pop(self.random.randrange(len(self.checked)))
            right = self.random.choice([True, False, None])
            state: Any = "unanswered" if right is None else "done"
            await self.store.settle_spot_check(run_id, "s", draft_ok=right, state=state)

    async def resolve(self) -> None:
        if self.handed_off:
            run_id = self.handed_off.pop()
            await self.store.resolve_handoff(run_id, value=None, success=self.random.random() < 0.5)

    async def count(self) -> None:
        if self.random.random() < 0.5:
            await self.store.count_runs()
