"""What a policy would have been worth: quality and cost for each task, from runs made under another one.

Quality is the share of tasks answered right by the reference (a label, a proof, else the validator's word; what goes to
a person is not answered). Where a draft that would now be accepted was seen with probability 1 its truth counts; where
it was spot-checked, the checked of equal propensity stand for all (docs/what_if.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from orchestrator.finance.rates import long_run_rate
from orchestrator.intervals import Interval, clopper_pearson
from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.cost_ratio import cost_ratio
from orchestrator.quality.what_if.linear_costs import NOT_RESERVED, Costing, Need
from orchestrator.quality.what_if.replay import Move
from orchestrator.quality.what_if.strata import answered_right, estimated_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """An estimate with its interval. `value` None: not to be had, and `note` says why; so with the interval alone."""

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFigures:
    """A policy over the recorded tasks. Shares are of the tasks whose move could be told; `unknown` is the share of the
    others, which every interval allows for. `cost` is in currency units for each task, `ratio` over always validating.
    `extrapolated`: validations whose cost is taken from tasks that came to be validated otherwise."""

    name: str
    accepted: float
    escalated: float
    handed_off: float
    unknown: float
    quality: Figure
    cost: Figure
    ratio: Figure
    extrapolated: int = 0


def unsupported(cases: Sequence[Case], moves: Sequence[Move]) -> Counter[str]:
    """Drafts that would be accepted although nothing could ever have shown whether they are right: how many, by what
    decided them then."""
    return Counter(
        case.decided for case, move in zip(cases, moves, strict=True)
        if move.kind == "accept" and case.look == "never"
    )


def figures(
    name: str, cases: Sequence[Case], moves: Sequence[Move], confidence: float = 0.95, *,
    always: Costing | None = None,
) -> PolicyFigures:
    """Of the policy that makes these moves. `always` is what `always_validating` says of the same cases, where that is
    known already."""
    n, kinds = len(cases), Counter(move.kind for move in moves)
    told = max(1, n - kinds["unknown"])
    cost, ratio, extrapolated = _costs(cases, moves, confidence, always)
    return PolicyFigures(
        name=name, accepted=kinds["accept"] / told, escalated=kinds["escalate"] / told,
        handed_off=kinds["hand_off"] / told, unknown=kinds["unknown"] / max(1, n),
        quality=quality(cases, moves, confidence), cost=cost, ratio=ratio, extrapolated=extrapolated,
    )


def quality(cases: Sequence[Case], moves: Sequence[Move], confidence: float = 0.95) -> Figure:
    """The share answered right. What can't be told is wrong for the lower end and right for the upper one."""
    cells = answered_right(cases, moves)
    found, value = long_run_rate(cells, confidence), estimated_share(cells)
    if found is None or value is None:
        return Figure(value=None, low=0.0, high=1.0, note="not one of them is known")
    return Figure(value=min(found.high, max(found.low, value)), low=found.low, high=found.high)


def always_validating(cases: Sequence[Case], confidence: float = 0.95) -> Costing:
    """What it costs to have the validator do every task."""
    chances = [_chance(case) for case in cases]
    return Costing(cases, [_ALONE] * len(cases), chances, {chance: chance for chance in chances}, confidence)


def _costs(
    cases: Sequence[Case], moves: Sequence[Move], confidence: float, always: Costing | None
) -> tuple[Figure, Figure, int]:
    """Cost for each task, and over always validating."""
    told = [(case, move) for case, move in zip(cases, moves, strict=True) if move.kind != "unknown"]
    if not told:
        none = Figure(value=None, note="no move is known")
        return none, none, 0
    kept = [case for case, _ in told]
    cells = [(_chance(case), move.kind, move.drafted) for case, move in told]
    unknown = _Unknown(len(cases) - len(told), len(cases), _dearest(cases), confidence)
    chance_of: dict[Hashable, float] = {cell: cell[0] for cell in cells}
    cost = Costing(kept, [_need(move) for _, move in told], cells, chance_of, unknown.left)
    always = always if always is not None and not unknown.tasks else always_validating(kept, unknown.left)
    ratio = cost_ratio(cost, always, unknown.left)
    dearest = None if unknown.dearest is None or not always.value else unknown.dearest / always.value
    return (
        unknown.widened(cost.value, cost.interval, cost.note, scale=1e-9),
        replace(unknown, dearest=dearest).widened(ratio.value, ratio.interval, ratio.note, scale=1.0),
        cost.extrapolated,
    )


def _chance(case: Case) -> float:
    return case.propensity if case.seen_by_chance is None else case.seen_by_chance


_ALONE = Need(alone=1.0)


@lru_cache(maxsize=1024)
def _need(move: Move) -> Need:
    if move.kind == "escalate":
        return Need(draft=float(move.drafted), verdict=float(not move.anew), alone=float(move.anew))
    return Need(draft=float(move.drafted), alone=move.check if move.kind == "accept" else 0.0)


@dataclass(frozen=True, slots=True)
class _Unknown:
    """`tasks` of `n` whose cost can't be told; each costs nothing at least and `dearest` at most."""

    tasks: int
    n: int
    dearest: float | None
    confidence: float

    @property
    def left(self) -> float:
        """The confidence that remains for the others: half the error where both have a part in it."""
        return 1.0 - (1.0 - self.confidence) / 2.0 if self.tasks else self.confidence

    def widened(self, value: float | None, interval: Interval | None, note: str, *, scale: float) -> Figure:
        if value is None:
            return Figure(value=None, note=note)
        if interval is None or (self.tasks and self.dearest is None):
            return Figure(value=value * scale, note=note or NOT_RESERVED)
        low, high = interval.low, interval.high
        if self.tasks and self.dearest is not None:
            share = clopper_pearson(self.tasks, self.n, self.left).high
            low, high = low * (1.0 - share), high + share * self.dearest
        return Figure(value=value * scale, low=low * scale, high=high * scale, note=note)


def _dearest(cases: Sequence[Case]) -> float | None:
    """The most that a task may cost: what was ever reserved for its drafts and for its verdict, and a draft more."""
    drafts = [case.draft_bound for case in cases if case.draft_bound is not None]
    verdicts = [case.validator_bound for case in cases if case.validator_bound is not None]
    return 2.0 * max(drafts) + max(verdicts) if drafts and verdicts else None
