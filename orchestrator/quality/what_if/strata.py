"""Tasks by whether they would be answered right: known, standing for others like them, or not to be told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.finance.success import Cell, tally
from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.groups import Group
from orchestrator.quality.what_if.replay import Move


def answered_right(groups: Sequence[Group]) -> list[Cell]:
    """Cells of tasks alike in what is known. Drafts that would be accepted, and had one chance of a look below 1, are a
    stratum of their own: the checked of it are a random sample. What goes to a person is not answered."""
    counts: Counter[tuple[bool | None, float | None, bool]] = Counter()
    for group in groups:
        counts[_known(group.like, group.move)] += group.n
    return [
        Cell(runs=runs, success=right, propensity=chance, unanswered=unanswered)
        for (right, chance, unanswered), runs in counts.items()
    ]


def estimated_share(cells: Sequence[Cell]) -> float | None:
    """The share answered right among the tasks that can be estimated; None where there are none."""
    found = tally(cells)
    told = found.runs - found.unreached
    checked = sum(s.runs * s.right / s.checked for s in found.strata)
    return (found.right + checked) / told if told else None


def _known(case: Case, move: Move) -> tuple[bool | None, float | None, bool]:
    """(right, the chance of a look where that matters, drawn without an answer)."""
    chance = case.unanswered or case.propensity
    match move.kind:
        case "escalate":
            return case.validator_right, None, False
        case "hand_off":
            return False, None, False
        case "accept" if 0.0 < chance < 1.0:
            return case.right, chance, case.unanswered is not None
        case "accept":
            return case.right, None, False
    return None, None, False
