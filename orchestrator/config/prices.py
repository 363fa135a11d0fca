"""The price book, and the one place where usage becomes money. Exact: Decimal in, integer billionths out."""

from __future__ import annotations

from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from orchestrator.canonical import canonical
from orchestrator.config.pipeline import Strict, fault
from orchestrator.records import TOKEN_CLASSES, Money, ServiceTier, Usage


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


Price = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0), WithJsonSchema({"type": ["string", "number"]})]


class TokenPrices(Strict):
    """Price of a million tokens of each class. A class left out is unknown, save that `reasoning` falls to
    `output`, and the others to the class they are of, as providers bill them where they say nothing else."""

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


class GpuHour(Strict):
    """A served model's hardware: `price` an hour and GPU, `gpus` of them, and what a GPU-second does at full load.

    `tokens_per_s` is the throughput of all GPUs together in weighted tokens (input tokens weigh `input_weight`,
    output tokens 1), measured once by `drafter bench`.
    """

    price: Price
    gpus: Annotated[int, Field(ge=1)] = 1
    tokens_per_s: Annotated[Decimal, Field(gt=0)]
    input_weight: Annotated[Decimal, Field(ge=0)] = Decimal("0.1")
    cache_read_weight: Annotated[Decimal, Field(ge=0)] = Decimal("0.01")

    def weight(self, token_class: str) -> Decimal:
        """Of one token of this class, in output tokens."""
        if token_class == "cache_read":
            return self.cache_read_weight
        return Decimal(1) if token_class in ("output", "output_audio", "reasoning") else self.input_weight


class PriceEntry(Strict):
    model: str
    version: str = ""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    valid_from: date = date(1970, 1, 1)
    source: str = ""
    per_million: TokenPrices | None = None
    gpu_hour: GpuHour | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> PriceEntry:
        if (self.per_million is None) == (self.gpu_hour is None):
            raise ValueError("an entry has either `per_million:` or `gpu_hour:`")
        return self

    @property
    def name(self) -> str:
        return self.version or f"{self.model}@{self.valid_from.isoformat()}"

    @cached_property
    def version_id(self) -> str:
        """The name, and a digest of all that the entry says: what a call stores, and what `verify` looks up."""
        return f"{self.name}#{sha256(self.body_json.encode()).hexdigest()[:8]}"

    @cached_property
    def body_json(self) -> str:
        return canonical(self.model_dump(mode="json", exclude_none=True)).decode()

    def cost(self, usage: Usage, tier: ServiceTier | None = None) -> Money:
        """Usage times price: one rounding, half even, per token class."""
        return Money(nano=sum(self.costs(usage, tier)), currency=self.currency)

    def costs(self, usage: Usage, tier: ServiceTier | None = None) -> tuple[int, ...]:
        """The billionths of each of TOKEN_CLASSES."""
        return tuple(self._class_nano(c, getattr(usage, c)) for c in TOKEN_CLASSES)

    def _class_nano(self, token_class: str, tokens: int) -> int:
        if not tokens:
            return 0
        if self.per_million is not None:
            exact = self.per_million.of(token_class) * tokens * 1000  # 1e9 / 1e6
        else:
            gpu = self.gpu_hour
            assert gpu is not None
            work = tokens * gpu.weight(token_class)
            exact = work / gpu.tokens_per_s * gpu.price * gpu.gpus / 3600 * 1_000_000_000
        return int(exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


class PriceBook(Strict):
    """`book` names the version; `aliases` map a served name to a priced one, explicitly, never by prefix."""

    book: str
    prices: tuple[PriceEntry, ...] = ()
    aliases: Annotated[dict[str, str], Field(default_factory=dict)]
    accounts: Annotated[dict[str, dict[str, str]], Field(default_factory=dict)]
    kind: Literal["prices"] = "prices"

    @model_validator(mode="after")
    def _one_price_a_day(self) -> PriceBook:
        seen: set[tuple[str, date]] = set()
        for i, entry in enumerate(self.prices):
            if (entry.model, entry.valid_from) in seen:
                raise fault(f"{entry.model!r} has two prices from {entry.valid_from}", "prices", i, "model")
            seen.add((entry.model, entry.valid_from))
        return self

    def entry(self, model: str, at: datetime) -> PriceEntry | None:
        """The entry of `model` (or of its alias) valid at `at`; None where the book has none."""
        day = at.date()
        for name in (model, self.aliases.get(model)):
            fitting = [e for e in self.prices if e.model == name and e.valid_from <= day]
            if fitting:
                return max(fitting, key=lambda e: e.valid_from)
        return None
