"""What lines say that each class of tokens cost, held against the price: rows of calls hold their whole cost alone.

Each call was rounded once a class, half to even: a sum over calls lies within half a billionth a call of the tokens
times the price. A price that rises with the length of the prompt tells nothing of sums; there the classes must sum to
the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import BigInteger, Connection, cast, func, select

from orchestrator.config.prices import PriceEntry, nano_of
from orchestrator.finance.period import Period
from orchestrator.finance.scope import within
from orchestrator.finance.verify.by_hour import hour_in_words, whole_hours
from orchestrator.finance.verify.costs import StoredPrices
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import stream
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import line, line_key

_SUMS = ("calls", "priced", "by_class", "cost_nano",
         *(f"{name}_{unit}" for name in TOKEN_CLASSES for unit in ("tokens", "nano")))
_NAMES = ("step", "role", "model", "tier", "state", "price_version")


def class_costs(connection: Connection, prices: StoredPrices, period: Period) -> Iterator[Discrepancy]:
    """Of whole hours within the period: lines whose calls are all told by class."""
    names = [line_key.c[name] for name in _NAMES]
    sums = [cast(func.sum(line.c[name]), BigInteger).label(name) for name in _SUMS]
    rows = (
        select(line.c.hour, *names, *sums).select_from(line.join(line_key, line_key.c.key_id == line.c.key_id))
        .where(within(line.c.hour * HOUR_S, whole_hours(period))).group_by(line.c.hour, line.c.key_id, *names)
    )
    for row in stream(connection, rows):
        if row.by_class and row.by_class == row.priced:
            yield from _compared(row, prices.entries.get(row.price_version))


def _compared(row: Any, entry: PriceEntry | None) -> Iterator[Discrepancy]:
    classes = sum(getattr(row, f"{name}_nano") for name in TOKEN_CLASSES)
    if classes != row.cost_nano:
        yield _finding(row, f"its classes of tokens sum to {classes:,} billionths, its cost_nano is {row.cost_nano:,}")
        return
    if entry is None or entry.above or row.by_class != row.calls or not _has_tier(entry, row.tier):
        return
    for name in TOKEN_CLASSES:
        tokens, nano = getattr(row, f"{name}_tokens"), getattr(row, f"{name}_nano")
        due = nano_of(tokens, entry.ratio(name, 0, row.tier)) if tokens else 0
        if abs(nano - due) > row.calls // 2 + 1:
            at_price = f"{tokens:,} tokens times {row.price_version}"
            yield _finding(row, f"{name}_nano {nano:,}, its {at_price} come to {due:,}")
            return


def _has_tier(entry: PriceEntry, tier: Any) -> bool:
    try:
        entry.ratio(TOKEN_CLASSES[0], 0, tier)
    except ValueError:
        return False
    return True


def _finding(row: Any, words: str) -> Discrepancy:
    return Discrepancy(
        kind="total", table="call_line",
        words=f"the line of {hour_in_words(row.hour)}, {row.step} {row.role} by {row.model} ({row.state}): {words}",
    )
