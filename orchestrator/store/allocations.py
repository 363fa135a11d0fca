"""What a rented GPU cost in each UTC hour, idle time included, spread over the calls of that hour.

**The shares of a closed hour sum to its bill, and never change**: the hour's mark is written first, and only who wrote
it spreads the bill. A call that is settled later than that bears nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, func, select

from orchestrator.config.price_types import instant
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store import runs
from orchestrator.store.entries import PriceRecord
from orchestrator.store.keys import HOUR_S
from orchestrator.store.line_tables import Allocated
from orchestrator.store.lines import line, line_key
from orchestrator.store.own_tables import Setting
from orchestrator.store.prices import entry_of
from orchestrator.store.statements import Transaction, inserting, inserting_new, table, upserting
from orchestrator.store.tables import Price

if TYPE_CHECKING:
    from orchestrator.config.prices import PriceEntry

GRACE_S = 300.0
"""After the end of an hour: calls that end in it are settled by then, save where a store was out of reach."""
HOURS_AT_ONCE = 240
NOBODY = b""
"""The key of an hour's mark."""

allocated, _price, _setting = table(Allocated), table(Price), table(Setting)
_COLUMNS = ("hour", "model", "key_id", "price_version", "currency", "calls", "nano")
_BOOK = "gpu_hours:"
"""Of a setting: the versions of a model's price in the book that was opened last."""
_SAY = upserting(Setting, "name", "value")
_MARK, _SHARE = inserting_new(Allocated, *_COLUMNS), inserting(Allocated, *_COLUMNS)


def split(bill: int, weights: Sequence[Fraction]) -> list[int]:
    """`bill` in shares as near to proportional to `weights` as whole numbers can be, which sum to it: the largest
    remainders get the units that rounding down leaves (Hamilton 1792), of equal ones the first.

    Raises ValueError where no weight is above 0.
    """
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise ValueError(f"weights {weights!r}: at least one must be above 0, and none below")
    exact = [bill * weight / total for weight in weights]
    shares = [int(share // 1) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: bill - sum(shares)]:
        shares[i] += 1
    return shares


def record_gpu_hours(transaction: Transaction, prices: Sequence[PriceRecord]) -> None:
    """What a price book says of rented GPUs: hours without a call go by the book that was opened last."""
    runs.record_price(transaction, prices)
    versions: dict[str, list[str]] = {}
    for one in prices:
        versions.setdefault(one.model, []).append(one.version)
    transaction.many(_SAY, [(_BOOK + model, orjson.dumps(of).decode()) for model, of in sorted(versions.items())])


def rented(connection: Connection) -> dict[str, PriceEntry]:
    """The prices by the GPU hour that calls were priced by, by version, the first used first."""
    rows = connection.execute(
        select(_price.c.version, _price.c.body_json).where(_price.c.body_json.contains('"gpu_hour"'))
        .order_by(_price.c.created_at, _price.c.version)
    )
    return {version: entry_of(body) for version, body in rows}


def bill_of_hour(entry: PriceEntry) -> int:
    """Billionths of all its GPUs for an hour."""
    gpu = entry.gpu_hour
    assert gpu is not None
    return round(Fraction(gpu.price) * gpu.gpus * 1_000_000_000)


def work(entry: PriceEntry, tokens: Mapping[str, int]) -> Fraction:
    """In tokens that weigh 1: what usage cost is by, too."""
    gpu = entry.gpu_hour
    assert gpu is not None
    return sum((n * Fraction(gpu.weight(name)) for name, n in tokens.items() if n), Fraction(0))


def close_hours(transaction: Transaction) -> int:
    """Spread the bills of up to HOURS_AT_ONCE hours a model that have ended, in order; how many were closed."""
    entries = rented(transaction.connection)
    end = int((transaction.now - GRACE_S) // HOUR_S)  # the first hour that is not over yet
    closed = 0
    for model in sorted({entry.model for entry in entries.values()}):
        versions = {version: entry for version, entry in entries.items() if entry.model == model}
        start = _first_open(transaction.connection, model, versions)
        if start is not None and start < end:
            closed += _close(transaction, model, versions, range(start, min(end, start + HOURS_AT_ONCE)))
    return closed


def unclosed(connection: Connection, until: float) -> list[str]:
    """The models of rented GPUs with an hour that starts before `until` and is not closed."""
    models: dict[str, list[str]] = {}
    for version, entry in rented(connection).items():
        models.setdefault(entry.model, []).append(version)
    first = {model: _first_open(connection, model, versions) for model, versions in sorted(models.items())}
    return [model for model, hour in first.items() if hour is not None and hour * HOUR_S < until]


def _first_open(connection: Connection, model: str, versions: Iterable[str]) -> int | None:
    """A GPU is billed from the hour of its first call on."""
    last = connection.execute(select(func.max(allocated.c.hour)).where(allocated.c.model == model)).scalar_one()
    if last is not None:
        return int(last) + 1
    first: int | None = connection.execute(
        select(func.min(line.c.hour)).join(line_key, line_key.c.key_id == line.c.key_id)
        .where(line_key.c.price_version.in_(list(versions)))
    ).scalar_one()
    return first


def _close(transaction: Transaction, model: str, versions: Mapping[str, PriceEntry], hours: range) -> int:
    used = _used(transaction, versions, hours)
    in_book = _in_book(transaction, model, versions)
    billed_by = _last_billed_by(transaction, model, hours.start)
    closed = 0
    for hour in hours:
        of_hour = used.get(hour, [])
        called = {row.price_version for row in of_hour}
        if called:
            version: str | None = _of_calls(versions, called, in_book, hour)
        else:
            version = _without_calls(versions, in_book, billed_by, hour)
        bill = bill_of_hour(versions[version]) if version else 0
        weights = [work(versions[row.price_version], _tokens(row)) for row in of_hour]
        shares = split(bill, weights) if any(weights) else []
        billed_by = version or billed_by or next(iter(versions))
        currency = versions[billed_by].currency
        mark = (hour, model, NOBODY, billed_by, currency, 0, bill - sum(shares))
        if transaction.many(_MARK, [mark]) != 1:
            continue  # another process has closed it
        closed += 1
        transaction.many(_SHARE, [
            (hour, model, row.key_id, billed_by, currency, int(row.calls), share)
            for row, share in zip(of_hour, shares, strict=True)
        ] if shares else [])
    return closed


def _used(transaction: Transaction, versions: Iterable[str], hours: range) -> dict[int, list[Any]]:
    """The lines of these prices, by hour, in a fixed order."""
    sums = [func.sum(line.c[f"{name}_tokens"]).label(name) for name in TOKEN_CLASSES]
    rows = transaction.execute(
        select(line.c.hour, line.c.key_id, line_key.c.price_version, func.sum(line.c.calls).label("calls"), *sums)
        .join(line_key, line_key.c.key_id == line.c.key_id)
        .where(line_key.c.price_version.in_(list(versions)), line.c.hour >= hours.start, line.c.hour < hours.stop)
        .group_by(line.c.hour, line.c.key_id, line_key.c.price_version).order_by(line.c.hour, line.c.key_id)
    )
    found: dict[int, list[Any]] = {}
    for row in rows:
        found.setdefault(row.hour, []).append(row)
    return found


def _tokens(row: Any) -> dict[str, int]:
    return {name: int(getattr(row, name)) for name in TOKEN_CLASSES}


def _in_book(transaction: Transaction, model: str, versions: Mapping[str, PriceEntry]) -> list[str]:
    said = transaction.execute(select(_setting.c.value).where(_setting.c.name == _BOOK + model)).scalar_one_or_none()
    return [version for version in (orjson.loads(said) if said else []) if version in versions]


def _last_billed_by(transaction: Transaction, model: str, before: int) -> str | None:
    """By which version the last closed hour was billed."""
    version: str | None = transaction.execute(
        select(allocated.c.price_version)
        .where(allocated.c.model == model, allocated.c.key_id == NOBODY, allocated.c.hour < before)
        .order_by(allocated.c.hour.desc()).limit(1)
    ).scalar_one_or_none()
    return version


def _of_calls(
    versions: Mapping[str, PriceEntry], called: Collection[str], in_book: Collection[str], hour: int
) -> str:
    """By which of the versions that priced the hour's calls it is billed: one of the book, valid at its start, the
    last recorded, in this order."""
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    rank = {version: i for i, version in enumerate(versions)}
    return max(called, key=lambda version: (version in in_book, versions[version].is_valid(at), rank[version]))


def _without_calls(
    versions: Mapping[str, PriceEntry], in_book: Sequence[str], before: str | None, hour: int
) -> str | None:
    """As the book has it, or, where no pipeline with a price of this model was ever opened, as in the hour before.
    None: nothing was rented then. An older version is never gone back to: what ended has ended."""
    at = datetime.fromtimestamp(hour * HOUR_S, UTC)
    known = in_book or ([before] if before else [])
    valid = [version for version in known if versions[version].is_valid(at)]
    return max(valid, key=lambda version: instant(versions[version].valid_from)) if valid else None
