"""Amounts, counts and shares as people read them. What is not known is said in words, never shown as 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.money_sums import exact_sum


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


FINEST = 9
"""Places of a billionth, as the ledger counts."""


def adding_up(parts: Sequence[Decimal]) -> tuple[tuple[str, ...], str]:
    """Amounts and their sum, all to one digit: so fine that each part shows as many figures as `amount` gives it, and
    that what is shown adds up, as far as billionths."""
    wanted = max((len(amount(one).partition(".")[2]) for one in parts if one), default=2)
    for places in range(min(wanted, FINEST), FINEST + 1):
        shown = [_to(one, places) for one in parts]
        if sum(shown) == _to(exact_sum(parts), places):
            break
    return tuple(f"{one:,f}" for one in shown), f"{sum(shown, Decimal(0)):,f}"


def _to(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN) + 0  # 0 has no sign


def at_least(incomplete: bool, said: str) -> str:
    """A sum in words, where a part of it may be unknown."""
    return f"at least {said}" if incomplete and said != "unknown" else said


def counted(n: int, noun: str) -> str:
    """`1 call`, `2,000 calls`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def unit_cost(cost: CostPerSuccess, times: int = 1, signed: Callable[[str], str] = str) -> str:
    """`0.0027`, `at least 0.0027`, or the range that it lies in; of `times` successes. `signed` puts a currency to a
    number."""
    if cost.value is not None:
        return f"{cost.qualifier} {signed(amount(cost.value * times))}".strip()
    if cost.own_low is None:
        return amount(None)
    if cost.own_high is None:
        return f"at least {signed(amount(cost.own_low * times))}"
    return " to ".join(map(signed, ends(cost.own_low * times, cost.own_high * times)))


def interval(cost: CostPerSuccess) -> str:
    return "-" if cost.low is None or cost.high is None else between(cost.low, cost.high)


def between(low: Decimal, high: Decimal) -> str:
    return " to ".join(ends(low, high))


def days(seconds: float) -> str:
    return f"{seconds / 86400:g} d" if seconds >= 86400 else f"{seconds / 3600:g} h"
