"""What is to be said beside the figures: what they rest on where that was not seen, and what they leave open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.finance.success import tally
from orchestrator.quality.what_if.groups import Group
from orchestrator.quality.what_if.strata import cells_of, validator_right
from orchestrator.quality.what_if.what_if import PolicyFigures


def of_quality(runs: Sequence[Group], policies: Sequence[PolicyFigures]) -> Iterator[str]:
    """Of who is right, and which policy more often."""
    if unseen := _validator_unseen(runs):
        yield unseen
    for one in policies:
        if one.gain is not None and one.quality.value is not None:
            yield f"{one.name}: {_order(one)}"
    if missed := _count(runs, lambda group: group.like.look == "missed" or group.like.unanswered is not None):
        yield f"{missed:,} drafts were to be looked at and were not: every interval allows for both ways they may be"


def of_cost(policies: Sequence[PolicyFigures]) -> Iterator[str]:
    for one in policies:
        if one.extrapolated:
            yield (
                f"{one.name}: the cost of {one.extrapolated:,} calls is taken from tasks that came to be validated "
                "otherwise, and may be another"
            )


def _validator_unseen(runs: Sequence[Group]) -> str:
    """Of labelled tasks of which nobody knows whether the validator is right: what stands for them. Empty where there
    are none."""
    unseen = _count(runs, lambda group: group.like.labelled and group.like.validator_right is None)
    if not unseen:
        return ""
    strata = tally(cells_of([group for group in runs if group.like.labelled], lambda g: validator_right(g.like))).strata
    estimated, told = sum(s.unchecked for s in strata), sum(s.checked for s in strata)
    ways = []
    if estimated:
        ways.append(f"{estimated:,} are estimated from {told:,} that a draw sent to it")
    if blind := unseen - estimated:
        ways.append(f"{blind:,} count as right at one end of the intervals and as wrong at the other")
    return f"on {unseen:,} labelled tasks nobody saw whether the validator is right: {', '.join(ways)}"


def _order(one: PolicyFigures) -> str:
    assert one.gain is not None
    low, high = one.gain.low or 0.0, one.gain.high or 0.0
    if low > 0.0:
        return f"{low:.1%} to {high:.1%} of the tasks more right than always validating"
    if high < 0.0:
        return f"{-high:.1%} to {-low:.1%} of the tasks fewer right than always validating"
    return (
        f"between {abs(low):.1%} of the tasks fewer and {high:.1%} more right than always validating: "
        "these runs do not tell which is better"
    )


def _count(runs: Sequence[Group], which: Callable[[Group], bool]) -> int:
    return sum(group.n for group in runs if which(group))
