"""What hours of rented GPUs cost, idle time included: each line's share, and what no call bore."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from orchestrator.finance.breakdown import Idle
from orchestrator.finance.convert import utc_day
from orchestrator.finance.hours import hours_of
from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.records import Money
from orchestrator.store.allocations import NOBODY, allocated, rented
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import AMOUNTS, CallKey, LinePlace, Lines, line, line_key


@dataclass(frozen=True, slots=True)
class Share:
    """Billionths of the bills of closed hours, and the usage cost of the `pending` calls, whose hours have not closed.
    The `late` calls were settled after their hour had closed and bear nothing."""

    nano: int
    late: int = 0
    pending: int = 0

def read_idle(connection: Connection, period: Period) -> tuple[Idle, ...]:
    """The bills of closed hours without work, by the day. An hour's bill belongs to the period that it starts in."""
    c = allocated.c
    of = ((c.hour - c.hour % 24).label("start"), c.model, c.price_version, c.currency)
    rows = connection.execute(
        select(*of, func.sum(c.nano)).where(c.key_id == NOBODY, c.nano != 0, within(c.hour * HOUR_S, period))
        .group_by("start", *of[1:])
    )
    return tuple(
        Idle(day=utc_day(start * HOUR_S), model=model, price_version=version,
             cost=Money(nano=int(nano), currency=currency))
        for start, model, version, currency, nano in sorted(rows)
    )


def read_shares(connection: Connection, period: Period, cut: Lines) -> dict[LinePlace, Share]:
    """Of every line of a rented GPU, by hour and key. `cut` holds the lines of hours that an edge of the period cuts,
    of the calls in the period: they bear of a closed hour's bill only where the hour starts in the period."""
    entries = rented(connection)
    if not entries:
        return {}
    models: dict[str, list[str]] = {}
    for version, entry in entries.items():
        models.setdefault(entry.model, []).append(version)
    cut_hours, shares = hours_of(period).cut, dict[LinePlace, Share]()
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


def _closed(rows: Sequence[Any]) -> Mapping[LinePlace, Share]:
    """The lines of a closed hour. Calls that went to another line since, with their run's configuration, have left
    their share behind: they are not late."""
    more = [int(row.calls - row.in_time) for row in rows]
    moved = -sum(n for n in more if n < 0)
    found: dict[LinePlace, Share] = {}
    for row, n in zip(rows, more, strict=True):
        late = max(n, 0)
        left = min(late, moved)
        moved -= left
        found[_place(row)] = Share(int(row.nano), late - left)
    return found


def _place(row: Any) -> LinePlace:
    return row.hour, CallKey(*(getattr(row, name) for name in CallKey._fields))


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
