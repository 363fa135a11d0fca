"""Durations, money and shares as people write them in YAML."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from orchestrator.config.currencies import require_currency
from orchestrator.records import Money

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_MONEY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([A-Z]{3})\s*$")


def parse_duration(value: Any) -> float:
    """`60s`, `5m`, `1h`, `30d` (ms, s, m, h, d, w) as seconds."""
    if isinstance(value, str) and (found := _DURATION.match(value)):
        return float(found[1]) * _UNIT_S[found[2]]
    raise ValueError(f"{value!r} is not a duration: write a number and a unit, like 60s, 5m, 1h or 30d")


def parse_money(value: Any) -> Money:
    """`50 USD` or `0.50USD`: an exact amount and a currency code, with at most nine decimal places."""
    if isinstance(value, Money):
        return value
    if isinstance(value, str) and (found := _MONEY.match(value)):
        nano = Decimal(found[1]).scaleb(9)
        if nano == nano.to_integral_value():
            return Money(nano=int(nano), currency=require_currency(found[2]))
    raise ValueError(f"{value!r} is not an amount of money: write a number and a currency code, like 50 USD")


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d|w)$", "examples": ["60s", "30d"]}),
]
Amount = Annotated[
    Money,
    BeforeValidator(parse_money),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?[A-Z]{3}$", "examples": ["50 USD"]}),
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
