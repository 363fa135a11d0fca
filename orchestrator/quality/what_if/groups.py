"""Recorded runs, grouped by all that an estimate asks of one beside what it cost and how sure its draft was."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, groupby
from operator import add

from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.power_sums import PARTS, Sums
from orchestrator.quality.what_if.replay import Move


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that a policy makes the same move with, and that are alike in all but amounts: `like` is one of them."""

    like: Case
    move: Move
    sums: Sums

    @property
    def n(self) -> int:
        return self.sums.n

    def knows(self, part: int) -> bool:
        """Is the cost of that part (of PARTS) known of them? It is of all, or of none."""
        return getattr(self.like, PARTS[part]) is not None


def grouped(cases: Iterable[Case], moves: Iterable[Move]) -> list[Group]:
    """Cases, and the move that a policy makes with each."""
    kept = KeptRuns()
    for case, move in zip(cases, moves, strict=True):
        kept.add(case, (move,))
    return kept.groups(0)


@dataclass(slots=True)
class _Alike:
    """Tasks alike, with the move of each policy. A number takes eight bytes in a column; those not known are left out,
    for all or for none."""

    like: Case
    moves: tuple[Move, ...]
    n: int = 0
    confidence: array[float] = field(default_factory=lambda: array("d"))
    costs: tuple[array[int], ...] = field(default_factory=lambda: tuple(array("q") for _ in PARTS))
    reserved: tuple[array[int], ...] = field(default_factory=lambda: (array("q"), array("q")))

    def add(self, case: Case) -> None:
        self.n += 1
        if case.confidence is not None:
            self.confidence.append(case.confidence)
        for column, cost in zip(self.costs, (case.draft, case.verdict, case.alone), strict=True):
            if cost is not None:
                column.append(cost)
        for column, most in zip(self.reserved, (case.draft_bound, case.validator_bound), strict=True):
            column.append(-1 if most is None else most)

    def sums(self) -> Sums:
        return Sums.of(self.costs, self.reserved, self.n)

    def between(self, thresholds: Sequence[float]) -> list[Sums | None]:
        """Of those below the first of rising `thresholds`, from there to the second, and so on; None of none."""
        places = array("H", (bisect_right(thresholds, one) for one in self.confidence))
        columns = (*self.costs, *self.reserved)
        parted = [[array("q") for _ in columns] for _ in range(len(thresholds) + 1)]
        for at, column in enumerate(columns):
            for place, amount in zip(places, column, strict=False):  # a column is full or empty
                parted[place][at].append(amount)
        counts = Counter(places)
        return [Sums.of(some[:3], some[3:], counts[place]) if counts[place] else None
                for place, some in enumerate(parted)]


class KeptRuns:
    """Runs as they are read, with the move that each of several policies makes: some fifty bytes a run."""

    def __init__(self) -> None:
        self._alike: dict[Hashable, _Alike] = {}
        self.n = 0

    def add(self, case: Case, moves: tuple[Move, ...]) -> None:
        self.n += 1
        key = (case.alike, case.confidence is None, moves)
        found = self._alike.get(key)
        if found is None:
            found = self._alike[key] = _Alike(case, moves)
        found.add(case)

    def groups(self, policy: int) -> list[Group]:
        """By the moves of one of the policies."""
        return merged(Group(one.like, one.moves[policy], one.sums()) for one in self._alike.values())

    def confidences(self) -> list[float]:
        """Distinct, rising."""
        every = sorted(chain.from_iterable(alike.confidence for alike in self._alike.values()))
        return [one for one, _ in groupby(every)]

    def at_thresholds(self, thresholds: Sequence[float], surest: int, doubtful: int) -> Iterator[list[Group]]:
        """At each of rising `thresholds`: `surest` is the policy whose move is made from there on, `doubtful` the one
        below; without a confidence it is the latter."""
        whole = [Group(one.like, one.moves[doubtful], one.sums())
                 for one in self._alike.values() if not one.confidence]
        ladders = [(one, _ladder(one.between(thresholds))) for one in self._alike.values() if one.confidence]
        for place in range(len(thresholds)):
            found = list(whole)
            for one, (below, from_there) in ladders:
                for move, sums in ((one.moves[doubtful], below[place]), (one.moves[surest], from_there[place])):
                    if sums is not None:
                        found.append(Group(one.like, move, sums))
            yield merged(found)


def merged(groups: Iterable[Group]) -> list[Group]:
    """Those that are alike and move alike, as one."""
    found: dict[Hashable, list[Group]] = {}
    for group in groups:
        found.setdefault((group.like.alike, group.move), []).append(group)
    return [
        some[0] if len(some) == 1 else Group(some[0].like, some[0].move, reduce(add, (one.sums for one in some)))
        for some in found.values()
    ]


def _ladder(steps: Sequence[Sums | None]) -> tuple[list[Sums | None], list[Sums | None]]:
    """For each threshold: the sums of all steps below it, and of all from there on."""
    return _running(steps[:-1]), _running(steps[:0:-1])[::-1]


def _running(steps: Sequence[Sums | None]) -> list[Sums | None]:
    found: list[Sums | None] = []
    so_far: Sums | None = None
    for step in steps:
        so_far = step if so_far is None else so_far if step is None else so_far + step
        found.append(so_far)
    return found
