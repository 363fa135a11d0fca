"""Durations, money and shares as people write them in YAML."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from orchestrator.config.currencies import require_currency
from orchestrator.records import Money

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SHARE = re.compile(r"^\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*(%?)\s*$", re.ASCII)
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


def parse_share(value: Any) -> Decimal:
    """`3%` or `0.03` as exactly 0.03: from 0 to 1. Raises ValueError that says what to write; a plain 80 might be 80%,
    and is not guessed."""
    if isinstance(value, str | int | float | Decimal) and not isinstance(value, bool):
        found = _SHARE.match(str(value))
        number, percent = (Decimal(found[1]), bool(found[2])) if found else (Decimal(-1), False)
        if 0 <= (share := number / 100 if percent else number) <= 1:
            return share
        if 1 < number < 100:
            raise ValueError(f"{value!r} is not a share: write {number}% or {number / 100}")
    raise ValueError(f"{value!r} is not a share: write a percentage from 0% to 100%, like 3%, or a number like 0.03")


def parse_inner_share(value: Any) -> Decimal:
    """A share that is neither nothing nor all. Raises ValueError."""
    if 0 < (share := parse_share(value)) < 1:
        return share
    raise ValueError(f"{value!r} is not a share above 0% and below 100%: write one like 3%, or 0.03")


def _parse_some(value: Any) -> Decimal:
    if share := parse_share(value):
        return share
    raise ValueError(f"{value!r} is not a share above 0%: write one like 3%, or 0.03")


_PERCENTAGE = {"type": "string", "pattern": r"^\d{1,3}(\.\d+)? ?%$"}


def _share_schema(**bounds: float) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number", **bounds}, _PERCENTAGE], "examples": ["3%", 0.03]})


Share = Annotated[float, BeforeValidator(parse_share), _share_schema(minimum=0, maximum=1)]
SomeShare = Annotated[float, BeforeValidator(_parse_some), _share_schema(exclusiveMinimum=0, maximum=1)]
"""Above 0."""
InnerShare = Annotated[float, BeforeValidator(parse_inner_share), _share_schema(exclusiveMinimum=0, exclusiveMaximum=1)]
"""Above 0 and below 1."""
ExactShare = Annotated[
    Decimal, BeforeValidator(parse_inner_share), _share_schema(exclusiveMinimum=0, exclusiveMaximum=1)
]
"""The same, of money: no rounding."""
