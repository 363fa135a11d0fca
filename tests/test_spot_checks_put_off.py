"""Spot checks that no money or no model was there for: they wait in the store, and are made when there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.cascade import later
from orchestrator.config.budget import Who
from orchestrator.errors import AuthRefused, CallTimedOut, ConnectionLost, RateLimited, RequestRefused
from orchestrator.records import Answer, Usage
from orchestrator.store.engine import Store
from orchestrator.store.entries import SpotCheckEntry
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline
from tests.stores import Clock, run_to_the_end, usd
from tests.test_spot_checks import LOOK, B, drafting, rows, tasks

POOR, RICH = {"total": "0.0005 USD"}, {"total": "1 USD"}
"""For some drafts, but not for a spot check; and for both."""
STATES = "SELECT state, draft_ok, count(*) FROM spot_check GROUP BY 1, 2 ORDER BY 1"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def checking() -> ScriptedModel:
    return ScriptedModel(lambda _: B, name="validator")


async def process(folder: Path, url: str, validator: ScriptedModel, given: list[Task], **settings: Any) -> str:
    """One process works on these tasks; what it says of the checks it leaves."""
    path = write_pipeline(folder / "p", policy=LOOK, validator={"retries": 0}, **settings)
    async with Pipeline.load(path, store=url, clients=drafting(validator)) as pipeline:
        await pipeline.take_up_spot_checks()
        for task in given:
            assert (await pipeline.arun(task)).status == "accepted"
        rt = await pipeline.runtime()
        await rt.quiet()
        return await later.left_waiting(rt)


async def test_a_check_refused_for_money_is_made_by_the_next_process_once_there_is_room(
    tmp_path: Path, url: str
) -> None:
    poor = checking()
    said = await process(tmp_path, url, poor, tasks(3), budget=POOR)
    assert said == "3 spot checks wait for money: the next run makes them once there is room"
    assert rows(tmp_path, STATES) == [("pending", None, 3)]
    assert await process(tmp_path, url, poor, [], budget=POOR) == said
    assert poor.calls == []
    rich = checking()
    assert await process(tmp_path, url, rich, [], budget=RICH) == ""
    assert (len(rich.calls), rows(tmp_path, STATES)) == (3, [("done", 0, 3)])
    assert rows(tmp_path, "SELECT count(DISTINCT run_id), count(*) FROM feedback") == [(3, 3)]
    assert rows(tmp_path, "SELECT DISTINCT propensity FROM spot_check") == [(1.0,)], "as it was logged"


async def test_the_process_that_put_them_off_makes_them_once_the_budget_is_raised(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(later, "TAKE_UP_S", 0.0)
    validator = checking()
    path = write_pipeline(tmp_path / "p", policy=LOOK)
    async with Pipeline.load(path, store=url, clients=drafting(validator)) as pipeline:
        rt = await pipeline.runtime()
        await rt.store.set_budget(Who("pipeline", "labels"), [("total", usd(500_000), None)])
        for task in tasks(3):
            await pipeline.arun(task)
        await rt.quiet()
        assert (validator.calls, rows(tmp_path, STATES)) == ([], [("pending", None, 3)])
        await rt.store.set_budget(Who("pipeline", "labels"), [("total", usd(1_000_000_000), None)])
        await pipeline.arun(tasks(1, 3)[0])
        await rt.quiet()
        assert await later.left_waiting(rt) == ""
    assert (len(validator.calls), rows(tmp_path, STATES)) == (4, [("done", 0, 4)])


async def test_more_than_there_is_room_for_are_never_made(tmp_path: Path, url: str) -> None:
    """Each costs 0.00063 USD: the limit is for some of the ten."""
    dear = Answer(text='{"label":"b"}', finish_reason="stop", usage=Usage(input=50, output=32), model="validator")
    await process(tmp_path, url, checking(), tasks(10), budget=POOR)
    some = ScriptedModel(lambda _: dear, name="validator")
    said = await process(tmp_path, url, some, [], budget={"total": "0.004 USD"})
    made = len(some.calls)
    assert 0 < made < 10
    assert said.startswith(f"{10 - made} spot check")
    (spent,) = rows(tmp_path, "SELECT spent_nano, reserved_nano FROM budget")
    assert (0 < spent[0] <= 4_000_000, spent[1]) == (True, 0)
    assert await process(tmp_path, url, checking(), [], budget=RICH) == ""
    assert rows(tmp_path, STATES) == [("done", 0, 10)]


async def test_a_tenant_without_money_keeps_no_other_from_its_turn(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{who} {i}" for who in ("poor", "rich") for i in range(6)]
    given = [Task(id=name, input={"text": name}, meta={"tenant": name[:4]}) for name in names]
    await process(tmp_path, url, checking(), given, budget=POOR)
    store = await Store.open(url)
    await store.set_budget(Who("tenant", "poor"), [("total", usd(1), None)])
    await store.aclose()
    monkeypatch.setattr(later, "WAITING", 8)
    validator = checking()
    assert (await process(tmp_path, url, validator, [], budget=RICH)).startswith("6 spot checks wait")
    assert len(validator.calls) == 6
    state = "SELECT tenant, state, count(*) FROM spot_check JOIN run USING (run_id) GROUP BY 1, 2 ORDER BY 1"
    assert rows(tmp_path, state) == [("poor", "pending", 6), ("rich", "done", 6)]


async def test_a_round_that_finds_no_money_ends_early(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process(tmp_path, url, checking(), tasks(40), budget=POOR)
    monkeypatch.setattr(later, "WAITING", 5)
    path = write_pipeline(tmp_path / "p", policy=LOOK, budget=POOR)
    async with Pipeline.load(path, store=url, clients=drafting(checking())) as pipeline:
        await pipeline.take_up_spot_checks()
        rt = await pipeline.runtime()
        await rt.quiet()
        assert 5 <= len(rt.backlog.put_off) < 5 + later.AT_ONCE
        assert (await later.left_waiting(rt)).startswith("40 spot checks wait for money")
        assert (len(rt.backlog.waiting), rt.backlog.here) == (0, set())


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (ConnectionLost("nobody there", sent=False), "pending"), (RateLimited("429"), "pending"),
        (AuthRefused("401"), "pending"), (CallTimedOut("no answer"), "unanswered"),
        (RequestRefused("400"), "unanswered"),
    ],
)
async def test_a_check_waits_for_a_model_that_was_not_there_and_not_where_its_task_was_at_fault(
    tmp_path: Path, url: str, said: Exception, state: str
) -> None:
    left = await process(tmp_path, url, ScriptedModel([said], name="validator"), tasks(1))
    assert rows(tmp_path, "SELECT state FROM spot_check") == [(state,)]
    waits = "1 spot check waits for the validator: the next run makes it once it can be asked"
    assert left == (waits if state == "pending" else "")
    await process(tmp_path, url, checking(), [])
    assert rows(tmp_path, STATES) == ([("done", 0, 1)] if state == "pending" else [("unanswered", None, 1)])


async def test_where_a_validator_is_away_it_is_not_asked_for_all_that_wait(tmp_path: Path, url: str) -> None:
    await process(tmp_path, url, checking(), tasks(60), budget=POOR)
    away = ScriptedModel(lambda _: ConnectionLost("nobody there", sent=False), name="validator")
    assert (await process(tmp_path, url, away, [])).startswith("60 spot checks wait for the validator")
    assert 0 < len(away.calls) <= 2 * later.AT_ONCE


@pytest.mark.parametrize("settings", [{"content": {"keep": "none"}}, {"budget": {"per_task": "0.0005 USD"}}])
async def test_a_check_that_can_not_wait_is_unanswered(tmp_path: Path, url: str, settings: dict[str, Any]) -> None:
    """Nothing is kept of its task, or its task's own budget is spent."""
    assert await process(tmp_path, url, checking(), tasks(2), **{"budget": POOR, **settings}) == ""
    assert rows(tmp_path, STATES) == [("unanswered", None, 2)]
    if "content" in settings:
        assert rows(tmp_path, "SELECT * FROM content") == []


async def test_a_check_waits_no_longer_than_its_content_is_kept(store: Store, clock: Clock) -> None:
    check = SpotCheckEntry(step="extract", propensity=0.1)
    await run_to_the_end(store, keep_until=clock.now + 10, spot_checks=(check,))
    await run_to_the_end(store, "r2", keep_until=clock.now + 30, spot_checks=(check,))
    (first, _) = await store.pending_spot_checks("p")
    assert first.keep_until == clock.now + 10
    await store.sweep()
    assert await store.count_pending_spot_checks("p") == 2
    clock.now += 11
    await store.sweep()
    assert [one.run_id for one in await store.pending_spot_checks("p")] == ["r2"]
    await store.settle_spot_check("r1", "extract", draft_ok=True)
    stored = await store.stored_outcome("r1")
    assert stored is not None
    assert (stored.success, stored.contents.get("value")) == (None, None), "it was given up"
