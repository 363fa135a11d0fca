"""Lines from the rows of `call` themselves: what the lines must be, for hours cut by a period, and for checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from orchestrator.store import cells, lines
from orchestrator.store.calls import usage_of
from orchestrator.store.evidence import outcome
from orchestrator.store.lines import CALLS, Lines, add, amounts_of_row, call, place_of
from orchestrator.store.prices import entry_of
from orchestrator.store.statements import Transaction, table
from orchestrator.store.tables import Price

Pricing = Callable[[Any], "tuple[int, ...] | None"]
"""The billionths of each of TOKEN_CLASSES that a row of `call` was billed; None where it was not priced by them."""


def of_rows(connection: Connection, *where: ColumnElement[bool]) -> Lines:
    """The lines of some calls, each priced again by the price it names. Calls in flight stand in the hour they
    started in."""
    pricing = pricing_of(connection)
    found: Lines = {}
    for row in connection.execute(CALLS.where(*where).execution_options(yield_per=10_000)):
        add(found, place_of(row, row), amounts_of_row(row, pricing(row)))
    return found


def move(transaction: Transaction, run_id: str, old_config_id: str, old_tags_json: str) -> None:
    """A run goes on under another configuration, or other tags: so do the calls that it has made."""
    moved: Lines = {}
    for (hour, key), amounts in of_rows(
        transaction.connection, call.c.run_id == run_id, call.c.ended_at.is_not(None)
    ).items():
        add(moved, (hour, key), amounts)
        add(moved, (hour, key._replace(config_id=old_config_id, tags_json=old_tags_json)), amounts, -1)
    lines.write(transaction, moved)


def pricing_of(connection: Connection) -> Pricing:
    """From the prices that the store keeps. A cost that its price does not give (one the provider named itself, say)
    is not of classes."""
    price = table(Price)
    entries = {row.version: entry_of(row.body_json) for row in connection.execute(select(price))}

    def costs(row: Any) -> tuple[int, ...] | None:
        entry = entries.get(row.price_version)
        if entry is None or row.cost_nano is None or row.input_tokens is None:
            return None
        found: tuple[int, ...] = entry.costs(usage_of(row), row.tier)
        return found if sum(found) == row.cost_nano else None

    return costs


def rebuild(connection: Connection) -> None:
    """All lines from their calls' rows, and all runs queued to be counted: for a ledger that has neither yet, and one
    whose sums are not those of its rows."""
    for emptied in (lines.line, lines.line_key, cells.run_cell, cells.cost_cell, cells.run_key, cells.uncounted):
        connection.execute(emptied.delete())
    transaction = Transaction(connection=connection, owner_id="", now=0.0, lease_s=0.0)
    lines.write(transaction, of_rows(connection, lines.call.c.ended_at.is_not(None)))
    connection.execute(cells.uncounted.insert().from_select(["run_id"], select(outcome.c.run_id)))
