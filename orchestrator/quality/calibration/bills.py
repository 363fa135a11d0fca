"""What drafts and answers cost, by the calls in the ledger: the same figure when they are made, when a kill cut their
making in two, and when they are read back.

**A call that was cut off leaves no sum unknown, and never counts as nothing.** What it cost nobody knows, only what it
can have cost at most; where such calls are few, each counts as the mean of others like it. Many of them are no
accident, and those that a time limit cut off may be the dearest: then the cost stays unknown.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.quality.calibration.evidence import Known, Place
from orchestrator.records import Money
from orchestrator.store.calls import money
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import CallRow, OutcomeRow

FEW = 0.05
"""Of calls that are alike, the share that may be cut off: with more of them the others speak for none."""
_DRAFTING = ("draft", "sample")
_call, _outcome = table(CallRow), table(OutcomeRow)


@dataclass(frozen=True, slots=True)
class Bills:
    """What each run cost, by its id, without a cache: None is unknown, or nothing was asked. `notes` say what counts as
    the mean of others."""

    costs: Mapping[str, Money | None]
    notes: tuple[str, ...] = ()


async def bills(place: Place, run_ids: Iterable[str]) -> Bills:
    """Of runs that a calibration made: all that they asked, in every step."""
    return await asyncio.to_thread(_read, place, [run_id for run_id in run_ids if run_id])


async def with_cut_off(
    place: Place, known: Sequence[Known], validations: AbstractSet[str]
) -> tuple[tuple[Known, ...], tuple[str, ...]]:
    """(recorded drafts with what they and their validations cost, what is to be said of it). Of the `validations` of
    these runs a call was cut off."""
    notes: list[str] = []
    if any(one.draft_cost is None for one in known):
        drafts = await asyncio.to_thread(_read, place, [one.run for one in known], _DRAFTING)
        known = [one if one.draft_cost is not None else replace(one, draft_cost=drafts.costs[one.run]) for one in known]
        notes.extend(drafts.notes)
    paid = [one.validator_cost for one in known if one.validator_cost is not None]
    cut = sum(one.run in validations for one in known)
    always = _sum(paid)
    if cut and always is not None and cut <= FEW * (len(paid) + cut):
        mean = replace(always, nano=round(always.nano / len(paid)))
        known = [replace(one, validator_cost=mean) if one.run in validations else one for one in known]
        notes.append(
            f"{cut} validation{'' if cut == 1 else 's'} had a call that was cut off before its answer came: the price "
            "of always validating takes the mean of the others there"
        )
    return tuple(known), tuple(notes)


# -- calls -------------------------------------------------------------------------------------------------------------


def _read(place: Place, run_ids: Sequence[str], roles: Collection[str] = ()) -> Bills:
    """All that the runs asked; with `roles`, what the step asked in these alone, and nothing that a cache saved."""
    with place.store.read() as connection:
        calls = _calls(connection, run_ids)
        saved = {} if roles else _saved(connection, run_ids)
    if roles:
        calls = [row for row in calls if row.step == place.step.config.id and row.role in roles]
    means, bounds = _means(calls), list[Money]()
    amounts: dict[str, list[Money | None]] = {run_id: [] for run_id in run_ids}
    for row in calls:
        cost = money(row.cost_nano, row.currency)
        if cost is None and _is_cut_off(row) and (cost := means.get(_kind(row))) is not None:
            bounds.append(Money(nano=row.bound_nano, currency=row.bound_currency))
        amounts[row.run_id].append(cost)
    for run_id, amount in saved.items():
        amounts[run_id].append(amount)
    return Bills({run_id: _sum(found) for run_id, found in amounts.items()}, _told(bounds))


def _means(calls: Sequence[Any]) -> Mapping[tuple[str, ...], Money]:
    """The mean cost of calls that are alike, where few of them were cut off."""
    paid: dict[tuple[str, ...], list[int]] = defaultdict(list)
    cut: dict[tuple[str, ...], int] = defaultdict(int)
    for row in calls:
        cut[_kind(row)] += _is_cut_off(row)
        if row.cost_nano:
            paid[_kind(row)].append(row.cost_nano)
    return {
        kind: Money(nano=round(sum(costs) / len(costs)), currency=kind[-1])
        for kind, costs in paid.items() if cut[kind] <= FEW * (len(costs) + cut[kind])
    }


def _kind(row: Any) -> tuple[str, ...]:
    """What makes calls alike: a mean of drafts says nothing of verdicts."""
    return row.step, row.role, row.currency or row.bound_currency or ""


def _is_cut_off(row: Any) -> bool:
    """Sent, perhaps billed, and never answered. One that was answered and has no price is another matter."""
    return row.cost_nano is None and row.bound_nano is not None and row.state != "settled"


def _sum(amounts: Sequence[Money | None]) -> Money | None:
    known = [one for one in amounts if one is not None]
    currencies = {one.currency for one in known if one.nano} or {one.currency for one in known}
    if len(known) < len(amounts) or len(currencies) != 1:
        return None
    return Money(nano=sum(one.nano for one in known), currency=currencies.pop())


def _told(bounds: Sequence[Money]) -> tuple[str, ...]:
    most = _sum(bounds)
    if most is None:
        return ()
    if len(bounds) == 1:
        return (f"1 call was cut off before its answer came ({most} at most): it counts as the mean of others like it",)
    return (
        f"{len(bounds)} calls were cut off before their answers came ({most} at most in all): each counts as the mean "
        "of others like it",
    )


def _calls(connection: Connection, run_ids: Sequence[str]) -> list[Any]:
    c = _call.c
    query = select(
        c.run_id, c.step, c.role, c.state, c.cost_nano, c.currency, c.bound_nano, c.bound_currency
    ).where(among(c.run_id))
    return [row for some in chunks(run_ids) for row in connection.execute(query, {"among": some})]


def _saved(connection: Connection, run_ids: Sequence[str]) -> dict[str, Money]:
    """What answers out of a cache would have cost."""
    o = _outcome.c
    query = select(o.run_id, o.saved_nano, o.saved_currency).where(among(o.run_id), o.saved_nano > 0)
    return {
        row.run_id: Money(nano=row.saved_nano, currency=row.saved_currency)
        for some in chunks(run_ids) for row in connection.execute(query, {"among": some})
    }
