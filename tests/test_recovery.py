"""What a crash leaves: every call that left is accounted for, and nobody's live work is touched."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select, update

from orchestrator.store.database import pulse
from orchestrator.store.engine import Store
from orchestrator.store.entries import PriceRecord
from orchestrator.store.leases import RECOVERED, Recovered, host, process_started
from orchestrator.store.own_tables import Owner
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow
from tests.stores import DAY, Clock, Opener, budget_of, calls_of, claim, intent, line, settlement, usd

call, owner = table(CallRow), table(Owner)


@contextmanager
def worker(what: str, url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.store_worker", what, url, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def rest(process: subprocess.Popen[str]) -> list[str]:
    """The whole lines a worker still has to say; of a killed one the last may be half a line, which says nothing.

    Not `communicate`, which reads past what `readline` holds back.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    lines = process.stdout.readlines()
    process.wait()
    return [line for line in lines if line.endswith("\n")]


def states(store: Store) -> dict[str, list[Any]]:
    """The calls of the store by state."""
    found: dict[str, list[Any]] = {}
    with store.read() as connection:
        for row in connection.execute(select(call)):
            found.setdefault(row.state, []).append(row)
    return found


async def test_intents_of_a_killed_process_become_unsettled_at_their_bound(opened: Opener, url: str) -> None:
    with worker("intents", url, "5") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = await opened(clock=time.time)
    left = states(store)
    assert list(left) == ["unsettled"]
    assert len(left["unsettled"]) == 5
    assert {(c.error, c.provenance, c.cost_nano) for c in left["unsettled"]} == {(RECOVERED, "unsettled", None)}
    budget = budget_of(store, DAY)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (usd(50), usd(0))


async def test_a_killed_process_costs_its_siblings_nothing(opened: Opener, url: str) -> None:
    """Four processes under load; one is killed, and recovered while the others go on."""
    watching = await opened(clock=time.time)
    with worker("load", url) as victim, worker("load", url) as a, worker("load", url) as b, worker("load", url) as c:
        said = {p.pid: [p.stdout.readline()] for p in (victim, a, b, c) if p.stdout is not None}
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        await watching.recover()
        during = states(watching)
        for sibling in (a, b, c):
            assert sibling.stdout is not None
            said[sibling.pid] += [sibling.stdout.readline() for _ in range(40)]
        for process in (victim, a, b, c):
            said[process.pid] += rest(process)
        assert [p.returncode for p in (victim, a, b, c)] == [-signal.SIGKILL, 0, 0, 0]
    gone = str(victim.pid)
    assert all(row.call_id.startswith(gone) for row in during.get("unsettled", []))
    after = states(watching)
    assert "intent" not in after
    assert all(row.call_id.startswith(gone) for row in after.get("unsettled", []))
    sent = {line.split()[1] for lines in said.values() for line in lines if line.startswith("sent ")}
    got = {line.split()[1] for lines in said.values() for line in lines if line.startswith("got ")}
    assert sent <= {row.call_id for rows in after.values() for row in rows}, "a call that left is not in the ledger"
    assert got <= {row.call_id for row in after["settled"]}, "a settlement that was reported is lost"
    budget = budget_of(watching, DAY)
    assert budget is not None
    assert budget.reserved == usd(0)
    assert budget.spent == usd(4 * len(after["settled"]) + 10 * len(after.get("unsettled", [])))


async def test_a_lease_that_ran_out_is_recovered_once(opened: Opener, clock: Clock) -> None:
    theirs = await opened(lease_s=30.0)
    first, second = await opened(), await opened()
    await theirs.intend(intent("k1", budgets=(line(100),)))
    assert await first.recover() == Recovered(owners=0, calls=0)
    clock.now += 31
    found = await asyncio.gather(first.recover(), second.recover())
    assert sorted(found, key=lambda one: one.calls) == [Recovered(owners=0, calls=0), Recovered(owners=1, calls=1)]
    budget = budget_of(first, DAY)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (usd(10), usd(0))


async def test_what_a_recovered_owner_still_learns_replaces_the_guess(opened: Opener, clock: Clock) -> None:
    """A process that was only suspended comes back with its answer: the ledger takes the truth, once."""
    theirs, ours = await opened(lease_s=30.0), await opened()
    await theirs.intend(intent("k1", budgets=(line(100),)))
    clock.now += 31
    await ours.recover()
    for _ in range(2):
        await theirs.settle(settlement("k1", cost=usd(4)))
    (known,) = calls_of(ours, "r1")
    assert (known.state, known.cost, known.error) == ("settled", usd(4), None)
    budget = budget_of(ours, DAY)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (usd(4), usd(0))


async def test_an_owner_taken_for_dead_is_recovered_again_after_it_returned(opened: Opener, clock: Clock) -> None:
    theirs, ours = await opened(lease_s=30.0), await opened()
    clock.now += 31
    assert (await ours.recover()).owners == 1
    await theirs._writer.submit(pulse, None)
    await theirs.intend(intent("k1"))
    assert await ours.recover() == Recovered(owners=0, calls=0)
    clock.now += 31
    assert await ours.recover() == Recovered(owners=1, calls=1)


async def test_an_owner_that_asked_after_its_recovery_and_then_died_is_recovered_again(
    opened: Opener, clock: Clock
) -> None:
    theirs, ours = await opened(lease_s=30.0), await opened()
    clock.now += 31
    assert (await ours.recover()).owners == 1
    await theirs.intend(intent("k1", budgets=(line(100),)))
    assert await ours.recover() == Recovered(owners=1, calls=1)
    assert await ours.recover() == Recovered(owners=0, calls=0)
    budget = budget_of(ours, DAY)
    assert budget is not None
    assert (budget.spent, budget.reserved) == (usd(10), usd(0))


async def test_the_open_calls_of_an_owner_without_a_row_are_settled(opened: Opener) -> None:
    theirs, ours = await opened(), await opened()
    await theirs.intend(intent("k1"))
    with ours._writing.begin() as connection:
        connection.execute(owner.delete().where(owner.c.owner_id == theirs.owner_id))
    assert await ours.recover() == Recovered(owners=1, calls=1)
    assert list(states(ours)) == ["unsettled"]


async def test_a_call_given_up_and_then_forgotten_is_still_settled_by_its_owner(opened: Opener, clock: Clock) -> None:
    theirs, ours = await opened(lease_s=30.0), await opened()
    await theirs.claim([claim("r1")])
    await theirs.intend(intent("k1", budgets=(line(100),)))
    clock.now += 31
    await ours.recover()
    assert (await ours.forget(run_ids=["r1"])).runs == 1
    await theirs.settle(settlement("k1", cost=usd(4)))
    (known,) = calls_of(ours, "r1")
    assert (known.state, known.cost) == ("settled", usd(4))
    budget = budget_of(ours, DAY)
    assert budget is not None
    assert budget.spent == usd(4)


async def test_a_price_is_queued_before_the_call_it_priced(opened: Opener) -> None:
    """A group of the writer may end between the two: a process that dies then leaves no call without its price."""
    store = await opened()
    await store.intend(intent("k1"))
    submit, queued = store._writer.submit, []
    store._writer.submit = lambda flow, payload: (queued.append(flow.__name__), submit(flow, payload))[1]  # type: ignore
    await store.settle(
        settlement("k1", price_version="v"), PriceRecord(version="v", model="m", body_json="{}", created_at=1.0)
    )
    assert queued == ["record_price", "settle"]


async def test_a_process_id_used_again_is_another_process(opened: Opener, url: str) -> None:
    theirs, ours = await opened(), await opened()
    await theirs.intend(intent("k1"))
    assert (await ours.recover()).owners == 0, "this process is alive"
    _rewrite(ours, theirs, process_started="of an earlier process")
    assert await ours.recover() == Recovered(owners=1, calls=1)


async def test_a_process_id_means_nothing_on_another_host(opened: Opener) -> None:
    theirs, ours = await opened(), await opened()
    await theirs.intend(intent("k1"))
    _rewrite(ours, theirs, process_started="of an earlier process", host="elsewhere")
    assert (await ours.recover()).owners == 0, "its lease has not run out"


def _rewrite(store: Store, of: Store, **values: Any) -> None:
    with store._writing.begin() as connection:
        connection.execute(update(owner).where(owner.c.owner_id == of.owner_id).values(values))


async def test_the_lease_is_renewed_while_the_event_loop_is_blocked(opened: Opener) -> None:
    store = await opened(lease_s=0.3, clock=time.time)
    until = select(owner.c.lease_until).where(owner.c.owner_id == store.owner_id)

    def lease() -> float:
        with store.read() as connection:
            return float(connection.execute(until).scalar_one())

    first, give_up = lease(), time.monotonic() + 120
    while lease() == first:  # the loop runs nothing else meanwhile
        assert time.monotonic() < give_up, "the lease was not renewed"


async def test_closing_leaves_no_open_call_and_of_the_owner_only_the_head_of_its_chain(
    opened: Opener, url: str, clock: Clock
) -> None:
    watching, nothing_sealed = await opened(), await Store.open(url, clock=clock)
    store = await Store.open(url, clock=clock)
    await store.intend(intent("k1", budgets=(line(100),)))
    await store.aclose()
    await nothing_sealed.aclose()
    assert [c.state for c in calls_of(watching, "r1")] == ["unsettled"]
    with watching.read() as connection:
        left = {row.owner_id: row for row in connection.execute(select(owner))}
    assert set(left) == {watching.owner_id, store.owner_id}
    assert (left[store.owner_id].sealed, left[store.owner_id].recovered_at) == (1, clock.now)
    assert (await watching.recover()).owners == 0


def test_a_process_has_a_start_and_a_zombie_has_none() -> None:
    mine = process_started(os.getpid())
    assert mine is not None
    assert process_started(os.getpid()) == mine
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()  # ends when it does; it is not waited for, and so a zombie
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_started(child.pid) is None
    child.wait()
    child.stdout.close()
    assert process_started(child.pid) is None
    assert host() == host()
