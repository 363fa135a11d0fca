"""What a call cost, and what it can cost at most: usage times the price valid when it ended.

**Unknown is None, never zero**: a call without a price, or without an answer, has no cost.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.cascade.keys import asked_tier
from orchestrator.cascade.model import Model
from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.errors import BadAnswer, CallTimedOut, ConnectionLost, ModelError
from orchestrator.records import TOKEN_CLASSES, Answer, CallState, Money, Provenance, Request, ServiceTier, Usage
from orchestrator.store.entries import PriceRecord

NOT_BILLED = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What is known of one call's cost. `costs` are the billionths of each of TOKEN_CLASSES, None where the cost is
    unknown or the provider's own."""

    state: CallState
    provenance: Provenance
    usage: Usage | None = None
    tier: ServiceTier | None = None
    cost: Money | None = None
    costs: tuple[int, ...] | None = None
    price: PriceEntry | None = None


class Pricing:
    """Prices the calls of one pipeline by its book (None: it has none)."""

    def __init__(self, book: PriceBook | None) -> None:
        self._book = book
        self._changes = [moment.timestamp() for moment in book.changes()] if book else []
        self._found: dict[tuple[str, str | None, int], PriceEntry | None] = {}

    def bound(self, model: Model, request: Request, most: Usage | None, at: float) -> Money | None:
        """The most that `request` can cost, of at most `most` tokens; None where nothing bounds these, or where its
        model has no price in the tier that is asked for."""
        entry = self._entry(model, None, at)
        return entry.bound(most, asked_tier(request, model.config)) if most and entry else None

    def answered(self, model: Model, answer: Answer, at: float) -> Bill:
        """What an answer cost: what the provider says, else its usage times the price of the model that answered."""
        if answer.cost is not None:
            return Bill(state="settled", provenance="provider", usage=answer.usage, tier=answer.tier, cost=answer.cost)
        kind: Provenance = "estimated" if answer.usage.estimated else "priced"
        return _priced(self._entry(model, answer.model, at), answer.usage, answer.tier, kind)

    def failed(self, model: Model, error: ModelError, at: float) -> Bill:
        """What a failed call cost: nothing where it never left or was refused; unknown where it may be billed."""
        entry = self._entry(model, error.answered, at)
        if error.usage is not None:
            return _priced(entry, error.usage, error.tier, "estimated" if error.usage.estimated else "priced")
        if error.sent and isinstance(error, (ConnectionLost, CallTimedOut, BadAnswer)):
            return Bill(state="unsettled", provenance="unsettled")
        free = Money(nano=0, currency=entry.currency) if entry else None
        return Bill(state="settled", provenance="priced" if entry else "unpriced", usage=NOT_BILLED, cost=free)

    def _entry(self, model: Model, answered: str | None, at: float) -> PriceEntry | None:
        if self._book is None:
            return None
        place = model.alias, answered, bisect_right(self._changes, at)  # between two changes every price stays
        if place not in self._found:
            config = model.config
            self._found[place] = self._book.entry_of(
                asked=model.client.name, kind=config.kind, answered=answered, price=config.price,
                at=datetime.fromtimestamp(at, UTC),
            )
        return self._found[place]


def believable(answer: Answer) -> Answer:
    """The answer, unless its figures can't be: then BadAnswer, and what it costs is not known. (Of our own clients
    none gives such a one; a `python:` model may.)"""
    for name in TOKEN_CLASSES:
        tokens = getattr(answer.usage, name)
        if not isinstance(tokens, int) or tokens < 0:
            raise BadAnswer(f"model {answer.model!r} told {tokens!r} {name} tokens: they are counted from 0 up")
    if answer.cost is not None and answer.cost.nano < 0:
        raise BadAnswer(f"model {answer.model!r} told a cost of {answer.cost}: a call can't cost less than nothing")
    return answer


def price_record(entry: PriceEntry, now: float) -> PriceRecord:
    return PriceRecord(version=entry.version_id, model=entry.model, body_json=entry.body_json, created_at=now)


def _priced(entry: PriceEntry | None, usage: Usage, tier: ServiceTier | None, kind: Provenance) -> Bill:
    if entry is None or not entry.covers(usage, tier):
        return Bill(state="settled", provenance="unpriced", usage=usage, tier=tier)
    costs = entry.costs(usage, tier)
    return Bill(
        state="settled", provenance=kind, usage=usage, tier=tier, cost=Money(nano=sum(costs), currency=entry.currency),
        costs=costs, price=entry,
    )
