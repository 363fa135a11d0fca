"""What a call cost, and what it can cost at most: usage times the price valid when it ended.

**Unknown is None, never zero**: a call without a price, or without an answer, has no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.cascade.model import Model
from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.errors import BadAnswer, CallTimedOut, ConnectionLost, ModelError
from orchestrator.records import Answer, CallState, Money, Provenance, ServiceTier, Usage
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

    def bound(self, model: Model, most: Usage, at: float) -> Money | None:
        """The most that a call of at most this usage can cost; None where its model has no price."""
        entry = self._entry(model, model.client.name, at)
        return entry.cost(most) if entry else None

    def answered(self, model: Model, answer: Answer, at: float) -> Bill:
        """What an answer cost: what the provider says, else its usage times the price of the model that answered."""
        if answer.cost is not None:
            return Bill(state="settled", provenance="provider", usage=answer.usage, tier=answer.tier, cost=answer.cost)
        kind: Provenance = "estimated" if answer.usage.estimated else "priced"
        return _priced(self._entry(model, answer.model, at), answer.usage, answer.tier, kind)

    def failed(self, model: Model, error: ModelError, at: float) -> Bill:
        """What a failed call cost: nothing where it never left or was refused; unknown where it may be billed."""
        entry = self._entry(model, model.client.name, at)
        if error.usage is not None:
            return _priced(entry, error.usage, None, "estimated")
        if error.sent and isinstance(error, (ConnectionLost, CallTimedOut, BadAnswer)):
            return Bill(state="unsettled", provenance="unsettled")
        free = Money(nano=0, currency=entry.currency) if entry else None
        return Bill(state="settled", provenance="priced" if entry else "unpriced", usage=NOT_BILLED, cost=free)

    def _entry(self, model: Model, answered: str, at: float) -> PriceEntry | None:
        """The price of the model that answered; the pipeline's own `price:` alias only where it is the one asked."""
        if self._book is None:
            return None
        moment = datetime.fromtimestamp(at, UTC)
        names = [answered]
        if model.is_called(answered):
            names += [model.client.name, *([model.config.price] if model.config.price else [])]
        return next((entry for name in names if (entry := self._book.entry(name, moment)) is not None), None)


def price_record(entry: PriceEntry, now: float) -> PriceRecord:
    return PriceRecord(version=entry.version_id, model=entry.model, body_json=entry.body_json, created_at=now)


def _priced(entry: PriceEntry | None, usage: Usage, tier: ServiceTier | None, kind: Provenance) -> Bill:
    if entry is None:
        return Bill(state="settled", provenance="unpriced", usage=usage, tier=tier)
    costs = entry.costs(usage, tier)
    return Bill(
        state="settled", provenance=kind, usage=usage, tier=tier, cost=Money(nano=sum(costs), currency=entry.currency),
        costs=costs, price=entry,
    )
