"""The chain of each writer: who seals what, over SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from orchestrator.errors import InputError, StoreError
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.closing.reported import reported
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.verify.ledger import Verified
from orchestrator.finance.verify.ledger import verify as verified
from orchestrator.store import seals
from orchestrator.store.close_tables import Superseded
from orchestrator.store.engine import Store
from orchestrator.store.entries import SpotCheckEntry, StepEntry
from orchestrator.store.own_tables import Owner
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow, Feedback, OutcomeRow
from tests.stores import Clock, Opener, claim, config, ended, intent, run_to_the_end, settlement, usd
from tests.trail import at

call, outcome, feedback, owner = table(CallRow), table(OutcomeRow), table(Feedback), table(Owner)


async def verify(store: Store) -> Verified:
    """Without what these calls, priced by no book, are found for."""
    done = await asyncio.to_thread(verified, store, Period(), now=10.0)
    done.findings.kept = [one for one in done.findings.kept if one.kind != "cost"]
    return done


def read(store: Store, wanted: Any) -> list[Any]:
    with store.read() as connection:
        return list(connection.execute(wanted))


async def test_a_link_is_what_the_documentation_says(store: Store) -> None:
    await run_to_the_end(store)
    (row,) = read(store, select(call))
    values = [getattr(row, name) for name in seals.FIELDS["call"]]
    while values[-1] is None:
        values.pop()
    body = orjson.dumps(["call", store.owner_id, 1, *values])
    assert bytes(row.seal) == seals.link(seals.genesis(store.owner_id), body)
    assert (row.sealed_by, row.seal_no) == (None, 1)


async def test_calls_outcomes_and_feedback_stand_in_one_chain(store: Store) -> None:
    await store.record_config(config())
    await run_to_the_end(store)
    await store.record_feedback("r1", success=False, reason="blue was wrong")
    numbers = [read(store, select(rows.c.seal_no))[0][0] for rows in (call, outcome, feedback)]
    assert numbers == [1, 2, 3]
    (head,) = read(store, select(owner.c.sealed, owner.c.seal))
    assert (head.sealed, bytes(head.seal)) == (3, bytes(read(store, select(feedback.c.seal))[0][0]))
    assert (await verify(store)).findings.kept == []


async def test_a_group_in_one_commit_is_as_whole_as_one_by_one(store: Store) -> None:
    await store.record_config(config())
    runs = [f"r{i}" for i in range(300)]
    await store.claim([claim(run) for run in runs])
    await asyncio.gather(*(store.intend(intent(f"k of {run}", run)) for run in runs))
    await asyncio.gather(*(store.settle(settlement(f"k of {run}")) for run in runs))
    await store.finish([ended(run, spot_checks=(SpotCheckEntry(step="extract", propensity=1),)) for run in runs])
    done = await verify(store)
    assert (done.sealed, done.findings.kept) == (600, [])


async def test_a_lost_call_is_sealed_by_the_writer_that_recovers_it(opened: Opener, clock: Clock) -> None:
    dead = await opened(lease_s=1.0)
    await dead.intend(intent("k1"))
    clock.now += 100
    living = await opened()
    (row,) = read(living, select(call))
    assert (row.state, row.owner_id, row.sealed_by) == ("unsettled", dead.owner_id, living.owner_id)
    assert (await verify(living)).findings.kept == []


async def test_an_owner_that_comes_back_seals_anew_and_both_chains_stay_whole(opened: Opener, clock: Clock) -> None:
    late = await opened(lease_s=1.0)
    await late.record_config(config())
    await late.claim([claim("r1")])
    await late.intend(intent("k1"))
    clock.now += 100
    other = await opened()
    await run_to_the_end(other, "r2")
    await late.settle(settlement("k1", ended_at=clock.now))
    (row,) = read(other, select(call).where(call.c.call_id == "k1"))
    assert (row.state, row.sealed_by, row.seal_no) == ("settled", None, 1)
    (kept,) = read(other, select(table(Superseded)))
    assert (kept.sealed_by, kept.seal_no, kept.row_id) == (other.owner_id, 1, "k1")
    assert (await verify(other)).findings.kept == []


async def test_a_call_that_was_sealed_anew_and_then_removed_is_missed_twice(opened: Opener, clock: Clock) -> None:
    late = await opened(lease_s=1.0)
    await late.intend(intent("k1"))
    clock.now += 100
    other = await opened()
    await late.settle(settlement("k1", ended_at=clock.now))
    with other._writing.begin() as connection:
        connection.execute(call.delete())
    kinds = [(one.kind, one.row) for one in (await verify(other)).findings.kept]
    assert kinds == [("removed", None), ("removed", "k1")]


async def test_a_writer_that_leaves_keeps_its_head_and_is_lapsed(opened: Opener, url: str, clock: Clock) -> None:
    gone = await Store.open(url, clock=clock)
    await gone.record_config(config())
    await run_to_the_end(gone)
    await gone.claim([claim("r2")])
    await gone.aclose()
    store = await opened()
    (head,) = read(store, select(owner).where(owner.c.owner_id == gone.owner_id))
    assert head.sealed == 2
    (taken,) = await store.claim([claim("r9", task_key="key of r2")])
    assert (taken.kind, taken.run_id) == ("resumed", "r2")
    assert (await verify(store)).findings.kept == []


async def test_what_a_database_gives_back_otherwise_than_it_was_given_breaks_no_seal(store: Store) -> None:
    """SQLite keeps no negative zero, and times that are whole numbers come back as floats."""
    await store.record_config(config())
    await store.claim([claim("r1")])
    await store.intend(intent("k1"))
    await store.settle(settlement("k1", ended_at=5, latency_ms=-0.0))
    step = StepEntry(step="extract", status="accepted", confidence=-0.0, threshold=-1, propensity=1)
    await store.finish([ended("r1", ended_at=6, steps=(step,))])
    assert (await verify(store)).findings.kept == []


async def test_a_failed_group_leaves_no_gap(store: Store) -> None:
    await store.record_config(config())
    await store.claim([claim("r1"), claim("r2")])
    with pytest.raises(StoreError):
        await store.finish([ended("r1"), ended("r2", ended_at=object())])
    await store.finish([ended("r1")])
    assert read(store, select(outcome.c.seal_no)) == [(1,)]
    assert (await verify(store)).findings.kept == []


async def test_a_group_that_fails_once_it_is_sealed_moves_no_head(store: Store) -> None:
    await store.record_config(config())
    await store.claim([claim("r1"), claim("r2")])
    await store.finish([ended("r1")])
    with pytest.raises(StoreError):  # content is written after the outcome and its seal
        await store.finish([ended("r2", contents=(("value", object()),))])
    await store.finish([ended("r2")])
    assert read(store, select(outcome.c.seal_no).order_by(outcome.c.run_id)) == [(1,), (2,)]
    assert (await verify(store)).findings.kept == []


async def test_a_month_is_closed_and_verified_on_either_database(opened: Opener, clock: Clock) -> None:
    clock.now = at("2026-10-05T12:00")
    store = await opened()
    await store.record_config(config())
    for run in ("r1", "r2"):
        await store.claim([claim(run)])
        await store.intend(intent(f"k of {run}", run))
        await store.settle(settlement(f"k of {run}", ended_at=clock.now, provenance="provider"))
        await store.finish([ended(run, ended_at=clock.now, cost=usd(4))])
    clock.now = at("2026-11-02T00:00")
    month = await close_month(store, "2026-10", now=clock.now)
    clock.now += 60
    await store.record_feedback("r1", success=True, at=at("2026-10-06T00:00"))
    query = ReportQuery(period=parse_period(month="2026-11"))
    (one,) = reported(store, query, now=clock.now)[0].restatements
    assert (one.then.successes, one.now.successes, one.late) == (0, 1, 1)
    frozen, _ = reported(store, ReportQuery(period=parse_period(month="2026-10")), now=clock.now)
    assert frozen.lines[0].successes == 0
    done = await verify(store)
    assert (done.closes, done.findings.kept) == (("2026-10",), [])
    with pytest.raises(InputError, match="is closed already"):
        await store.close_month(month, {})
