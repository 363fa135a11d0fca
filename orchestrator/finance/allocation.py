"""What closed hours of rented GPUs cost, idle time included: each line's share, and what no call bore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select

from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.store.allocations import NOBODY, allocated, rented, split
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import Key, Place, line, line_key

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
    """Of the bills of closed hours: billionths, and the `late` calls, which were settled after their hour had closed
    and bear nothing."""

    nano: int
    late: int


def idle_lines(connection: Connection, period: Period) -> list[IdleLine]:
    """In order of time. An hour's bill belongs to the period that the hour starts in."""
    rows = connection.execute(
        select(allocated).where(allocated.c.key_id == NOBODY, allocated.c.nano != 0,
                                *within(allocated.c.hour * HOUR_S, period))
        .order_by(allocated.c.hour, allocated.c.model)
    )
    return [
        IdleLine(at=float(row.hour * HOUR_S), model=row.model, price_version=row.price_version,
                 currency=row.currency, nano=int(row.nano))
        for row in rows
    ]


def read_shares(connection: Connection, period: Period) -> dict[Place, Share]:
    """Of the lines of closed hours, by hour and key."""
    shares: dict[Place, Share] = {}
    models: dict[str, list[str]] = {}
    for version, entry in rented(connection).items():
        models.setdefault(entry.model, []).append(version)
    for model, versions in models.items():
        for row in connection.execute(_of_model(model, versions, period)):
            place = row.hour, Key(*(getattr(row, name) for name in Key._fields))
            shares[place] = Share(int(row.nano), int(row.calls - row.in_time))
    return shares


def _of_model(model: str, versions: Sequence[str], period: Period) -> Select[Any]:
    """Its lines of closed hours, each with its share."""
    mark, share = allocated.alias("mark"), allocated.alias("share")
    within_it = within(line.c.hour * HOUR_S, period)
    sums = (
        select(line.c.hour, line.c.key_id, func.sum(line.c.calls).label("calls"))
        .join(line_key, line_key.c.key_id == line.c.key_id)
        .where(line_key.c.price_version.in_(versions), *within_it)
        .group_by(line.c.hour, line.c.key_id).subquery("sums")
    )
    return (
        select(sums.c.hour, sums.c.calls, func.coalesce(share.c.nano, 0).label("nano"),
               func.coalesce(share.c.calls, 0).label("in_time"), line_key)
        .select_from(
            sums.join(line_key, line_key.c.key_id == sums.c.key_id)
            .join(mark, and_(mark.c.hour == sums.c.hour, mark.c.model == model, mark.c.key_id == NOBODY))
            .outerjoin(share, and_(
                share.c.hour == sums.c.hour, share.c.model == model, share.c.key_id == sums.c.key_id
            ))
        )
    )
