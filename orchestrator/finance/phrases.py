"""Amounts, counts and shares as people read them. What is not known is said in words, never shown as 0."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from orchestrator.finance.cost import CostPerSuccess


def amount(value: Decimal | None) -> str:
    """Two places from one unit up, four significant figures below; exact figures stand in JSON and CSV."""
    if value is None:
        return "unknown"
    if value == 0:
        return "0.00"
    if abs(value) >= 1:
        return f"{value:,.2f}"
    return f"{value.quantize(Decimal(1).scaleb(value.adjusted() - 3), ROUND_HALF_EVEN):f}"


def ends(low: Decimal, high: Decimal) -> tuple[str, str]:
    """Both ends of an interval, the low one to no finer a digit than ten times finer than the high one's last."""
    said, shown = amount(high), amount(low)
    finest = len(said.partition(".")[2]) + 1
    if len(shown.partition(".")[2]) <= finest:
        return shown, said
    cut = low.quantize(Decimal(1).scaleb(-finest), ROUND_HALF_EVEN)
    return (f"{cut:f}" if cut else amount(cut)), said


def at_least(incomplete: bool, said: str) -> str:
    """A sum in words, where a part of it may be unknown."""
    return f"at least {said}" if incomplete and said != "unknown" else said


def counted(n: int, noun: str) -> str:
    """`1 call`, `2,000 calls`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def unit_cost(cost: CostPerSuccess) -> str:
    return f"{cost.qualifier} {amount(cost.value)}".strip()


def interval(cost: CostPerSuccess) -> str:
    return "-" if cost.low is None or cost.high is None else between(cost.low, cost.high)


def between(low: Decimal, high: Decimal) -> str:
    return " to ".join(ends(low, high))


def days(seconds: float) -> str:
    return f"{seconds / 86400:g} d" if seconds >= 86400 else f"{seconds / 3600:g} h"
