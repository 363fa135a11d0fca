"""Sums of one UTC hour, kept and once more from the rows, side by side: memory holds those of an hour."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, cast, func

from orchestrator.finance.period import Period
from orchestrator.store.keys import HOUR_S

Key = tuple[Any, ...]
Sums = tuple[Any, ...]
Placed = tuple[int, Key, Sums]
"""The hour from the epoch, what the rows have in common, and their sums."""


def hour_by_hour(
    kept: Iterable[Placed], summed: Iterable[Placed]
) -> Iterator[tuple[int, Mapping[Key, Sums], Mapping[Key, Sums]]]:
    """Each hour with what is kept of it and what its rows sum to. Both come in the order of hours, each key once."""
    both = heapq.merge(
        ((hour, 0, key, sums) for hour, key, sums in kept), ((hour, 1, key, sums) for hour, key, sums in summed),
        key=itemgetter(0, 1),
    )
    for hour, members in groupby(both, key=itemgetter(0)):
        sides: tuple[dict[Key, Sums], dict[Key, Sums]] = ({}, {})
        for _, side, key, sums in members:
            sides[side][key] = sums
        yield hour, *sides


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
