"""One call written out: tokens of each class times the stored price, where that price is from, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy import Connection, select

from orchestrator.config.prices import PriceEntry
from orchestrator.finance.plain import plain_decimal
from orchestrator.records import TOKEN_CLASSES, Money, Usage
from orchestrator.store.statements import table
from orchestrator.store.tables import Price

_price = table(Price)
_TWELVE = Context(prec=12)
"""Figures of a rate that has no end, as that of a GPU's hour may."""


class Bills:
    """The stored prices, read once each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries: dict[str, PriceEntry | None] = {}

    def entry(self, version: str) -> PriceEntry | None:
        """None where the ledger does not have it, or it can't be read."""
        if version not in self._entries:
            wanted = select(_price.c.body_json).where(_price.c.version == version)
            body = self._connection.execute(wanted).scalar()
            try:
                self._entries[version] = None if body is None else PriceEntry.model_validate_json(body)
            except ValidationError:
                self._entries[version] = None
        return self._entries[version]

    def of(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """How a call's cost came about; None where no price was named."""
        if row["price_version"] is None:
            return None
        entry = self.entry(row["price_version"])
        tokens: dict[str, Any] = {name: row[f"{name}_tokens"] or 0 for name in TOKEN_CLASSES}
        usage = Usage(**tokens)
        if entry is None or not entry.covers(usage, row["tier"]):
            return {"price": row["price_version"], "source": None, "classes": [], "adds_up": None}
        costs = dict(zip(TOKEN_CLASSES, entry.costs(usage, row["tier"]), strict=True))
        return {
            "price": row["price_version"], "source": entry.source or None, "valid_from": entry.valid_from.isoformat(),
            "classes": [
                {"class": name, "tokens": getattr(usage, name),
                 "per_million": _rate(*entry.ratio(name, usage.prompt, row["tier"])),
                 "cost": money(nano, entry.currency)}
                for name, nano in costs.items() if getattr(usage, name)
            ],
            "adds_up": sum(costs.values()) == row["cost_nano"] and entry.currency == row["currency"],
        }


def _rate(top: int, bottom: int) -> str:
    return plain_decimal(_TWELVE.divide(Decimal(top), Decimal(bottom)))


def followed_by(row: dict[str, Any], calls: Sequence[dict[str, Any]]) -> Literal["asked_again", "redone"] | None:
    """What the run's other calls tell of a validator's answer. `asked_again`: it could not be read, since the same was
    asked once more. `redone`: its verdict was not served; whether it rejected, could not be read, or broke the output
    schema stands in no row. None: nothing, or there was no answer."""
    if row["role"] not in ("judge", "repair", "redo") or row["state"] != "settled" or row["error"] is not None:
        return None
    others = [(one["role"], one["sample"]) for one in calls if one["step"] == row["step"]]
    if any(role == row["role"] and sample > row["sample"] for role, sample in others):
        return "asked_again"
    return "redone" if row["role"] != "redo" and any(role == "redo" for role, _ in others) else None


def call_json(row: dict[str, Any], bills: Bills) -> dict[str, Any]:
    plain = ("call_id", "step", "role", "attempt", "sample", "model", "model_answered", "provider", "endpoint",
             "response_id", "state", "latency_ms", "finish_reason", "error", "price_version", "provenance", "account",
             "tier", "budget_day")
    usage = {name: row[f"{name}_tokens"] for name in TOKEN_CLASSES}
    return {
        **{key: row[key] for key in plain},
        "started_at": iso(row["started_at"]), "ended_at": iso(row["ended_at"]),
        "usage": None if usage["input"] is None else usage,
        "cost": money(row["cost_nano"], row["currency"]), "bound": money(row["bound_nano"], row["bound_currency"]),
        "bill": bills.of(row), "budgets": row["scopes"].split() if row["scopes"] else [],
    }


def money(nano: int | None, currency: str | None) -> str | None:
    return None if nano is None or currency is None else str(Money(nano=nano, currency=currency))


def iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
