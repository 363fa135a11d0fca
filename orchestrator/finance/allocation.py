"""What hours of rented GPUs cost, idle time included: each line's share, and what no call bore."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from orchestrator.finance.hours import hours_of
from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.store.allocations import NOBODY, allocated, rented, split
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import AMOUNTS, Key, Lines, Place, line, line_key

__all__ = ["IdleLine", "Share", "idle_lines", "read_shares", "split"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleLine:
    """A closed hour without work: the whole bill, in billionths. `at` is its start (UTC epoch seconds)."""

    at: float
    model: str
    price_version: str
    currency: str
    nano: int


@dataclass(frozen=True, slots=True)
class Share:
    """Billionths of the bills of closed hours, and the usage cost of the `pending` calls, whose hours have not closed.
    The `late` calls were settled after their hour had closed and bear nothing."""

    nano: int
    late: int = 0
    pending: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.nano + other.nano, self.late + other.late, self.pending + other.pending)


def idle_lines(connection: Connection, period: Period) -> list[IdleLine]:
    """In order of time. An hour's bill belongs to the period that the hour starts in."""
    rows = connection.execute(
        select(allocated).where(allocated.c.key_id == NOBODY, allocated.c.nano != 0,
                                within(allocated.c.hour * HOUR_S, period))
        .order_by(allocated.c.hour, allocated.c.model)
    )
    return [
        IdleLine(at=float(row.hour * HOUR_S), model=row.model, price_version=row.price_version,
                 currency=row.currency, nano=int(row.nano))
        for row in rows
    ]


def read_shares(connection: Connection, period: Period, cut: Lines) -> dict[Place, Share]:
    """Of every line of a rented GPU, by hour and key. `cut` holds the lines of hours that an edge of the period cuts,
    of the calls in the period: they bear of a closed hour's bill only where the hour starts in the period."""
    entries = rented(connection)
    if not entries:
        return {}
    models: dict[str, list[str]] = {}
    for version, entry in entries.items():
        models.setdefault(entry.model, []).append(version)
    cut_hours, shares = hours_of(period).cut, dict[Place, Share]()
    for model, versions in models.items():
        alike: dict[int, list[Any]] = {}
        for row in connection.execute(_of_model(model, versions, period)):
            alike.setdefault(row.hour, []).append(row)
        for hour, rows in alike.items():
            if rows[0].marked is not None:
                shares.update(_closed(rows))
            elif hour not in cut_hours:
                shares.update({_place(row): Share(int(row.cost), pending=int(row.calls)) for row in rows})
    closed = _closed_among(connection, cut_hours)
    for (hour, key), amounts in cut.items():
        if key.price_version in entries and (hour, key) not in shares:
            sums = dict(zip(AMOUNTS, amounts, strict=True))
            usage = Share(sums["cost_nano"], pending=sums["calls"])
            shares[hour, key] = Share(0) if (hour, entries[key.price_version].model) in closed else usage
    return shares


def _closed(rows: Sequence[Any]) -> Mapping[Place, Share]:
    """The lines of a closed hour. Calls that went to another line since, with their run's configuration, have left
    their share behind: they are not late."""
    more = [int(row.calls - row.in_time) for row in rows]
    moved = -sum(n for n in more if n < 0)
    found: dict[Place, Share] = {}
    for row, n in zip(rows, more, strict=True):
        late = max(n, 0)
        left = min(late, moved)
        moved -= left
        found[_place(row)] = Share(int(row.nano), late - left)
    return found


def _place(row: Any) -> Place:
    return row.hour, Key(*(getattr(row, name) for name in Key._fields))


def _closed_among(connection: Connection, hours: Collection[int]) -> set[tuple[int, str]]:
    rows = connection.execute(
        select(allocated.c.hour, allocated.c.model).where(allocated.c.key_id == NOBODY, allocated.c.hour.in_(hours))
    ) if hours else ()
    return {(row.hour, row.model) for row in rows}


def _of_model(model: str, versions: Sequence[str], period: Period) -> Select[Any]:
    """Its lines, each with its share, and whether the hour has closed."""
    mark, share = allocated.alias("mark"), allocated.alias("share")
    within_it = within(line.c.hour * HOUR_S, period)
    sums = (
        select(line.c.hour, line.c.key_id, func.sum(line.c.calls).label("calls"),
               func.sum(line.c.cost_nano).label("cost"))
        .join(line_key, line_key.c.key_id == line.c.key_id)
        .where(line_key.c.price_version.in_(versions), within_it)
        .group_by(line.c.hour, line.c.key_id).subquery("sums")
    )
    return (
        select(sums.c.hour, sums.c.calls, sums.c.cost, mark.c.hour.label("marked"),
               func.coalesce(share.c.nano, 0).label("nano"), func.coalesce(share.c.calls, 0).label("in_time"), line_key)
        .select_from(
            sums.join(line_key, line_key.c.key_id == sums.c.key_id)
            .outerjoin(mark, and_(mark.c.hour == sums.c.hour, mark.c.model == model, mark.c.key_id == NOBODY))
            .outerjoin(share, and_(
                share.c.hour == sums.c.hour, share.c.model == model, share.c.key_id == sums.c.key_id
            ))
        ).order_by(sums.c.hour, sums.c.key_id)
    )
