"""What reports are read from is the sum of the rows it stands for, whatever was learned and when."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from orchestrator.finance.breakdown import Charge
from orchestrator.finance.charges import read_charges
from orchestrator.finance.configured import fitted_steps, read_configs
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.report import _windows
from orchestrator.finance.run_cells import restated, saved_in_cells, sums_of_cells
from orchestrator.finance.run_days import count_days
from orchestrator.finance.run_rows import Asked, Kinds, RunSums, sums_of_rows
from orchestrator.finance.scope import Group, within
from orchestrator.finance.verify.ledger import verify
from orchestrator.store import cells, line_rows, lines
from orchestrator.store.cells import uncounted
from orchestrator.store.engine import Store
from orchestrator.store.lines import AMOUNTS
from orchestrator.store.statements import Transaction
from tests.lived_ledgers import START, Life
from tests.stores import Clock, Opener, claim, config, ended, intent, run_to_the_end, settlement, usd

PERIODS = (
    Period(),
    parse_period(since="2026-11-01T03:00", until="2026-11-01T20:00"),
    parse_period(since="2026-11-01T03:17", until="2026-11-01T20:41:30"),
    parse_period(since="2026-11-01T09:10", until="2026-11-01T09:50"),
    parse_period(since="2026-11-01", until="2026-11-02", tz="Asia/Kathmandu"),
    parse_period(since="2026-11-03"),
)


@pytest.mark.parametrize("seed", range(4))
async def test_a_report_by_cells_is_the_report_by_rows(opened: Opener, clock: Clock, seed: int) -> None:
    clock.now = START
    store, random = await opened(), Random(seed)
    life = Life(store, clock, random)
    await life.begin()
    await life.live(400)
    for counted in (False, True):
        if counted:
            await store.count_runs()
        with store.read() as connection:
            waiting = connection.execute(select(func.count()).select_from(uncounted)).scalar_one()
            assert (waiting == 0) is counted
            configs = read_configs(connection, None)
            for period in PERIODS:
                for currency in ("USD", "EUR"):
                    by = random.choice([(), ("team",), ("version", "tenant", "team")])
                    query = ReportQuery(by=by, period=period)
                    asked = Asked(currency=currency, windows=_windows(configs), fitted=fitted_steps(configs),
                                  now=clock.now)
                    found = sums_of_cells(connection, query, asked)
                    expected = sums_of_rows(connection, query, asked)
                    assert_same(found, expected)
                    as_of = START + 86_400 * random.random()
                    then = restated(connection, query, asked, found, as_of)
                    assert_same(then, sums_of_rows(connection, query, asked, as_of=as_of), powers=False)
                    assert sum(day.runs for day in count_days(connection, query)) == _runs(expected)
                    saved = sum(n for (_, code), n in saved_in_cells(connection, query).items() if code == currency)
                    assert saved == sum(s.saved for s in expected.values())


def _runs(kinds: Kinds) -> int:
    return sum(sums.runs for sums in kinds.values())


def assert_same(found: Kinds, expected: Kinds, *, powers: bool = True) -> None:
    assert {kind: s.runs for kind, s in found.items()} == {kind: s.runs for kind, s in expected.items()}
    for kind, sums in found.items():
        other = expected[kind]
        for name in RunSums.__slots__:
            a, b = getattr(sums, name), getattr(other, name)
            if isinstance(b, float):
                assert not powers or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9), (name, a, b)
            elif name != "bound":
                assert a == b, (name, kind)
    assert _bounds(found) == _bounds(expected)


def _bounds(kinds: Kinds) -> dict[Group, int | None]:
    """The largest of each group, as reports use it: one stays behind in the cell that its run has left."""
    groups: dict[Group, list[RunSums]] = {}
    for kind, sums in kinds.items():
        groups.setdefault(kind.group, []).append(sums)
    return {
        group: None if any(s.unbounded for s in members) else max(s.bound for s in members)
        for group, members in groups.items()
    }


@pytest.mark.parametrize("seed", range(3))
async def test_lines_are_the_sums_of_their_calls(opened: Opener, clock: Clock, seed: int) -> None:
    clock.now = START
    store = await opened()
    life = Life(store, clock, Random(seed))
    await life.begin()
    await life.live(300)
    with store.read() as connection:
        for period in PERIODS:
            rows = line_rows.of_rows(
                connection, within(func.coalesce(lines.call.c.ended_at, lines.call.c.started_at), period)
            )
            for grain in ("day", "period"):
                found = read_charges(connection, period=period, grain=grain)
                assert len({_names(one) for one in found}) == len(found)
                for i, name in enumerate(AMOUNTS):
                    total = sum(amounts[i] for amounts in rows.values())
                    if name in ("calls", "unpriced", "unbounded"):
                        assert sum(getattr(one, name) for one in found) == total, name
                    elif name in ("cost_nano", "bound_nano"):
                        known = (getattr(one, name.removesuffix("_nano")) for one in found)
                        assert sum(money.nano for money in known if money) == total, name
                    elif name.endswith("_tokens"):
                        assert sum(one.tokens.get(name.removesuffix("_tokens"), 0) for one in found) == total, name


def _names(one: Charge) -> tuple[object, ...]:
    return tuple(str(value) for value in astuple(one)[:18])


def _called(store: Store, **asked: Any) -> list[Charge]:
    with store.read() as connection:
        return read_charges(connection, period=Period(), **asked)


async def test_a_call_that_recovery_gave_up_and_its_owner_then_settled_counts_once(opened: Opener) -> None:
    clock = Clock(START)
    slow = await opened(clock=clock, lease_s=30.0)
    await slow.record_config(config())
    await slow.claim([claim("r1")])
    await slow.intend(intent("k1", "r1", bound=usd(10)))
    clock.now += 3600
    other = await opened(clock=clock)
    await other.recover()
    assert [(c.state, c.calls, c.bound, c.cost) for c in _called(other)] == [("unsettled", 1, usd(10), None)]
    clock.now += 3600
    await slow.settle(settlement("k1", ended_at=clock.now))
    assert [(c.state, c.calls, c.bound, c.cost) for c in _called(other)] == [("settled", 1, None, usd(4))]


async def test_a_run_resumed_under_another_configuration_takes_its_calls_along(store: Store) -> None:
    await store.record_config(config("c1"))
    await store.record_config(replace(config("c2"), version="2"))
    await store.claim([claim("r1")])
    await store.intend(intent("k1", "r1"))
    await store.settle(settlement("k1"))
    (resumed,) = await store.claim([claim("r1", config_id="c2")])
    assert resumed.kind == "resumed"
    assert [(one.version, one.calls, one.cost) for one in _called(store)] == [("2", 1, usd(4))]


async def test_a_run_resumed_with_other_tags_takes_its_calls_along(store: Store, clock: Clock) -> None:
    await store.record_config(config())
    await store.record_config(config("c2"))
    await store.claim([claim("r1", tags={"desk": "b"})])
    await store.intend(intent("k1", "r1"))
    await store.settle(settlement("k1", provenance="provider"))
    for config_id, tags in (("c2", {"team": "a"}), ("c2", {"team": "b"})):
        await store.claim([claim("r1", config_id=config_id, tags=tags)])
        assert [(one.tags, one.calls, one.cost) for one in _called(store)] == [(tags, 1, usd(4))]
    await store.finish([ended("r1", config_id="c2", tags={"team": "b"})])
    assert list(verify(store, Period(), now=clock.now + 10).findings.kept) == []


async def test_a_run_does_not_end_while_a_call_of_it_is_counted(postgres_url: str, clock: Clock) -> None:
    store, other = [await Store.open(postgres_url, clock=clock) for _ in range(2)]
    await store.record_config(config())
    await store.claim([claim("r1")])
    await store.intend(intent("k1", "r1"))
    with store._writing.connect() as counting, counting.begin():
        transaction = Transaction(connection=counting, owner_id=store.owner_id, now=clock.now, lease_s=30.0)
        row = counting.execute(select(lines.call)).one()
        lines.count(transaction, [(settlement("k1"), row)])
        with other._writing.connect() as ending, ending.begin(), pytest.raises(OperationalError, match="lock"):
            ending.execute(select(lines.run).with_for_update(nowait=True)).all()
    await other.aclose()
    await store.aclose()


async def test_costs_by_class_are_those_the_call_was_settled_with(store: Store) -> None:
    await store.record_config(config())
    await store.claim([claim("r1")])
    for name, costs in (("k1", (1, 0, 0, 0, 0, 3, 0, 0)), ("k2", (2, 0, 0, 0, 0, 2, 0, 0)), ("k3", None)):
        await store.intend(intent(name, "r1", step=name if costs is None else "both"))
        await store.settle(settlement(name, costs=costs))
    found = {one.step: one.costs for one in _called(store)}
    assert found["both"] == {"input": usd(3), "output": usd(5)}
    assert found["k3"] is None


async def test_runs_are_counted_as_they_end_once_there_are_enough(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr(cells, "CHUNK", 3)
    monkeypatch.setattr(cells, "LOOK_EVERY", 1)
    await store.record_config(config())
    for i in range(5):
        await run_to_the_end(store, f"r{i}")
    with store.read() as connection:
        assert connection.execute(select(func.sum(cells.run_cell.c.runs))).scalar_one() >= 3
        assert connection.execute(select(func.count()).select_from(uncounted)).scalar_one() < 3
    assert await store.count_runs() > 0
    assert await store.count_runs() == 0


async def test_the_sums_of_a_ledger_can_be_made_again_from_its_rows(opened: Opener, clock: Clock) -> None:
    clock.now = START
    store = await opened()
    life = Life(store, clock, Random(9))
    await life.begin()
    await life.live(200)
    before = _called(store)
    with store._writing.begin() as connection:
        line_rows.rebuild(connection)
    rebuilt = _called(store)
    assert [replace(one, costs=None) for one in rebuilt] == [replace(one, costs=None) for one in before]
    assert await store.count_runs() == len(life.ended)
