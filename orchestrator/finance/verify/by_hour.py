"""Values of one UTC hour, kept and once more from the rows, side by side: memory holds those of an hour."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, cast, func

from orchestrator.finance.period import Period
from orchestrator.store.keys import HOUR_S

KeyValues = tuple[Any, ...]
Values = tuple[Any, ...]
Placed = tuple[int, KeyValues, Values]
"""The hour from the epoch, what the rows have in common, and their sums."""


def hour_by_hour(
    kept: Iterable[Placed], summed: Iterable[Placed], nothing: Values
) -> Iterator[tuple[int, KeyValues, Values, Values]]:
    """Each hour and key with what is kept of it and what its rows sum to, `nothing` where one of the two has it not.
    Both come in the order of hours, each key once."""
    both = heapq.merge(
        ((hour, 0, key, sums) for hour, key, sums in kept), ((hour, 1, key, sums) for hour, key, sums in summed),
        key=itemgetter(0, 1),
    )
    for hour, members in groupby(both, key=itemgetter(0)):
        sides: tuple[dict[KeyValues, Values], dict[KeyValues, Values]] = ({}, {})
        for _, side, key, sums in members:
            sides[side][key] = sums
        here, there = sides
        for key in {**here, **there}:
            yield hour, key, here.get(key, nothing), there.get(key, nothing)


def hour_column(connection: Connection, moment: ColumnElement[float]) -> ColumnElement[int]:
    """The hour from the epoch in which a moment lies."""
    hours = moment / float(HOUR_S)
    return cast(func.floor(hours) if connection.dialect.name == "postgresql" else hours, Integer)


def whole_hours(period: Period) -> Period:
    """Those that lie in the period altogether: a time zone may cut hours in two."""
    since, until = period.since, period.until
    start = None if since is None else datetime.fromtimestamp(-(-since.timestamp() // HOUR_S) * HOUR_S, UTC)
    end = None if until is None else datetime.fromtimestamp(until.timestamp() // HOUR_S * HOUR_S, UTC)
    return Period(since=start, until=end)


def hour_in_words(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * HOUR_S, UTC):%Y-%m-%d %H}:00"
