"""`run --max-cost` holds what each call can cost at most: the sum is never passed, and nothing paid for is lost."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.batch import RunOptions, RunSummary, arun_file
from orchestrator.cascade.purse import Purse
from orchestrator.config.quantities import parse_money
from orchestrator.errors import CostReached, InputError
from orchestrator.records import Money
from tests.loopback import Loopback
from tests.pipelines import write_pipeline, write_tasks
from tests.trail import command, rows

MODELS = ("drafter", "validator")
ESCALATE = {"policy": "p", "after": [{"name": "all", "then": "escalate"}]}
CHECKED = {"policy": "checked", "after": [{"name": "look", "sample": 0.999999, "then": "spot_check"}],
           "otherwise": "accept"}
TASKS = 60


def asked(folder: Path, url: str, policy: dict[str, Any], most: str, **given: Any) -> RunOptions:
    model = {"endpoints": [url], "retries": 0}
    path = write_pipeline(folder / "p", drafter=model, validator=model, policy=policy)
    tasks = write_tasks(folder / "tasks.jsonl", TASKS)
    return RunOptions(pipeline=path, tasks=tasks, out=folder / "out.jsonl", store=f"sqlite:///{folder}/store.db",
                      max_cost=parse_money(most), **{"yes": True, **given})


async def run(folder: Path, policy: dict[str, Any], most: str, **given: Any) -> RunSummary:
    async with Loopback(models=MODELS) as server:
        return await arun_file(asked(folder, server.url, policy, most, **given))


def spent(folder: Path) -> int:
    return int(rows(folder, "SELECT coalesce(sum(cost_nano), 0) FROM call")[0][0])


@pytest.mark.parametrize("policy", [ESCALATE, CHECKED])
async def test_the_sum_is_never_passed_with_all_calls_in_flight_and_the_checks_that_were_drawn(
    tmp_path: Path, policy: dict[str, Any]
) -> None:
    most = "0.008 USD"
    summary = await run(tmp_path, policy, most)
    assert "are spent, and the next call could cost" in summary.stopped
    assert f"--max-cost {most}" in summary.stopped
    assert summary.exit_code == 1
    assert 0 < spent(tmp_path) <= parse_money(most).nano
    assert summary.spent == {"USD": spent(tmp_path)}, "what tasks left open have cost is spent, too"


async def test_what_was_begun_is_left_open_and_the_same_command_goes_on_without_paying_twice(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        first = await arun_file(asked(tmp_path, server.url, ESCALATE, "0.008 USD"))
        again = await arun_file(asked(tmp_path, server.url, ESCALATE, "1 USD"))
    assert first.left_open > 0
    assert first.tasks < TASKS
    assert (again.tasks, again.resumed, again.stopped, again.left_open) == (TASKS, first.tasks, "", 0)
    (calls, drafts, handed_off), = rows(
        tmp_path, "SELECT count(*), (SELECT count(*) FROM call WHERE role = 'draft'), "
        "(SELECT count(*) FROM outcome WHERE status = 'handed_off') FROM call")
    assert (calls, drafts, handed_off) == (2 * TASKS, TASKS, 0)


async def test_a_task_that_stands_twice_in_the_file_is_no_bad_line_because_the_sum_was_spent(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        one = asked(tmp_path, server.url, ESCALATE, "0.008 USD")
        text = one.tasks.read_text()
        one.tasks.write_text("".join(line + line for line in text.splitlines(keepends=True)))
        summary = await arun_file(one)
    assert summary.stopped
    assert summary.left_open > 0
    assert (summary.rejected, (tmp_path / "out.rejected.jsonl").exists()) == (0, False)


async def test_a_check_that_did_not_fit_stays_to_be_made_and_the_next_run_makes_it(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        first = await arun_file(asked(tmp_path, server.url, CHECKED, "0.008 USD"))
        states = _states(tmp_path)
        done = await arun_file(asked(tmp_path, server.url, CHECKED, "1 USD"))
    assert states["pending"] > 0
    assert states.get("done", 0) == first.checked
    assert "unanswered" not in states
    assert _states(tmp_path) == {"done": TASKS}
    assert done.checked == TASKS - first.checked


def _states(folder: Path) -> dict[str, int]:
    return dict(rows(folder, "SELECT state, count(*) FROM spot_check GROUP BY state"))


async def test_a_sum_for_less_than_one_call_asks_nothing(tmp_path: Path) -> None:
    summary = await run(tmp_path, ESCALATE, "0.000001 USD")
    assert summary.stopped.startswith("0 USD are spent")
    assert (summary.tasks, spent(tmp_path)) == (0, 0)


async def test_a_call_whose_cost_stays_unknown_counts_as_the_most_it_could_have_cost(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        server._fault = lambda request, body: "cut" if body["model"] == "validator" else "ok"  # type: ignore[method-assign]
        summary = await arun_file(asked(tmp_path, server.url, CHECKED, "0.008 USD"))
    bounds = rows(tmp_path, "SELECT sum(coalesce(cost_nano, bound_nano)), sum(cost_nano IS NULL) FROM call")[0]
    assert summary.stopped
    assert bounds[1] > 0
    assert bounds[0] <= parse_money("0.008 USD").nano


async def test_a_sum_that_is_enough_stops_nothing(tmp_path: Path) -> None:
    summary = await run(tmp_path, CHECKED, "1 USD")
    assert (summary.tasks, summary.stopped, summary.exit_code, summary.checked) == (TASKS, "", 0, TASKS)


async def test_the_refusal_names_the_sum_that_was_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"the worst case is above --max-cost 0\.0001 USD"):
        await run(tmp_path, ESCALATE, "0.0001 USD", yes=False)
    async with Loopback(models=MODELS) as server:
        one = asked(tmp_path, server.url, ESCALATE, "0.008 USD")
        _, told = await command(capsys, "run", str(one.pipeline), str(one.tasks), "--out", str(one.out), "--store",
                                one.store, "--yes", "--max-cost", "0.008USD")
    assert "begun and not ended: the same command goes on" in told


@given(
    limit=st.integers(0, 400),
    calls=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100), st.booleans()), max_size=40),
)
def test_spent_and_held_never_pass_the_sum(limit: int, calls: list[tuple[int, int, bool]]) -> None:
    """Calls of (bound, share of it in percent, is its cost known) that all begin at once."""
    seen: list[int] = []

    async def call(purse: Purse, bound: int, share: int, known: bool) -> None:
        with contextlib.suppress(CostReached):
            async with purse.holding(Money(nano=bound)):
                seen.append(purse._spent + purse._held)
                await asyncio.sleep(0)
                purse.spend(Money(nano=bound * share // 100) if known else None, Money(nano=bound))

    async def all_at_once() -> Purse:
        purse = Purse(Money(nano=limit))
        await asyncio.gather(*(call(purse, *one) for one in calls))
        return purse

    purse = asyncio.run(all_at_once())
    assert all(one <= limit for one in [*seen, purse._spent])
    assert purse._held == 0
    assert len(seen) == len(calls) or purse.refusal
