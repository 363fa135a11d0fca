"""A call that was cut off, by a kill or a lost connection: what a record costs is the same whenever that is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConnectionLost
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import Calibration
from orchestrator.quality.calibration.evidence import Source
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.labels import from_labels, label_tasks
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Answer, Money, Request, Task
from orchestrator.testing import ScriptedModel
from tests.assessments import assessed, log, pipeline, texts
from tests.calibrations import CERTIFIED, calibrated, drafter, labels, said, validator
from tests.pipelines import POLICY, write_pipeline, write_tasks

DRAFT, OWN = 10 * 100 + 5 * 400, 10 * 3_000 + 5 * 15_000
CUT_OFF = "1 call was cut off before its answer came"


class Stuck(ScriptedModel):
    """As `model`, but for the requests `at` (from 1), which it does not answer; then `waiting` is set."""

    def __init__(self, model: ScriptedModel, *at: int) -> None:
        super().__init__([], name=model.name)
        self._model, self._asked, self._at, self.waiting = model, 0, at, asyncio.Event()

    async def complete(self, request: Request, **more: Any) -> Answer:
        self._asked += 1
        if self._asked not in self._at:
            return await self._model.complete(request, **more)
        if self._asked == max(self._at):
            self.waiting.set()
        return await self._nothing()

    async def _nothing(self) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled before that")


class Lost(Stuck):
    """The connection is lost instead."""

    async def _nothing(self) -> Answer:
        raise ConnectionLost("reset by peer")


async def killed(running: Coroutine[Any, Any, object], stuck: Stuck) -> None:
    task = asyncio.create_task(running)
    await stuck.waiting.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def with_model(model: ScriptedModel) -> dict[str, ScriptedModel]:
    return {"drafter": drafter(), "validator": validator(), model.name: model}


def of_labels(folder: Path) -> Source:
    return from_labels(lambda: label_tasks(labels(90, 30)), validate=True)


def spending(folder: Path) -> Source:
    found = [str(task.input["text"]) for task in labels(90, 30)]
    return by_spending(Money(nano=10**9), write_tasks(folder / "t.jsonl", 120, found.__getitem__))


@pytest.mark.parametrize(("source", "cut", "drafts", "answers"), [
    (of_labels, drafter, 121, 120), (of_labels, validator, 120, 121), (spending, drafter, 121, 120),
])
async def test_a_call_that_a_kill_cut_off_counts_as_the_mean_of_the_others_whenever_that_is_asked(
    tmp_path: Path, source: Callable[[Path], Source], cut: Callable[[], ScriptedModel], drafts: int, answers: int
) -> None:
    stuck = Stuck(cut(), 1)
    await killed(calibrated(tmp_path, source(tmp_path), clients=with_model(stuck), concurrency=1), stuck)
    for _ in range(2):
        done = await calibrated(tmp_path, source(tmp_path))
        escalated = 120 - done.certificate.accepted
        assert done.certificate.cost_ratio == pytest.approx((drafts * DRAFT + escalated * OWN) / (answers * OWN))
        (note,) = [one for one in done.notes if "cut off" in one]
        assert note.startswith(f"{CUT_OFF} (0.")
        assert note.endswith(" USD at most): it counts as the mean of others like it")


async def test_where_many_calls_were_cut_off_the_cost_is_unknown(tmp_path: Path) -> None:
    stuck = Stuck(drafter(), *range(1, 11))
    await killed(calibrated(tmp_path, of_labels(tmp_path), clients=with_model(stuck), concurrency=10), stuck)
    done = await calibrated(tmp_path, of_labels(tmp_path))
    assert done.certificate.cost_ratio is None
    assert "has an unknown cost (of 120 records 10 with no cost of its draft)" in done.words
    assert "cut off" not in " ".join(done.notes)


async def test_what_was_answered_before_a_kill_is_in_the_cost_of_its_draft(tmp_path: Path) -> None:
    """The first draft breaks its schema, and the second is cut off: three calls in all."""
    whole = drafter()
    stuck = Stuck(ScriptedModel(lambda request: said('{"label":', -0.01), name="drafter"), 2)
    await killed(calibrated(tmp_path, of_labels(tmp_path), clients=with_model(stuck), concurrency=1), stuck)
    for _ in range(2):
        done = await calibrated(tmp_path, of_labels(tmp_path), clients=with_model(whole))
        assert len(whole.calls) == 120, "the first is not asked for again"
        escalated = 120 - done.certificate.accepted
        assert done.certificate.cost_ratio == pytest.approx((122 * DRAFT + escalated * OWN) / (120 * OWN))


async def test_an_assessment_prices_a_draft_that_was_cut_off_like_the_others(tmp_path: Path) -> None:
    path, logs = pipeline(tmp_path), log(tmp_path / "logs.jsonl", texts(450, 150))
    stuck = Stuck(drafter(), 1)
    await killed(assessed(path, logs, stuck, concurrency=1), stuck)
    first, again = [await assessed(path, logs) for _ in range(2)]
    assert first.measured.cost is not None
    assert first.measured == again.measured
    assert CUT_OFF in first.words


# -- the ledger --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "note"), [
    ("drafter", CUT_OFF), ("validator", "1 validation had a call that was cut off before its answer came"),
])
async def test_a_lost_connection_among_many_calls_leaves_no_cost_of_the_ledger_unknown(
    tmp_path: Path, lost: str, note: str
) -> None:
    whole, done = [await from_live(tmp_path / name, name) for name in ("none", lost)]
    assert whole.certificate.cost_ratio is not None
    more = DRAFT / OWN / 120 if lost == "drafter" else 0.0
    assert done.certificate.cost_ratio == pytest.approx(whole.certificate.cost_ratio + more)
    assert [one[:len(note)] for one in done.notes if "cut off" in one] == [note]
    assert "cut off" not in " ".join(whole.notes)


async def from_live(folder: Path, lost: str) -> Calibration:
    """Every draft is looked at; the first call of one task to the model `lost` comes to nothing."""
    looks = {"name": "look", "sample": 1.0, "then": "spot_check"}
    write_pipeline(folder / "p", step={**CERTIFIED, "validate": {"model": "validator", "mode": "redo"}},
                   policy={**POLICY, "after": [*POLICY["after"], looks]})
    clients = {"drafter": drafter(), "validator": validator()}
    if lost in clients:
        clients[lost] = Lost(clients[lost], 1)
    async with Pipeline.load(folder / "p", store=f"sqlite:///{folder / 's.db'}", clients=clients) as live:
        async for outcome in live.amap([Task(input=task.input) for task in labels(90, 30)]):
            assert outcome.status != "failed"
    return await calibrated(folder, from_ledger())
