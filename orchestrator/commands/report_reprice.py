"""report --reprice: what another price book would have said."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.finance.period import Period
    from orchestrator.finance.reprice import Repriced
    from orchestrator.store.engine import Store


def repriced_text(store: str, book: Path, period: Period, pipeline: str | None, *, as_json: bool) -> str:
    """The table, or one JSON document. Raises ConfigError where `book` is no price book."""
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import plain
    from orchestrator.finance.reprice import render_repriced, reprice
    from orchestrator.price_book import load_book

    prices = load_book(book)

    def read(opened: Store) -> Repriced:
        with opened.read() as connection:
            return reprice(connection, prices, period=period, pipeline=pipeline)

    found = with_store(store, lambda opened: asyncio.to_thread(read, opened))
    return (json.dumps(plain(found), indent=2) if as_json else render_repriced(found)) + "\n"
