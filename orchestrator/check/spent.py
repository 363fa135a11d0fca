"""Budgets that a pipeline's calls fall under and that are spent, or nearly so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.check.finding import Finding
from orchestrator.check.recorded import recorded
from orchestrator.config.budget import moment
from orchestrator.config.loader import LoadedPipeline
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from orchestrator.store.budget_standings import BudgetStanding


def budget_findings(loaded: LoadedPipeline, store: str) -> Iterator[Finding]:
    """A warning for each that is past its soft limit or spent, or where the store can't be read."""
    try:
        standings = recorded(store, "budget_limit", _standings)
    except StoreError as error:
        yield Finding("warning", "store", f"it is not known how far budgets are spent: {error}")
        return
    config = loaded.config
    own = ("all", f"pipeline:{config.pipeline}", f"cost_center:{config.cost_center}")
    for one in standings:
        concerns = one.who in own or one.who.startswith((f"pipeline:{config.pipeline} ", "tenant:"))
        if one.state != "open" and concerns:
            words = f"{one.state}: {one.spent} of {one.limit} by the {one.span}; {moment(one.resets_at)}"
            yield Finding("warning", f"budget {one.who}", words)


def _standings(connection: Connection) -> list[BudgetStanding]:
    from orchestrator.store.budget_standings import standings

    return standings(connection, time.time())
