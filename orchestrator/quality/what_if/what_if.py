"""What a policy would have been worth: quality and cost for each task, from runs made under another one.

Quality is the share of tasks answered right by the reference (a label, a proof, else the validator's word; what goes to
a person is not answered). Where the truth of what would now be served was seen with probability 1 it counts: of the
draft, or of the validator where a label judges it. Where it was seen by a draw, the seen of equal propensity stand for
all (docs/what_if.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from orchestrator.finance.rates import long_run_rate
from orchestrator.intervals import Interval, clopper_pearson
from orchestrator.quality.what_if.cost_ratio import cost_ratio
from orchestrator.quality.what_if.groups import Group
from orchestrator.quality.what_if.linear_costs import NOT_RESERVED, Costing
from orchestrator.quality.what_if.pools import Need
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
    `extrapolated`: validations whose cost is taken from tasks that came to be validated otherwise. `gain`: the share
    answered right less that of always validating, task by task; None where the validator is the reference, and where it
    was not asked for."""

    name: str
    accepted: float
    escalated: float
    handed_off: float
    unknown: float
    quality: Figure
    cost: Figure
    ratio: Figure
    extrapolated: int = 0
    gain: Figure | None = None


def unsupported(groups: Sequence[Group]) -> Counter[str]:
    """Drafts that would be accepted although nothing could ever have shown whether they are right: how many, by what
    decided them then."""
    found: Counter[str] = Counter()
    for group in groups:
        if group.move.kind == "accept" and group.like.look == "never":
            found[group.like.decided] += group.n
    return found


def figures(name: str, groups: Sequence[Group], confidence: float = 0.95) -> PolicyFigures:
    """Of the policy that makes the moves of these groups."""
    kinds: Counter[str] = Counter()
    for group in groups:
        kinds[group.move.kind] += group.n
    n = kinds.total()
    told = max(1, n - kinds["unknown"])
    cost, ratio, extrapolated = _costs(groups, n - kinds["unknown"], n, confidence)
    return PolicyFigures(
        name=name, accepted=kinds["accept"] / told, escalated=kinds["escalate"] / told,
        handed_off=kinds["hand_off"] / told, unknown=kinds["unknown"] / max(1, n),
        quality=quality(groups, confidence), cost=cost, ratio=ratio, extrapolated=extrapolated,
    )


def quality(groups: Sequence[Group], confidence: float = 0.95) -> Figure:
    """The share answered right. What can't be told is wrong for the lower end and right for the upper one. A validator
    that contradicts a wrong draft, of which no more is known, counts in the estimate as right: it mostly is."""
    found = long_run_rate(answered_right(groups), confidence)
    value = estimated_share(answered_right(groups, contradicting=True))
    if found is None or value is None:
        return Figure(value=None, low=0.0, high=1.0, note="not one of them is known")
    return Figure(value=min(found.high, max(found.low, value)), low=found.low, high=found.high)


def always_validating(groups: Sequence[Group], confidence: float = 0.95) -> Costing:
    """What it costs to have the validator do every task."""
    chances = [group.like.chance for group in groups]
    return Costing(groups, [_ALONE] * len(groups), chances, {chance: chance for chance in chances}, confidence)


def _costs(groups: Sequence[Group], told: int, n: int, confidence: float) -> tuple[Figure, Figure, int]:
    """Cost for each task, and over always validating."""
    if not told:
        none = Figure(value=None, note="no move is known")
        return none, none, 0
    kept = [group for group in groups if group.move.kind != "unknown"]
    cells = [(group.like.chance, group.move.kind, group.move.drafted) for group in kept]
    unknown = _Unknown(n - told, n, _dearest(groups), confidence)
    chance_of: dict[Hashable, float] = {cell: cell[0] for cell in cells}
    cost = Costing(kept, [_need(group.move) for group in kept], cells, chance_of, unknown.left)
    always = always_validating(kept, unknown.left)
    ratio = cost_ratio(cost, always, unknown.left)
    dearest = None if unknown.dearest is None or not always.value else unknown.dearest / always.value
    return (
        unknown.widened(cost.value, cost.interval, cost.note, scale=1e-9),
        replace(unknown, dearest=dearest).widened(ratio.value, ratio.interval, ratio.note, scale=1.0),
        cost.extrapolated,
    )


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


def _dearest(groups: Sequence[Group]) -> float | None:
    """The most that a task may cost: what was ever reserved for its drafts and for its verdict, and a draft more."""
    draft, verdict = (max(group.sums.reserved(validation=which) for group in groups) for which in (False, True))
    return 2.0 * draft + verdict if min(draft, verdict) >= 0 else None
