"""A period in UTC hours: those that lie wholly within it, and those that its edges cut."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, and_, false, literal, or_

from orchestrator.finance.period import Period
from orchestrator.store.keys import HOUR_S


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours from the epoch, `first` up to before `end` (None: open), save those in `cut`: their sums are of more than
    the period, or of more than one kind in it, so that they are to be read row by row."""

    first: int | None
    end: int | None
    cut: frozenset[int] = field(default_factory=frozenset)

    def whole(self, hour: ColumnElement[int]) -> ColumnElement[bool]:
        """The condition that a line or cell counts in full."""
        wanted: list[ColumnElement[bool]] = [literal(True)]
        if self.first is not None:
            wanted.append(hour >= self.first)
        if self.end is not None:
            wanted.append(hour < self.end)
        if self.cut:
            wanted.append(hour.not_in(sorted(self.cut)))
        return and_(*wanted)

    def in_cut(self, moment: ColumnElement[float]) -> ColumnElement[bool]:
        return or_(false(), *(
            and_(moment >= hour * HOUR_S, moment < (hour + 1) * HOUR_S) for hour in sorted(self.cut)
        ))


def hours_of(period: Period, also_cut: Iterable[float] = ()) -> Hours:
    """`also_cut` are moments that part the period's rows in two kinds."""
    since, until = period.since_at, period.until_at
    first = None if since is None else math.floor(since / HOUR_S)
    end = None if until is None else math.ceil(until / HOUR_S)
    edges = [moment for moment in (since, until) if moment is not None and moment % HOUR_S]
    cut = (math.floor(moment / HOUR_S) for moment in (*edges, *also_cut))
    return Hours(first, end, frozenset(
        hour for hour in cut if (first is None or hour >= first) and (end is None or hour < end)
    ))
