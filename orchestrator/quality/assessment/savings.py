"""What a cascade at a threshold costs beside always validating, and how sure that figure is.

The share of the bill that is still paid is a ratio of two sums. Its interval is Korn and Graubard's (1998): the exact
interval of a proportion, at the number of equal records that would be as uncertain as these unequal ones are. What an
escalation costs over the validator's own answer is taken as known: it scales the interval as it does the share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.intervals import Interval, clopper_pearson, normal_quantile
from orchestrator.records import Money

ENOUGH = 10
"""Effective records below which no interval of a sum of money is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One task under the cascade: was its draft accepted, was that a regret, and what drafting and validating cost.
    Its escalation costs (or would) `times` what the validator's own answer does."""

    accepted: bool
    regretted: bool
    draft_cost: Money | None = None
    validator_cost: Money | None = None
    times: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with its interval; `low` and `high` None: too little is known for one."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.1%}"
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A cascade on `n` tasks that had no part in choosing its threshold. `bill` is the cost of the validator's calls
    that remain, over that of always validating; `cost` has the drafts in it. Both None where a cost is not known for
    any task; `priced` tasks have the costs. `always` is what validating those costs. `in_redo` is `cost` (`bill`, where
    drafts have no known cost) were each escalation the validator's own answer; None where it is. Intervals are at
    95%."""

    n: int
    validated: Share
    regret: Share
    bill: Share | None = None
    cost: Share | None = None
    priced: int = 0
    always: Money | None = None
    in_redo: Share | None = None

    @property
    def share(self) -> Share | None:
        """The best known of what the cascade costs over always validating."""
        return self.cost or self.bill


def measure(served: Sequence[Served], confidence: float = 0.95) -> Measured:
    """Raises ValueError without tasks."""
    n = len(served)
    if n == 0:
        raise ValueError("nothing to measure")
    priced = [one for one in served if one.validator_cost is not None]
    currencies = {c.currency for one in priced for c in (one.validator_cost, one.draft_cost) if c is not None}
    bills = [float(one.validator_cost.nano) for one in priced if one.validator_cost is not None]
    known = len(currencies) == 1 and math.fsum(bills) > 0.0
    drafts = [float(one.draft_cost.nano) for one in priced if one.draft_cost is not None]
    paid, times = [not one.accepted for one in priced], [one.times for one in priced]
    known_drafts = drafts if len(drafts) == len(bills) else []
    dearer = known and any(each != 1.0 for each in times)
    return Measured(
        n=n, validated=_rate(sum(not one.accepted for one in served), n, confidence),
        regret=_rate(sum(one.regretted for one in served), n, confidence),
        bill=ratio(bills, paid, times=times, confidence=confidence) if known else None,
        cost=ratio(bills, paid, drafts, times=times, confidence=confidence) if known and known_drafts else None,
        in_redo=ratio(bills, paid, known_drafts, confidence=confidence) if dearer else None,
        priced=len(priced) if known else 0,
        always=Money(nano=round(math.fsum(bills)), currency=currencies.pop()) if known else None,
    )


def ratio(
    bills: Sequence[float], paid: Sequence[bool], drafts: Sequence[float] = (), *, times: Sequence[float] = (),
    confidence: float = 0.95,
) -> Share:
    """(sum of the bills that are paid, each as many `times`, and of all drafts) over the sum of all bills."""
    n, total = len(bills), math.fsum(bills)
    most = max(times, default=1.0) or 1.0
    parts = [(t / most if p else 0.0) for p, t in zip(paid, times or [1.0] * n, strict=True)]
    share = math.fsum(b * part for b, part in zip(bills, parts, strict=True)) / total
    extra = math.fsum(drafts) / total
    value = most * share + extra
    level = confidence if not drafts else 0.5 + confidence / 2.0
    effective = min(n, math.floor(_effective(bills, parts, share, total)))
    if effective < ENOUGH:
        return Share(value=value, low=None, high=None)
    found = _proportion(share, effective, level)
    wide = _width(bills, drafts, extra, total, level) if drafts else 0.0
    return Share(value=value, low=max(0.0, most * found.low + extra - wide), high=most * found.high + extra + wide)


def _effective(bills: Sequence[float], parts: Sequence[float], share: float, total: float) -> float:
    """How many records of equal cost would be as uncertain: by the spread of the bills, and where both kinds are seen
    by the linearised variance of the share; the smaller."""
    by_spread = total**2 / math.fsum(b * b for b in bills)
    variance = math.fsum((b * (part - share)) ** 2 for b, part in zip(bills, parts, strict=True)) / total**2
    return min(by_spread, share * (1.0 - share) / variance) if variance > 0.0 else by_spread


def _proportion(share: float, n: int, confidence: float) -> Interval:
    """Clopper and Pearson at a count that need not be whole: outwards."""
    low = clopper_pearson(math.floor(share * n + 1e-9), n, confidence).low
    high = clopper_pearson(min(n, math.ceil(share * n - 1e-9)), n, confidence).high
    return Interval(low, high)


def _width(bills: Sequence[float], drafts: Sequence[float], extra: float, total: float, confidence: float) -> float:
    """Half the interval of drafts over bills, by the delta method."""
    squares = math.fsum((d - extra * b) ** 2 for d, b in zip(drafts, bills, strict=True))
    return normal_quantile(0.5 + confidence / 2.0) * math.sqrt(squares) / total


def _rate(count: int, n: int, confidence: float) -> Share:
    found = clopper_pearson(count, n, confidence)
    return Share(value=count / n, low=found.low, high=found.high)
