"""What another price book would have said of the calls in the ledger. Nothing is rewritten.

For `report --reprice BOOK.yaml`:

    reprice(connection, book, period=…, pipeline=…) -> Repriced        # pure data; see also render_repriced
    render_repriced(repriced) -> str                                   # the table

Money is rounded once a call and token class, so the calls are priced one by one, streamed, and never from summed
tokens. **Repricing with the book that priced them changes nothing**, to the last billionth: a call is looked up by the
name that it was priced by, and by the model that answered where it has no price or the book does not know the name.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, case, select

from orchestrator.config.prices import PriceBook, PriceEntry, nano_of
from orchestrator.finance.bridge import Bridge, bridges
from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.money_sums import by_currency
from orchestrator.finance.period import Period
from orchestrator.finance.scope import with_config, within
from orchestrator.records import TOKEN_CLASSES, Money, ServiceTier, Usage
from orchestrator.store.evidence import run
from orchestrator.store.statements import table
from orchestrator.store.tables import CallRow, Price

_ledger, _price = table(CallRow), table(Price)
_ROWS_AT_ONCE = 10_000
_PROMPT = TOKEN_CLASSES.index("output")
_OWN_BILL = frozenset({"provider", "cache"})
"""Costs that no book made, and none changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepricedLine:
    """Calls of one pipeline, role, model that answered, and tier: what the ledger says, and what the book would have.
    As in the report, `role` is calibration for all that calibrations asked.

    `unpriced` and `still_unpriced` used tokens and have no price in the one and in the other.
    """

    pipeline: str
    role: str
    model: str
    tier: str | None
    calls: int
    recorded: tuple[Money, ...]
    repriced: tuple[Money, ...]
    unpriced: int
    still_unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced:
    """`unsettled` calls have no usage, so no book can price them; they are in no line. `recorded_by` and `repriced_by`
    say of both sums how much of them the report has apart."""

    book: str
    period: str
    lines: tuple[RepricedLine, ...]
    recorded: tuple[Money, ...]
    repriced: tuple[Money, ...]
    unsettled: int
    recorded_by: tuple[Bridge, ...] = ()
    repriced_by: tuple[Bridge, ...] = ()


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    unpriced: int = 0
    still_unpriced: int = 0
    recorded: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    repriced: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))


class _Call(NamedTuple):
    """What the ledger says of one call."""

    pipeline: str
    role: str
    state: str
    provenance: str | None
    cost: int | None
    currency: str | None
    ended_at: float


class _Called(NamedTuple):
    """What its price depends on, save time and length: few distinct ones in a ledger."""

    config_id: str
    provider: str
    asked: str
    answered: str | None
    tier: ServiceTier | None
    priced_by: str | None


Tokens = Sequence[int | None]
"""Of each of TOKEN_CLASSES, the first _PROMPT of which are the prompt; the first is None where none were told."""
Ratios = tuple[tuple[int, int], ...]
"""Prices of a million tokens of each of TOKEN_CLASSES."""


def reprice(connection: Connection, book: PriceBook, *, period: Period, pipeline: str | None = None) -> Repriced:
    """The calls that ended in the period, by `book`."""
    sums: defaultdict[tuple[str, str, str, str | None], _Sum] = defaultdict(_Sum)
    unsettled = 0
    look_up = _LookUp(book, _price_aliases(connection), _priced_models(connection))
    for call, called, tokens in _calls(connection, period, pipeline):
        if call.state != "settled":
            unsettled += 1
            continue
        place = sums[call.pipeline, call.role, called.answered or called.asked, called.tier]
        _count(place, call, tokens, _cost(call, called, tokens, look_up))
    lines = tuple(
        RepricedLine(
            pipeline=key[0], role=key[1], model=key[2], tier=key[3], calls=one.calls, recorded=_money(one.recorded),
            repriced=_money(one.repriced), unpriced=one.unpriced, still_unpriced=one.still_unpriced,
        )
        for key, one in sorted(sums.items(), key=lambda item: [part or "" for part in item[0]])
    )
    return Repriced(
        book=book.book, period=str(period), lines=lines, unsettled=unsettled,
        recorded=by_currency(money for line in lines for money in line.recorded),
        repriced=by_currency(money for line in lines for money in line.repriced),
        recorded_by=bridges((line.role, money) for line in lines for money in line.recorded),
        repriced_by=bridges((line.role, money) for line in lines for money in line.repriced),
    )


def render_repriced(found: Repriced) -> str:
    """A table of plain text: what the ledger says beside what the book would have said."""
    rows = [("pipeline", "role", "model", "tier", "calls", "recorded", f"by {found.book}", "without a price")]
    rows += [
        (line.pipeline, line.role, line.model, line.tier or "standard", f"{line.calls:,}", _words(line.recorded),
         _words(line.repriced), f"{line.still_unpriced:,}")
        for line in found.lines
    ]
    calls, missing = (sum(getattr(one, name) for one in found.lines) for name in ("calls", "still_unpriced"))
    rows.append(("total", "", "", "", f"{calls:,}", _words(found.recorded), _words(found.repriced), f"{missing:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    end = [f"{found.unsettled:,} unsettled calls have no usage: no book can price them."] if found.unsettled else []
    if any(one.apart for one in found.recorded_by):
        end += [f"Recorded: {one.words}." for one in found.recorded_by]
        end += [f"By {found.book}: {one.words}." for one in found.repriced_by]
    return "\n".join([f"Repriced by {found.book}, {found.period}; the ledger is unchanged.", "", *lines, *end])


class _LookUp:
    """The book's entries, looked up once for each name and each span of time in which no price changes."""

    def __init__(
        self, book: PriceBook, aliases: Mapping[tuple[str, str, str], str], priced: Mapping[str, str]
    ) -> None:
        self._book, self._aliases, self._priced = book, aliases, priced
        self._changes = [moment.timestamp() for moment in book.changes()]
        self._entries: dict[tuple[_Called, int], PriceEntry | None] = {}
        self._ratios: dict[tuple[str, ServiceTier | None, int], Ratios | None] = {}

    def entry(self, called: _Called, at: float) -> PriceEntry | None:
        place = (called, bisect_right(self._changes, at))
        if place not in self._entries:
            self._entries[place] = self._entry(called, datetime.fromtimestamp(at, UTC))
        return self._entries[place]

    def _entry(self, called: _Called, at: datetime) -> PriceEntry | None:
        priced = self._priced.get(called.priced_by or "")
        if priced is not None and (found := self._book.entry(priced, at)) is not None:
            return found
        alias = self._aliases.get((called.config_id, called.provider, called.asked))
        return self._book.entry_of(
            asked=called.asked, kind=called.provider, answered=called.answered, price=alias, at=at
        )

    def ratios(self, entry: PriceEntry, tier: ServiceTier | None, prompt: int) -> Ratios | None:
        """The prices of a call whose prompt is so long; None where the entry has none."""
        place = (entry.version_id, tier, sum(prompt > one.prompt_tokens for one in entry.above))
        if place not in self._ratios:
            known = entry.covers(Usage(input=prompt), tier)
            self._ratios[place] = tuple(entry.ratio(c, prompt, tier) for c in TOKEN_CLASSES) if known else None
        return self._ratios[place]


def _cost(call: _Call, called: _Called, tokens: Tokens, look_up: _LookUp) -> tuple[int, str] | None:
    """Billionths and their currency; None where it can't be said."""
    if call.provenance in _OWN_BILL:
        return None if call.cost is None or call.currency is None else (call.cost, call.currency)
    if tokens[0] is None:
        return None
    entry = look_up.entry(called, call.ended_at)
    ratios = entry and look_up.ratios(entry, called.tier, sum(n or 0 for n in tokens[:_PROMPT]))
    if not entry or not ratios:
        return None
    return sum(nano_of(n, ratio) for n, ratio in zip(tokens, ratios, strict=True) if n), entry.currency


def _count(one: _Sum, call: _Call, tokens: Tokens, new: tuple[int, str] | None) -> None:
    used = tokens[0] is None or any(tokens)
    one.calls += 1
    if call.cost is not None and call.currency is not None:
        one.recorded[call.currency] += call.cost
    else:
        one.unpriced += used
    if new is not None:
        one.repriced[new[1]] += new[0]
    else:
        one.still_unpriced += used


def _calls(connection: Connection, period: Period, pipeline: str | None) -> Iterator[tuple[_Call, _Called, Tokens]]:
    c = _ledger.c
    role = case((config.c.mode == CALIBRATION, CALIBRATION), else_=c.role)
    wanted = [
        c.pipeline, role, c.state, c.provenance, c.cost_nano, c.currency, c.ended_at,
        run.c.config_id, c.provider, c.model, c.model_answered, c.tier, c.price_version,
        *(c[f"{name}_tokens"] for name in TOKEN_CLASSES),
    ]
    ended = (c.ended_at.is_not(None), within(c.ended_at, period))
    rows: Select[Any] = select(*wanted).select_from(with_config(_ledger.join(run, run.c.run_id == c.run_id)))
    rows = rows.where(*ended)
    if pipeline is not None:
        rows = rows.where(c.pipeline == pipeline)
    first, second = len(_Call._fields), len(_Call._fields) + len(_Called._fields)
    for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(rows):
        yield _Call._make(row[:first]), _Called._make(row[first:second]), row[second:]


def _priced_models(connection: Connection) -> dict[str, str]:
    """The names that the stored prices have in the book they came from, by version."""
    return {row.version: row.model for row in connection.execute(select(_price.c.version, _price.c.model))}


def _price_aliases(connection: Connection) -> dict[tuple[str, str, str], str]:
    """`price:` of the pipelines' models, by configuration, provider and model asked: the target of `use:`, or the name
    of the folder where it is a path."""
    found = {}
    for config_id, body_json in connection.execute(select(config.c.config_id, config.c.body_json)):
        models = (json.loads(body_json).get("pipeline") or {}).get("models") or {}
        for model in models.values():
            if model.get("price"):
                kind, _, target = str(model.get("use")).partition(":")
                for asked in (target.rstrip("/").rpartition("/")[2], target):
                    found[config_id, kind, asked] = str(model["price"])
    return found


def _money(sums: Mapping[str, int]) -> tuple[Money, ...]:
    return tuple(Money(nano=nano, currency=currency) for currency, nano in sorted(sums.items()))


def _words(amounts: tuple[Money, ...]) -> str:
    return " + ".join(map(str, amounts)) or "-"
