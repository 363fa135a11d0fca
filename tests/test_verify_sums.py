"""verify: the sums that reports, budgets and closes rest on, beside the rows they are sums of, over both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, text

from orchestrator.config.budget import Who, bucket
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.period import Period
from orchestrator.finance.verify.accounts import shared_accounts, task_accounts
from orchestrator.finance.verify.cells import cost_cells, run_cells
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.totals import lines
from orchestrator.store.engine import Store
from orchestrator.store.entries import BudgetLine, Covered
from tests.lived_ledgers import START, Life
from tests.stores import Clock, Opener, claim, config, intent, settlement, usd
from tests.trail import TEXTS, at, serve, sql, url, verify

Check = Callable[[Connection], Iterator[Discrepancy]]


def words(store: Store, check: Check) -> list[str]:
    with store.read() as connection:
        return [one.words for one in check(connection)]


def change(store: Store, statement: str) -> None:
    with store._writing.begin() as connection:
        assert connection.exec_driver_sql(statement).rowcount > 0


def sums(connection: Connection) -> Iterator[Discrepancy]:
    for check in (lines, run_cells, cost_cells):
        yield from check(connection, Period())


# -- cells -------------------------------------------------------------------------------------------------------------


async def lived(opened: Opener, clock: Clock, seed: int, events: int = 300) -> Store:
    clock.now = START
    store = await opened()
    life = Life(store, clock, Random(seed))
    await life.begin()
    await life.live(events)
    return store


@pytest.mark.parametrize("seed", range(3))
async def test_cells_of_a_ledger_in_which_much_was_learned_late_are_the_sums_of_their_rows(
    opened: Opener, clock: Clock, seed: int
) -> None:
    store = await lived(opened, clock, seed)
    assert words(store, sums) == []
    await store.count_runs()
    assert words(store, sums) == []
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM cost_cell WHERE runs > 0")).scalar_one() > 10


async def test_a_changed_cost_cell_is_named_by_hour_and_currency_with_both_figures(
    opened: Opener, clock: Clock
) -> None:
    store = await lived(opened, clock, 1)
    await store.count_runs()
    with store.read() as connection:
        largest = "SELECT hour, currency, digits, cost_nano FROM cost_cell WHERE runs = 1 ORDER BY cost_nano DESC"
        hour, currency, digits, nano = connection.execute(text(largest)).fetchmany(1)[0]
    change(store, f"UPDATE cost_cell SET cost_nano = cost_nano - 1 WHERE cost_nano = {nano} AND runs = 1")
    (found,) = words(store, sums)
    shown = f"2026-11-0{1 + (hour - int(START // 3600)) // 24} {hour % 24:02}:00"
    assert found.startswith(f"the cost_cell of {shown}, {currency} (costs of {digits} digits), ")
    assert found.endswith(f": cost_nano {nano - 1:,}, its rows say {nano:,}")


@pytest.mark.parametrize(("table", "changed", "named"), [
    ("cost_cell", "squares = squares * 1.01", "squares"), ("cost_cell", "saved_nano = saved_nano + 5", "saved_nano"),
    ("cost_cell", "bound_nano = -1", "bound_nano"), ("run_cell", "runs = runs + 1", "runs"),
    ("run_cell", "escalated = escalated + 1", "escalated"), ("run_cell", "confidences = confidences + 0.1", "confid"),
])
async def test_whatever_sum_of_a_cell_is_changed_is_named(
    opened: Opener, clock: Clock, table: str, changed: str, named: str
) -> None:
    store = await lived(opened, clock, 2)
    await store.count_runs()
    where = "cost_nano > 0" if table == "cost_cell" else "runs > 0"
    change(store, f"UPDATE {table} SET {changed} WHERE {where}")
    found = words(store, sums)
    assert found
    assert all(f": {named}" in one for one in found)


async def test_runs_moved_to_another_kind_of_success_are_found_on_both_sides(opened: Opener, clock: Clock) -> None:
    store = await lived(opened, clock, 0)
    await store.count_runs()
    change(store, "UPDATE run_key SET success = (1 = 1), source = 'label' WHERE source = 'unknown'")
    found = words(store, sums)
    assert any("success by 'label': runs" in one and one.endswith("its rows say 0") for one in found)
    assert any("unknown by 'unknown': runs 0, its rows say" in one for one in found)


async def test_a_run_that_no_cell_and_no_queue_knows_of_is_found(opened: Opener, clock: Clock) -> None:
    store = await lived(opened, clock, 0)
    change(store, "DELETE FROM uncounted")
    assert any(": runs 0, its rows say 1" in one for one in words(store, sums))


async def test_unpriced_calls_left_out_of_a_line_are_found(opened: Opener, clock: Clock) -> None:
    store = await lived(opened, clock, 0)
    change(store, "UPDATE call_line SET unpriced = 0 WHERE unpriced > 0")
    assert all(": unpriced 0, its calls say" in one for one in words(store, sums))
    assert words(store, sums)


@pytest.mark.parametrize(("changed", "said"), [
    ("input_nano = input_nano - 900, output_nano = output_nano + 900", "input_nano"),
    ("output_nano = output_nano + 1", "its classes of tokens sum to"),
])
async def test_a_cost_moved_between_classes_of_tokens_is_found(tmp_path: Path, changed: str, said: str) -> None:
    """Which every format shows, and no row of a call holds."""
    await serve(tmp_path, TEXTS)
    sql(tmp_path, f"UPDATE call_line SET {changed} WHERE by_class > 1")
    found = (await verify(url(tmp_path))).findings.kept
    assert found
    assert all(one.kind == "total" and f": {said}" in one.words for one in found)


# -- accounts ----------------------------------------------------------------------------------------------------------

NOON = at("2026-10-05T12:00")


def of_file(limit: int = 1_000) -> BudgetLine:
    day = bucket("day", NOON)
    covered = Covered(since=day.since, until=day.until, pipeline="p")
    return BudgetLine(scope=day.scope("p"), limit=usd(limit), covered=covered)


async def spend(store: Store, name: str, *, budgets: tuple[BudgetLine, ...] = (), **settled: Any) -> None:
    """One call of the run r1, reserved at 10 and settled at 4."""
    await store.intend(intent(name, "r1", tenant="acme", cost_center="CC", budgets=budgets))
    if settled.pop("end", True):
        await store.settle(settlement(name, ended_at=NOON, **settled))


async def budgeted(opened: Opener, clock: Clock) -> Store:
    """Calls before any limit, calls in a file's and a task's budget, then a limit of the store for all and one for a
    tenant in mid-month, calls of unknown cost, and calls in flight."""
    clock.now = NOON
    store = await opened()
    await store.record_config(config())
    await store.claim([claim("r1", tenant="acme")])
    task = BudgetLine(scope="task:r1", limit=usd(1_000))
    await spend(store, "k1")
    await spend(store, "k2", budgets=(of_file(), task))
    await spend(store, "k3", end=False)
    await store.set_budget(Who("all"), [("month", usd(5_000), None)])
    await store.set_budget(Who("tenant", "acme"), [("total", usd(5_000), usd(4_000))])
    await store.set_budget(Who("cost_center", "CC"), [("hour", usd(5_000), None)])
    await spend(store, "k4", budgets=(of_file(), task), state="unsettled", cost=None, usage=None,
                provenance="unsettled")
    await spend(store, "k5")
    await store.settle(settlement("k3", ended_at=NOON, cost=usd(17)))
    await spend(store, "k6", budgets=(of_file(), task), end=False)
    return store


def accounts(connection: Connection) -> Iterator[Discrepancy]:
    yield from shared_accounts(connection)
    yield from task_accounts(connection)


async def test_accounts_that_were_opened_in_mid_month_are_what_their_calls_come_to(
    opened: Opener, clock: Clock
) -> None:
    store = await budgeted(opened, clock)
    with store.read() as connection:
        rows = connection.execute(text("SELECT scope, spent_nano, reserved_nano FROM budget ORDER BY scope"))
        assert {scope: (spent, reserved) for scope, spent, reserved in rows} == {
            "day:p:2026-10-05": (4 + 4 + 10, 10), "hour:cost_center=CC:2026-10-05T12": (39, 10),
            "month:*:2026-10": (4 + 4 + 17 + 10 + 4, 10), "task:r1": (4 + 10, 10), "total:tenant=acme": (39, 10),
        }
    assert words(store, accounts) == []


@pytest.mark.parametrize(("scope", "column", "due"), [
    ("day:p:2026-10-05", "reserved", "10"), ("month:*:2026-10", "spent", "39"), ("task:r1", "spent", "14"),
    ("total:tenant=acme", "spent", "39"), ("task:r1", "reserved", "10"),
])
async def test_a_changed_account_is_named_with_what_its_calls_come_to(
    opened: Opener, clock: Clock, scope: str, column: str, due: str
) -> None:
    store = await budgeted(opened, clock)
    change(store, f"UPDATE budget SET {column}_nano = {column}_nano - 1 WHERE scope = '{scope}'")
    (found,) = words(store, accounts)
    less = f"{usd(int(due) - 1)} {column}, its calls"
    assert found.startswith(f"budget '{scope}': {less}")
    assert found.endswith(f"come to {usd(int(due))}")


async def test_an_account_of_a_file_is_held_between_what_names_it_and_what_it_covers(
    opened: Opener, clock: Clock
) -> None:
    """A process without the budget calls meanwhile: whether its calls ended before the account was opened, no row says.
    """
    store = await budgeted(opened, clock)
    for spent, names in ((13, True), (14, False), (39, False), (40, True)):
        change(store, f"UPDATE budget SET spent_nano = {spent} WHERE scope = 'day:p:2026-10-05'")
        found = words(store, accounts)
        assert bool(found) is names, (spent, found)
    assert found[0].endswith(f"come to between {usd(14)} and {usd(39)}")


async def test_an_account_without_any_call_is_found(opened: Opener, clock: Clock) -> None:
    store = await opened()
    with store._writing.begin() as connection:
        connection.execute(text("INSERT INTO budget (scope, currency, limit_nano, spent_nano, reserved_nano, "
                                "overrun_nano) VALUES ('total:x', 'USD', 9, 3, 0, 0)"))
    assert words(store, accounts) == [f"budget 'total:x': {usd(3)} spent, its calls come to {usd(0)}"]


async def test_a_task_account_that_was_swept_and_opened_anew_is_no_finding(opened: Opener, clock: Clock) -> None:
    from tests.stores import run_to_the_end

    clock.now = NOON
    store, task = await opened(), BudgetLine(scope="task:r1", limit=usd(1_000))
    await store.record_config(config())
    await run_to_the_end(store, "r1", budgets=(task,))
    await store.sweep()
    await spend(store, "late", budgets=(task,))
    assert words(store, accounts) == []
    change(store, "UPDATE budget SET spent_nano = 9 WHERE scope = 'task:r1'")
    assert words(store, accounts) == [f"budget 'task:r1': {usd(9)} spent, its calls come to {usd(8)}"]


# -- closes ------------------------------------------------------------------------------------------------------------


async def close_october(folder: Path, now: float) -> None:
    store = await Store.open(url(folder), clock=Clock(now))
    try:
        await close_month(store, "2026-10", now=now)
    finally:
        await store.aclose()


NOV_2 = at("2026-11-02T09:00")


async def test_a_price_that_was_replaced_under_its_own_digest_is_found_by_the_close(tmp_path: Path) -> None:
    """Somebody who makes version, body and calls fit: the close holds what the price was."""
    await serve(tmp_path, TEXTS)
    await close_october(tmp_path, NOV_2)
    assert (await verify(url(tmp_path))).findings.kept == []
    sql(tmp_path, "UPDATE price SET body_json = replace(body_json, '0.4', '0.3') WHERE model = 'drafter'")
    (digest, named) = [one for one in (await verify(url(tmp_path))).findings.kept if one.kind == "price"]
    assert "it is not what its name has the digest of" in digest.words
    assert named.row == digest.row
    assert "the close of 2026-10 holds its digest as" in named.words
    sql(tmp_path, "UPDATE price SET version = 'drafter#other' WHERE model = 'drafter'")
    gone = [one.words for one in (await verify(url(tmp_path))).findings.kept if one.kind == "price"]
    assert any(one.endswith("and it is gone from the ledger") for one in gone)


async def test_a_word_that_names_a_later_time_than_the_close_is_known_to_it(tmp_path: Path) -> None:
    outcomes = await serve(tmp_path, TEXTS)
    ids = [one.run_id for one in outcomes if one.status == "accepted"]
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2 - 60))
    await store.record_feedback(ids[0], success=True, at=NOV_2 + 30 * 86_400)
    await store.record_feedback(ids[0], success=False, at=NOV_2 - 120)
    await store.record_feedback(ids[1], success=False, at=NOV_2 + 5 * 86_400)
    await store.aclose()
    await close_october(tmp_path, NOV_2)
    assert (await verify(url(tmp_path), now=NOV_2 + 1)).findings.kept == []
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2 + 86_400))
    await store.record_feedback(ids[1], success=True)
    await store.record_feedback(ids[2], success=True)
    await store.aclose()
    for days in (2, 60):
        assert (await verify(url(tmp_path), now=NOV_2 + days * 86_400)).findings.kept == []
    sql(tmp_path, f"UPDATE feedback SET success = 1 WHERE run_id = '{ids[1]}'")
    kinds = {one.kind for one in (await verify(url(tmp_path), now=NOV_2 + 2 * 86_400)).findings.kept}
    assert kinds >= {"changed", "close"}
