"""A pipeline with a certificate from labels, whose drafter turns until spot checks revoke it, for tests of what then
counts as evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import Calibration
from orchestrator.quality.calibration.evidence import Source
from orchestrator.records import Answer, Request, Task
from orchestrator.store.engine import Store
from orchestrator.store.lapses import Change, changes
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, calibrated, draft, labels, validator
from tests.lapsing import watched_policy
from tests.pipelines import write_pipeline
from tests.stores import Clock

GOOD, BAD, REVOKED = 1_780_300_800.0, 1_780_304_400.0, 1_780_304_460.0
"""When the good drafts are made, when the bad ones are, and when that is found: at eight, at nine, and a minute past
nine on 2026-06-01. Calibrations have no clock but that of the machine; what they keep must not be past its time by the
store's."""
LABELS = labels(90, 30)


@dataclass
class Shop:
    """A store, a clock, and a drafter that is as sure as ever when it has `turned` wrong; `asked` counts its calls."""

    folder: Path
    store: Store
    clock: Clock
    turned: bool = False
    asked: int = 0
    validated: ScriptedModel = field(default_factory=validator)

    @classmethod
    async def open(cls, folder: Path, **settings: Any) -> Shop:
        """The certificate in place is made from labels; each accepted draft is looked at."""
        settings = {"step": CERTIFIED, "policy": watched_policy(), **settings}
        write_pipeline(folder / "p", **settings)
        clock = Clock(GOOD)
        shop = cls(folder, await Store.open(f"sqlite:///{folder / 's.db'}", clock=clock), clock)
        await shop.calibrate(LABELS)
        return shop

    @property
    def clients(self) -> dict[str, Any]:
        return {"drafter": ScriptedModel(self._draft, name="drafter"), "validator": self.validated}

    def _draft(self, request: Request) -> Answer:
        self.asked += 1
        answer = draft(request)
        return replace(answer, text='{"label":"b"}') if self.turned else answer

    async def calibrate(self, source: Source | list[Task] = LABELS, **options: Any) -> Calibration:
        """`asked` and `validated` then count what it took."""
        self.asked, self.validated = 0, validator()
        return await calibrated(self.folder, source, **{"store": self.store, "clients": self.clients, **options})

    async def serve(self, texts: Iterator[str], many: int) -> list[str]:
        """What becomes of so many tasks, with their spot checks done."""
        tasks = [Task(id=f"live {text}", input={"text": text}) for text in islice(texts, many)]
        async with Pipeline.load(
            self.folder / "p", store=self.store, clients=self.clients, clock=self.clock
        ) as pipeline:
            return [outcome.status async for outcome in pipeline.amap(tasks)]

    async def revoke(self, texts: Iterator[str]) -> Change:
        """A hundred good drafts, then forty wrong ones: the first is no evidence yet, and those a minute later are."""
        await self.serve(texts, 100)
        self.turned, self.clock.now = True, BAD
        await self.serve(texts, 1)
        self.clock.now = REVOKED
        await self.serve(texts, 39)
        with self.store.read() as connection:
            (change,) = changes(connection, "labels", "label")
        return change


def sure(start: int = 1000) -> Iterator[str]:
    """Texts of tasks that no calibration drafted, as sure as the labelled ones: all of them are accepted."""
    return (f"sure {i}" for i in count(start) if i % 97 < 90)
