"""Tasks by whether they would be answered right: known, standing for others like them, or not to be told.

The truth of a draft and that of the validator are two questions, each seen with a chance of its own: a label tells the
first of every draft, and the second only where the validator was asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.finance.success import Cell, tally
from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.groups import Group


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one question about a task: `holds` None where nothing is. `chance`: with which it came to be
    known, where that is neither 0 nor 1; tasks of one chance, and not `apart`, are a stratum, and the seen among them a
    random sample of it. `unanswered`: it was drawn, and nothing is known all the same."""

    holds: bool | None
    chance: float | None = None
    apart: str = ""
    unanswered: bool = False


Question = Callable[[Group], Told]


def answered_right(groups: Sequence[Group], *, contradicting: bool | None = None) -> list[Cell]:
    """Cells of tasks alike in what is known. What goes to a person is not answered. `contradicting` as for
    `validator_right`."""
    def asked(group: Group) -> Told:
        match group.move.kind:
            case "escalate":
                return validator_right(group.like, contradicting)
            case "hand_off":
                return Told(False)
            case "accept":
                return draft_right(group.like)
        return Told(None)

    return cells_of(groups, asked)


def cells_of(groups: Sequence[Group], question: Question) -> list[Cell]:
    counts: Counter[Told] = Counter()
    for group in groups:
        counts[question(group)] += group.n
    return [
        Cell(runs=runs, success=told.holds, propensity=told.chance, apart=told.apart, unanswered=told.unanswered)
        for told, runs in counts.items()
    ]


def draft_right(case: Case) -> Told:
    """Drafts that had one chance of a look below 1 are a stratum of their own."""
    if case.labelled:
        return Told(case.right)
    chance = case.unanswered or case.propensity
    return Told(case.right, chance, "", case.unanswered is not None) if 0.0 < chance < 1.0 else Told(case.right)


def validator_right(case: Case, contradicting: bool | None = None) -> Told:
    """Certain where the validator is the reference. Where a label or a proof is, tasks that had one chance of coming to
    the validator are two strata: those whose draft is right, and those whose draft is wrong. `contradicting`: is it
    right where it contradicted the draft, and nobody knows?"""
    if not case.labelled:
        return Told(True)
    holds = contradicting if case.contradicted else case.validator_right
    chance = case.unanswered or case.chance
    if not 0.0 < chance < 1.0:
        return Told(holds)
    apart = f"validator, draft {'right' if case.right else 'wrong'}"
    return Told(holds, chance, apart, case.contradicted or case.unanswered is not None)


def estimated_share(cells: Sequence[Cell]) -> float | None:
    """The share of successes among the tasks that can be estimated; None where there are none."""
    found = tally(cells)
    told = found.runs - found.unreached
    checked = sum(s.runs * s.right / s.checked for s in found.strata)
    return (found.right + checked) / told if told else None
