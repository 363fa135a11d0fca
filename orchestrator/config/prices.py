"""The price book, and the one place where usage becomes money. Exact: Decimal in, integer billionths out.

**A call is priced by the entry valid at its end, of the model that answered, in the tier that served it, or not at
all.** What the book does not say has no price.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orchestrator.canonical import canonical
from orchestrator.config.pipeline import Strict, fault
from orchestrator.config.price_types import (
    Above,
    Factor,
    GpuHour,
    Moment,
    PricedTier,
    TokenPrices,
    dearest,
    half_even,
    instant,
)
from orchestrator.records import TOKEN_CLASSES, Money, ServiceTier, Usage

_READ = ("input", "cache_read", "cache_write", "cache_write_1h")
_WRITTEN = ("output", "reasoning")
_PER_MILLION = 1000
"""Billionths of a unit over a million tokens."""
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class PriceEntry(Strict):
    """One model's price from `valid_from` on, until `valid_to` (outside it) or until a later entry begins."""

    model: str
    version: str = ""
    currency: Currency = "USD"
    valid_from: Moment = date(1970, 1, 1)
    valid_to: Moment | None = None
    source: str = ""
    per_million: TokenPrices | None = None
    tiers: Annotated[dict[PricedTier, TokenPrices], Field(default_factory=dict)]
    above: tuple[Above, ...] = ()
    gpu_hour: GpuHour | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> PriceEntry:
        if (self.per_million is None) == (self.gpu_hour is None):
            raise ValueError("an entry has either `per_million:` or `gpu_hour:`")
        if self.gpu_hour is not None and (self.tiers or self.above):
            raise ValueError("`tiers:` and `above:` go with `per_million:`, not with `gpu_hour:`")
        limits = [one.prompt_tokens for one in self.above]
        if limits != sorted(set(limits)):
            raise fault(f"`above:` wants rising `prompt_tokens:`, each once, not {limits}", "above")
        if self.valid_to is not None and instant(self.valid_to) <= instant(self.valid_from):
            raise fault(f"{self.valid_to} is not after `valid_from:` {self.valid_from}", "valid_to")
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

    def is_valid(self, at: datetime) -> bool:
        return instant(self.valid_from) <= at and (self.valid_to is None or at < instant(self.valid_to))

    def covers(self, usage: Usage, tier: ServiceTier | None = None) -> bool:
        """Does the book say what a call of this usage costs in this tier?"""
        return self.gpu_hour is not None or self._token_prices(usage.prompt, tier) is not None

    def cost(self, usage: Usage, tier: ServiceTier | None = None) -> Money:
        """Usage times price: one rounding, half even, per token class. Raises ValueError where it has no price."""
        return Money(nano=sum(self.costs(usage, tier)), currency=self.currency)

    def costs(self, usage: Usage, tier: ServiceTier | None = None) -> tuple[int, ...]:
        """The billionths of each of TOKEN_CLASSES. Raises ValueError where `covers` says no."""
        prompt = usage.prompt
        return tuple(
            nano_of(n, self.ratio(c, prompt, tier)) if (n := getattr(usage, c)) else 0 for c in TOKEN_CLASSES
        )

    def ratio(self, token_class: str, prompt: int = 0, tier: ServiceTier | None = None) -> tuple[int, int]:
        """The price of a million tokens, in currency units, as an exact ratio."""
        if self.gpu_hour is not None:
            return self.gpu_hour.per_million(token_class)
        prices = self._token_prices(prompt, tier)
        if prices is None:
            raise ValueError(f"price {self.name!r} says nothing of tier {tier!r} for a prompt of {prompt} tokens")
        return prices.of(token_class).as_integer_ratio()

    def bound(self, most: Usage, tier: ServiceTier | None = None, *, prompt: int | None = None) -> Money | None:
        """The most that a call of at most `most.input` and `most.output` tokens can cost, however its text is split
        among the classes, in the standard tier or in `tier` if that is asked for. None where that has no price.

        `prompt`: the longest prompt of one call, where `most` is of many.
        """
        inputs, outputs = most.prompt, most.total - most.prompt
        longest = most.prompt if prompt is None else prompt
        above = sum(one.prompt_tokens < longest for one in self.above)
        if (above, tier) not in self._dearest:
            self._dearest[above, tier] = self._dearest_of(above, tier)
        found = self._dearest[above, tier]
        if found is None:
            return None
        both = zip(found, (inputs, outputs), strict=True)
        nano = sum(-(-top * n * _PER_MILLION // bottom) for (top, bottom), n in both)
        exact = all(top * _PER_MILLION % bottom == 0 for top, bottom in found)
        return Money(nano=nano if exact else nano + len(TOKEN_CLASSES), currency=self.currency)  # each class is rounded

    @cached_property
    def _dearest(self) -> dict[tuple[int, ServiceTier | None], tuple[tuple[int, int], tuple[int, int]] | None]:
        return {}

    def _dearest_of(self, above: int, tier: ServiceTier | None) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The dearest token to read and to write, with so many of `above:` in reach; None where a tier has none."""
        if self.gpu_hour is not None:
            weights = self.gpu_hour
            read = max((weights.per_million(c) for c in _READ), key=lambda ratio: Decimal(ratio[0]) / ratio[1])
            return read, weights.per_million("output")
        places: list[PriceEntry | Above] = [self, *sorted(self.above, key=lambda one: one.prompt_tokens)[:above]]
        found = [_of_tier(place, t) for place in places for t in {None, tier}]
        prices = [one for one in found if one is not None]
        if len(prices) < len(found):
            return None
        return dearest(prices, _READ).as_integer_ratio(), dearest(prices, _WRITTEN).as_integer_ratio()

    def _token_prices(self, prompt: int, tier: ServiceTier | None) -> TokenPrices | None:
        place: PriceEntry | Above = self
        for one in self.above:
            if prompt > one.prompt_tokens:
                place = one
        return _of_tier(place, tier)


def nano_of(tokens: int, ratio: tuple[int, int]) -> int:
    """Billionths of so many tokens at this price of a million."""
    return half_even(ratio[0] * tokens * _PER_MILLION, ratio[1])


def is_same_model(asked: str, kind: str, answered: str) -> bool:
    """LiteLLM's names lead with a provider, which no provider repeats."""
    return answered == asked or (kind == "litellm" and answered == asked.partition("/")[2])


def _of_tier(place: PriceEntry | Above, tier: ServiceTier | None) -> TokenPrices | None:
    if tier is None or tier == "other":
        return place.per_million if tier is None else None
    return place.tiers.get(tier)


class Rate(Strict):
    """One unit of `from` is `rate` units of `to`, from the UTC day `valid_from` on, until a later rate of the pair."""

    from_: Annotated[Currency, Field(alias="from")]
    to: Currency
    rate: Factor
    valid_from: date = date(1970, 1, 1)
    source: str = ""


class Account(Strict):
    """Whom the calls of an account alias (`models.NAME.account`) are billed to, and by whom."""

    billing_account: str
    name: str = ""
    sub_account: str = ""
    sub_account_name: str = ""
    issuer: str = ""


class PriceBook(Strict):
    """`book` names the version; `aliases` map a served name to a priced one, explicitly, never by prefix."""

    book: str
    prices: tuple[PriceEntry, ...] = ()
    aliases: Annotated[dict[str, str], Field(default_factory=dict)]
    accounts: Annotated[dict[str, Account], Field(default_factory=dict)]
    rates: tuple[Rate, ...] = ()
    kind: Literal["prices"] = "prices"

    @model_validator(mode="after")
    def _one_price_a_moment(self) -> PriceBook:
        for i, entry in enumerate(self.prices):
            start = instant(entry.valid_from)
            for j, other in enumerate(self.prices):
                if j == i or other.model != entry.model:
                    continue
                first = instant(other.valid_from)
                if first == start and j < i:
                    raise fault(f"{entry.model!r} has two prices from {entry.valid_from}", "prices", i, "model")
                if first < start and other.valid_to is not None and start < instant(other.valid_to):
                    raise fault(
                        f"{entry.model!r} has two prices from {entry.valid_from}: the one from {other.valid_from} says "
                        f"`valid_to: {other.valid_to}`; end it where this one begins", "prices", i, "valid_from",
                    )
        return self

    @model_validator(mode="after")
    def _one_rate_a_day(self) -> PriceBook:
        seen: set[tuple[str, str, date]] = set()
        for i, one in enumerate(self.rates):
            if one.from_ == one.to:
                raise fault(f"a rate from {one.from_} to itself is 1: leave it out", "rates", i, "to")
            pair = (min(one.from_, one.to), max(one.from_, one.to), one.valid_from)
            if pair in seen:
                raise fault(f"{one.from_} and {one.to} have two rates from {one.valid_from}", "rates", i, "valid_from")
            seen.add(pair)
        return self

    def entry(self, model: str, at: datetime) -> PriceEntry | None:
        """The entry of `model` (or of its alias) valid at `at`, the latest begun; None where the book has none."""
        for name in (model, self.aliases.get(model)):
            valid = [e for e in self.prices if e.model == name and e.is_valid(at)]
            if valid:
                return max(valid, key=lambda e: instant(e.valid_from))
        return None

    def entry_of(
        self, *, asked: str, kind: str, answered: str | None, price: str | None, at: datetime
    ) -> PriceEntry | None:
        """The price of the model that answered a call; what was asked for, and the pipeline's own `price:` alias of
        it, count only where that very model answered."""
        names = [answered or asked]
        if answered is None or is_same_model(asked, kind, answered):
            names += [asked, *([price] if price else [])]
        return next((found for name in names if (found := self.entry(name, at)) is not None), None)

    def changes(self) -> tuple[datetime, ...]:
        """The moments at which some price begins or ends, in order: between two of them every price stays."""
        moments = [m for e in self.prices for m in (e.valid_from, e.valid_to) if m is not None]
        return tuple(sorted({instant(moment) for moment in moments}))

