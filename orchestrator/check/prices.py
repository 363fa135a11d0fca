"""Which models of a pipeline have a price."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

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


def how_to_price(loaded: LoadedPipeline, one: PricedModel) -> str:
    """What to write so that a model without a price has one, in words: near names of the book, and a command."""
    config, book = loaded.config.models[one.model], loaded.book
    file = shlex.quote(str(loaded.book_path)) if loaded.book_path else "FILE"
    # LiteLLM's table is of providers' names; what is served elsewhere is priced by hand
    figures = "" if config.kind == "litellm" else " --input X --output Y"
    pin = f"`orchestrator prices pin {shlex.quote(one.name)}{figures} --book {file}`"
    pin += "" if book else ", and name FILE under `prices:`"
    known = dict.fromkeys([*(entry.model for entry in book.prices), *book.aliases]) if book else {}
    near = " or ".join(map(repr, get_close_matches(one.name, known, 3)))
    return f"did you mean {near}? Then name that as the model's `price:`; else {pin}" if near else pin
