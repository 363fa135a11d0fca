"""What a price is made of: exact figures, moments, prices by token class, hardware by the hour. No float in any."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from orchestrator.config.pipeline import Strict

PricedTier = Literal["batch", "flex", "priority"]
_NUMBER = WithJsonSchema({"type": ["string", "number"]})


def _exact(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{value!r} is not a price")
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a price: write a number") from None
    if not exact.is_finite():
        raise ValueError(f"{value!r} is not a price: write a finite number")
    return exact


def _moment(value: object) -> date | datetime:
    """A day, or a moment in UTC."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) <= len("2026-11-01") else datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is no day or moment: write 2026-11-01 or 2026-11-01T12:00:00Z") from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()!r} names no time zone: end it with Z")
        return value.astimezone(UTC)
    if isinstance(value, date):
        return value
    raise ValueError(f"{value!r} is no day or moment: write 2026-11-01 or 2026-11-01T12:00:00Z")


Price = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0), _NUMBER]
Factor = Annotated[Decimal, BeforeValidator(_exact), Field(gt=0), _NUMBER]
Moment = Annotated[
    date | datetime, PlainValidator(_moment),
    PlainSerializer(lambda moment: moment.isoformat(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
"""A day (from its first moment, UTC) or a moment."""


def instant(moment: date | datetime) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.combine(moment, time(), UTC)


class TokenPrices(Strict):
    """Price of a million tokens of each class. A class left out is billed as the one it is of, as providers do where
    they say nothing else: `reasoning` and `output_audio` as `output`, `cache_write_1h` as `cache_write`, the rest as
    `input`."""

    input: Price
    output: Price
    input_audio: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = None
    output_audio: Price | None = None
    reasoning: Price | None = None

    def of(self, token_class: str) -> Decimal:
        own: Decimal | None = getattr(self, token_class)
        if own is not None:
            return own
        if token_class == "cache_write_1h" and self.cache_write is not None:
            return self.cache_write
        return self.output if token_class in ("reasoning", "output_audio") else self.input


class Above(Strict):
    """What every token of a call costs whose prompt, cached parts included, is longer than `prompt_tokens`."""

    prompt_tokens: Annotated[int, Field(gt=0)]
    per_million: TokenPrices
    tiers: Annotated[dict[PricedTier, TokenPrices], Field(default_factory=dict)]


class GpuHour(Strict):
    """A served model's hardware: `price` an hour and GPU, `gpus` of them, and what a GPU-second does at full load.

    `tokens_per_s` is the throughput of all GPUs together in weighted tokens (input tokens weigh `input_weight`,
    output tokens 1), measured once by `drafter bench`.
    """

    price: Price
    gpus: Annotated[int, Field(ge=1)] = 1
    tokens_per_s: Factor
    input_weight: Price = Decimal("0.1")
    cache_read_weight: Price = Decimal("0.01")

    def weight(self, token_class: str) -> Decimal:
        """Of one token of this class, in output tokens."""
        if token_class == "cache_read":
            return self.cache_read_weight
        return Decimal(1) if token_class in ("output", "output_audio", "reasoning") else self.input_weight

    def per_million(self, token_class: str) -> tuple[int, int]:
        """The price of a million tokens of this class, as an exact ratio."""
        top, bottom = (self.weight(token_class) * self.price).as_integer_ratio()
        rate, scale = self.tokens_per_s.as_integer_ratio()
        return top * self.gpus * scale * 1_000_000, bottom * rate * 3600


def half_even(numerator: int, denominator: int) -> int:
    """The nearest integer to the quotient, the even one of two: Python's `round`, without a Fraction."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def dearest(prices: Iterable[TokenPrices], classes: Iterable[str]) -> Decimal:
    wanted = tuple(classes)
    return max(one.of(token_class) for one in prices for token_class in wanted)
