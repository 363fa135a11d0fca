"""report --reprice: what another price book would have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.finance.period import Period


def repriced_text(store: str, book: Path, period: Period, pipeline: str | None, *, as_json: bool) -> str:
    """The table, or one JSON document. Raises ConfigError where `book` is no price book."""
    from orchestrator.commands.opened import read_store
    from orchestrator.commands.output import plain
    from orchestrator.finance.reprice import render_repriced, reprice
    from orchestrator.price_book import load_book

    prices = load_book(book)

    found = read_store(store, lambda connection: reprice(connection, prices, period=period, pipeline=pipeline))
    return (json.dumps(plain(found), indent=2) if as_json else render_repriced(found)) + "\n"
