"""Unit prices of a charge's tokens, out of the price it was priced by: at list, and as contracted (its service tier).

FOCUS wants unit price times quantity to be the cost. Where one price does not give what the ledger says (a price with
tiers by context, the provider's own bill), the row is one unit at its cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from pydantic import ValidationError

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.breakdown import Charge
from orchestrator.records import Money

MILLION = Decimal(1_000_000)
TOKENS, UNITS = "1000000 Tokens", "Units"
PLACES = Decimal(1).scaleb(-12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """`quantity` of `unit`, each at `list_price` and `contracted`, in the charge's currency."""

    list_price: Decimal
    contracted: Decimal
    quantity: Decimal
    unit: str
    category: str


class UnitPrices:
    """The prices of the report's charges by their version."""

    def __init__(self, bodies: Mapping[str, Mapping[str, Any]]) -> None:
        self._entries = {version: _entry(body) for version, body in bodies.items()}

    def of(self, charge: Charge, name: str, cost: Money) -> Priced:
        entry = self._entries.get(charge.price_version or "")
        tokens = charge.tokens.get(name, 0)
        if entry is not None and tokens:
            contracted, listed = _price(entry, name, charge.tier), _price(entry, name, None)
            if contracted is not None and _gives(contracted, tokens, cost, charge.calls):
                return Priced(list_price=listed if listed is not None else contracted, contracted=contracted,
                              quantity=Decimal(tokens) / MILLION, unit=TOKENS,
                              category="Other" if entry.gpu_hour is not None else "Standard")
        return Priced(list_price=cost.amount, contracted=cost.amount, quantity=Decimal(1), unit=UNITS, category="Other")


def _entry(body: Mapping[str, Any]) -> PriceEntry | None:
    try:
        return PriceEntry.model_validate(body)
    except ValidationError:  # written by a version that knew more: its calls are shown at their cost
        return None


def _price(entry: PriceEntry, name: str, tier: Any) -> Decimal | None:
    try:
        top, bottom = entry.ratio(name, tier=tier)
    except ValueError:
        return None
    with localcontext(prec=40):
        return (Decimal(top) / Decimal(bottom)).quantize(PLACES).normalize() + 0


def _gives(price: Decimal, tokens: int, cost: Money, calls: int) -> bool:
    """Is that what the calls cost, each rounded to a billionth?"""
    with localcontext(prec=40):
        return abs(price * tokens / MILLION - cost.amount) <= Decimal(calls).scaleb(-9)
