"""Prices as the store keeps them: each as it stood when a call was priced by it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.config.prices import PriceEntry


@lru_cache(maxsize=256)
def entry_of(body: str) -> PriceEntry:
    """The entry whose `body_json` it is."""
    from orchestrator.config.prices import PriceEntry

    return PriceEntry.model_validate_json(body)
