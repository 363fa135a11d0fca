"""Which models of a pipeline have a price."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.config.loader import LoadedPipeline
from orchestrator.models.catalog import client_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedModel:
    """`name` is what the price book is asked for; `price` the entry's version, in `currency`: None without one."""

    model: str
    name: str
    price: str | None
    currency: str | None = None


def priced_models(loaded: LoadedPipeline) -> list[PricedModel]:
    """Each model of the pipeline with the version of its present price, or None."""
    today = datetime.now(UTC)
    found = []
    for name, config in loaded.config.models.items():
        asked = client_of(loaded, name).name
        entry = loaded.book.entry(asked, today) if loaded.book else None
        if entry is None and loaded.book and config.price:
            entry = loaded.book.entry(config.price, today)
        price, currency = (entry.name, entry.currency) if entry else (None, None)
        found.append(PricedModel(model=name, name=asked, price=price, currency=currency))
    return found
