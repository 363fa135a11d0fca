"""Each writer's chain, link by link: what does not follow from what stands before it was changed, moved or put in.

**A row is judged by the stored link before it**, so that one row that was tampered with is one finding, and its
neighbours are none. Rows in doubt are gathered until a link holds again, and then told apart: a row that holds at
another number was moved; one whose seal alone is wrong lets the next one hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import SealedRow
from orchestrator.store import seals

DOUBTS = 64
"""Rows in doubt that are told apart together: the work grows with their third power."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain as somebody wrote it down: the `owner` row, or a close file (`said_by`)."""

    number: int
    link: bytes
    said_by: str


def walk(
    rows: Iterable[SealedRow], heads: Mapping[str, Head], anchors: Mapping[str, Mapping[int, Head]]
) -> Iterator[Discrepancy]:
    """Findings of all chains. `rows` are by writer and number; `heads` are the owners', `anchors` those that close
    files hold, by writer and number."""
    seen: set[str] = set()
    for writer, members in groupby(rows, key=lambda one: one.writer):
        seen.add(writer)
        yield from _Chain(writer, anchors.get(writer, {})).walk(members, heads.get(writer))
    for writer in sorted({*heads, *anchors} - seen):
        said = [heads[writer]] if writer in heads else []
        for head in (*said, *anchors.get(writer, {}).values()):
            if head.number:
                yield Discrepancy(kind="removed", writer=writer, words=f"all {head.number:,} rows of writer {writer} "
                                  f"are gone: {head.said_by} counts them")


@dataclass(slots=True)
class _Chain:
    writer: str
    anchors: Mapping[int, Head]
    last: SealedRow | None = None
    before: list[bytes] = field(default_factory=list)
    """Links that the next row may follow from: empty after a gap, where nothing can be said of it."""
    doubts: list[SealedRow] = field(default_factory=list)
    links: list[bytes] = field(default_factory=list)
    """That stand before the first doubt, and those of the doubts."""

    def walk(self, rows: Iterable[SealedRow], head: Head | None) -> Iterator[Discrepancy]:
        self.before = [seals.genesis(self.writer)]
        for number, same in groupby(rows, key=lambda one: one.number):
            here = list(same)
            row = next((one for one in here if self._holds(one)), here[0])
            for other in here:
                if other is not row:
                    yield _found("inserted", other, f"its number in the chain, {number:,}, is that of {_name(row)}")
            yield from self._take(row)
        yield from self._settle_doubts()
        yield from self._end(head)

    def _holds(self, row: SealedRow) -> bool:
        body = row.canonical()
        return any(seals.link(before, body) == row.link for before in self.before)

    def _take(self, row: SealedRow) -> Iterator[Discrepancy]:
        due = self.last.number + 1 if self.last is not None else 1
        if row.number > due:
            yield from self._settle_doubts()
            yield self._gap(due, row)
            self.before = []
        if not self.before or self._holds(row):
            yield from self._settle_doubts()
            self.before = [row.link]
        else:
            if not self.doubts:
                self.links = list(self.before)
            computed = seals.link(self.before[0], row.canonical())
            self.doubts.append(row)
            self.links += [row.link, computed]
            self.before = [row.link, computed]
            if len(self.doubts) >= DOUBTS:
                yield from self._settle_doubts()
        anchor = self.anchors.get(row.number)
        if anchor is not None and anchor.link != row.link:
            yield _found("changed", row, f"{anchor.said_by} holds another seal of it: the chain was written anew")
        self.last = row

    def _gap(self, due: int, row: SealedRow) -> Discrepancy:
        gone = row.number - due
        which = f"row {due:,}" if gone == 1 else f"rows {due:,} to {row.number - 1:,}"
        after = _name(self.last) if self.last is not None else "the start"
        return Discrepancy(
            kind="removed", writer=self.writer, number=due,
            words=f"{which} of writer {self.writer}, between {after} and {_name(row)}",
        )

    def _settle_doubts(self) -> Iterator[Discrepancy]:
        """Tell apart what was moved, what was changed, and what only stood next to it."""
        doubts, self.doubts = self.doubts, []
        numbers = [one.number for one in doubts]
        for row in doubts:
            sealed_as = _sealed_as(row, numbers, self.links)
            if sealed_as is None:
                yield _found("changed", row, "it is not what was sealed")
            elif sealed_as != row.number:
                yield _found("reordered", row, f"it stands as number {row.number:,} and was sealed as {sealed_as:,}")
        self.links = []

    def _end(self, head: Head | None) -> Iterator[Discrepancy]:
        """Does the chain end where its writer, and the closed months, say."""
        assert self.last is not None
        if head is None:
            yield Discrepancy(kind="head", writer=self.writer, table="owner", row=self.writer,
                              words=f"writer {self.writer} has rows and no head: its row in `owner` is gone")
        anchors = [one for number, one in self.anchors.items() if number > self.last.number]
        for said in [*([head] if head is not None else []), *anchors]:
            if said.number > self.last.number:
                yield Discrepancy(
                    kind="removed", writer=self.writer, number=self.last.number + 1,
                    words=f"the last {said.number - self.last.number:,} of writer {self.writer}, after "
                          f"{_name(self.last)}: {said.said_by} counts {said.number:,}",
                )
        if head is not None and head.number < self.last.number:
            yield _found("inserted", self.last, f"the chain ends at {head.number:,}, says {head.said_by}")
        elif head is not None and head.number == self.last.number and head.link != self.last.link:
            yield Discrepancy(kind="head", writer=self.writer, number=head.number, table="owner", row=self.writer,
                              words=f"{head.said_by} and the last row, {_name(self.last)}, have different seals")


def _sealed_as(row: SealedRow, numbers: Iterable[int], links: Iterable[bytes]) -> int | None:
    """The number at which `row` follows from one of `links`: its own, if it does there."""
    befores = list(dict.fromkeys(links))
    for number in sorted(numbers, key=lambda n: n != row.number):
        body = row.canonical(number)
        if any(seals.link(before, body) == row.link for before in befores):
            return number
    return None


def _found(kind: str, row: SealedRow, words: str) -> Discrepancy:
    return Discrepancy(
        kind=kind, table=row.table, row=row.row, writer=row.writer, number=row.number,  # type: ignore[arg-type]
        words=f"{_name(row)}: {words}",
    )


def _name(row: SealedRow | None) -> str:
    return "" if row is None else f"{row.table} {row.row} (number {row.number:,} of {row.writer})"
