"""Sums of money. What is not known is left out of them, and what nobody knows is None, never 0."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext

from orchestrator.records import Money


def total(amounts: Iterable[Money | None]) -> Money | None:
    """The sum of what is known; None where nothing is. All of one currency."""
    known = [one for one in amounts if one is not None]
    return Money(nano=sum(one.nano for one in known), currency=known[0].currency) if known else None


def by_currency(amounts: Iterable[Money | None]) -> tuple[Money, ...]:
    """The sum of what is known in each currency, in their order."""
    sums: dict[str, int] = {}
    for one in amounts:
        if one is not None:
            sums[one.currency] = sums.get(one.currency, 0) + one.nano
    return tuple(Money(nano=nano, currency=code) for code, nano in sorted(sums.items()))


def exact_sum(amounts: Iterable[Decimal | None]) -> Decimal:
    """However many places they have; None is nothing."""
    with localcontext(prec=80):
        return sum((one for one in amounts if one is not None), Decimal(0))
