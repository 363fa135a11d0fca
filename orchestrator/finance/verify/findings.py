"""What verification finds, in words that name the row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

DiscrepancyKind = Literal[
    "changed", "removed", "reordered", "inserted", "head", "price", "cost", "run", "total", "budget", "close",
]
MOST = 1_000
"""Findings that are kept; those beyond are counted only, so that a ruined store needs no more memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One thing that is not as it was written. `table` and `row` name the row where there is one."""

    kind: DiscrepancyKind
    words: str
    table: str | None = None
    row: str | None = None
    writer: str | None = None
    number: int | None = None


@dataclass(slots=True)
class Discrepancies:
    """What was found, in the order of the search."""

    kept: list[Discrepancy] = field(default_factory=list)
    count: int = 0

    def add(self, found: Iterable[Discrepancy]) -> None:
        for one in found:
            self.count += 1
            if len(self.kept) < MOST:
                self.kept.append(one)
