"""The tasks of a certificate, in stretches: each ends with the moment that finds enough spot checks drawn in it.

spot checks in order of time -> where stretches end -> tasks counted between these -> what quality/drift.py weighs
All of it follows from the ledger. **What a process keeps spares it reading again; to lose it changes no figure.**
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from orchestrator.quality.drift import CHECKS_A_START, Stretch
from orchestrator.store.lapses import CheckedDraft, InUse, TaskCounts

if TYPE_CHECKING:
    from orchestrator.store.engine import Store

LATE_S = 600.0
"""How much later than it ended a task may come into the ledger and still be counted by those who look already."""
_NONE = TaskCounts()


@dataclass(frozen=True, slots=True)
class _Counted:
    """The tasks of a stretch that ended up to then: past ones, which are counted once."""

    upto: float
    counts: TaskCounts


@dataclass(slots=True)
class Seen:
    """What can change no more: `stretches`, begun `at`, up to the end of the last; and of later ones, by their
    beginnings, the tasks counted already. A stretch may change as long as a check of it is not answered."""

    at: list[float] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    upto: float = -math.inf
    counted: dict[float, _Counted] = field(default_factory=dict)


async def read_stretches(
    store: Store, used: InUse, seen: Seen, *, now: float, accepted_only: bool
) -> tuple[list[float], list[Stretch]]:
    """When each stretch began, in epoch seconds, and what was found in it, from the certificate's first use on.

    `accepted_only`: count the accepted drafts in place of all tasks. Adds to `seen`.
    """
    groups = _cut(await store.checked_drafts(used, seen.upto))
    ends = [*(group[-1].ended_at for group in groups[:-1]), math.inf]
    counts = await _count(store, used, seen, ends, now - LATE_S)
    found = [
        (group[0].ended_at if group else begin, _stretch(group, some.accepted if accepted_only else some.tasks))
        for begin, group, some in zip([seen.upto, *ends], groups, counts, strict=False)
    ]
    at, stretches = [*seen.at, *(one[0] for one in found)], [*seen.stretches, *(one[1] for one in found)]
    for (begun, stretch), group, end in zip(found, groups, ends, strict=True):
        if end > now - LATE_S or any(check.state == "pending" for check in group):
            break
        seen.at.append(begun)
        seen.stretches.append(stretch)
        seen.counted.pop(seen.upto, None)
        seen.upto = end
    return at, stretches


def _cut(checks: Sequence[CheckedDraft]) -> list[list[CheckedDraft]]:
    """The checks of each stretch; the last one is open. Tasks that ended together stay together."""
    groups: list[list[CheckedDraft]] = [[]]
    for _, together in groupby(checks, key=attrgetter("ended_at")):
        groups[-1].extend(together)
        if len(groups[-1]) >= CHECKS_A_START:
            groups.append([])
    return groups


async def _count(store: Store, used: InUse, seen: Seen, ends: Sequence[float], past: float) -> list[TaskCounts]:
    """The tasks of the stretches that end then; those that ended before `past` are counted only once."""
    before, spans = [], []
    for begin, end in zip([seen.upto, *ends], ends, strict=False):
        known = seen.counted.get(begin, _Counted(begin, _NONE))
        if known.upto > end:  # it was longer before a late check cut it
            known = _Counted(begin, _NONE)
        upto = max(known.upto, min(end, past))
        before.append((begin, known))
        spans += [(known.upto, upto), (upto, end)]
    found = await store.tasks_within(used, spans)
    seen.counted = {
        begin: _Counted(upto, known.counts + more)
        for (begin, known), (_, upto), more in zip(before, spans[::2], found[::2], strict=True)
    }
    return [done.counts + rest for done, rest in zip(seen.counted.values(), found[1::2], strict=True)]


def _stretch(checks: Sequence[CheckedDraft], tasks: int) -> Stretch:
    """A check without an answer counts as one that found nothing: it is no evidence against the certificate."""
    return Stretch(
        tasks=tasks,
        drawn=len(checks),
        wrong=Counter(one.propensity for one in checks if one.draft_ok is False),
        gaps=tuple(
            one.confidence - one.draft_ok for one in checks if one.draft_ok is not None and one.confidence is not None
        ),
    )
