"""Money of one currency told in another, at the pinned rate of the UTC day on which the calls ended.

For `report --currency`: sum what is alike per currency and UTC day, then

    convert([(day, money), …], to="EUR", rates=book.rates) -> Money

**The day's sum is converted, not the calls: one rounding, half even, a sum.** What is converted at once therefore adds
up to the last billionth only with itself; the recorded currency stays the one of the books.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

from orchestrator.config.price_types import half_even
from orchestrator.config.prices import Rate
from orchestrator.errors import InputError
from orchestrator.records import Money


def utc_day(at: float) -> date:
    """Of UTC epoch seconds."""
    return datetime.fromtimestamp(at, UTC).date()


def convert(spent: Iterable[tuple[date, Money]], to: str, rates: Sequence[Rate]) -> Money:
    """The sum, in `to`, of what calls that ended on these UTC days cost; in whatever pieces a day's sum comes, the
    result is the same.

    Raises InputError where a day has no rate from its currency.
    """
    days: defaultdict[tuple[date, str], int] = defaultdict(int)
    for day, money in spent:
        days[day, money.currency] += money.nano
    nano = sum(in_currency(n, currency, to, day, rates) for (day, currency), n in sorted(days.items()))
    return Money(nano=nano, currency=to)


def in_currency(nano: int, currency: str, to: str, day: date, rates: Sequence[Rate]) -> int:
    """`nano` of `currency` in billionths of `to`, at the latest rate of the pair that is valid on `day`; a rate given
    the other way round is divided by. Rates are not chained. Raises InputError where there is none."""
    if currency == to or nano == 0:
        return nano
    rate = rate_of(currency, to, day, rates)
    top, bottom = rate.rate.as_integer_ratio()
    return half_even(nano * top, bottom) if rate.from_ == currency else half_even(nano * bottom, top)


def rate_of(currency: str, to: str, day: date, rates: Sequence[Rate]) -> Rate:
    """The rate that `in_currency` takes on `day`: it may be pinned the other way round. Raises InputError."""
    found = [r for r in rates if {r.from_, r.to} == {currency, to} and r.valid_from <= day]
    if not found:
        raise InputError(
            f"there is no rate from {currency} to {to} for {day}",
            hint=f"add it to the price book's `rates:`, from {currency}, to {to}, valid from {day} or earlier",
        )
    return max(found, key=lambda r: r.valid_from)
