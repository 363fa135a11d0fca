"""Prices of the table that ships inside the litellm package, as entries of a price book. Nothing is fetched."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from orchestrator.errors import InputError

Figures = Mapping[str, Decimal]
"""Price of a million tokens by token class."""
_MILLION = 1_000_000
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_cost_per_token",),
    "output": ("output_cost_per_token",),
    "input_audio": ("input_cost_per_audio_token",),
    "cache_read": ("cache_read_input_token_cost", "input_cost_per_token_cache_hit"),
    "cache_write": ("cache_creation_input_token_cost",),
    "cache_write_1h": ("cache_creation_input_token_cost_above_1hr",),
    "output_audio": ("output_cost_per_audio_token",),
    "reasoning": ("output_cost_per_reasoning_token",),
}
_PART_OF = {
    "input_audio": "input", "cache_read": "input", "cache_write": "input", "cache_write_1h": "cache_write",
    "output_audio": "output", "reasoning": "output",
}
_TIERS = {"batch": "_batches", "flex": "_flex", "priority": "_priority"}
_ABOVE = re.compile(r"^input_cost_per_token(_above_(\d+)k_tokens)")
_PER_TOKEN = re.compile(r"cost_per(_\w+)?_token|_token_cost|cost_per_query|off_peak")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedAbove:
    prompt_tokens: int
    per_million: Figures
    tiers: Mapping[str, Figures]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A price to be written: of a million tokens, by class. `aliases` are names the provider answers with."""

    model: str
    per_million: Figures
    tiers: Mapping[str, Figures]
    above: tuple[PinnedAbove, ...] = ()
    currency: str = "USD"
    source: str = ""
    aliases: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def shipped_price(model: str, *, aliases: tuple[str, ...] = ()) -> Pinned:
    """The price LiteLLM ships for `model`, `provider/name` as in `use: litellm:…`. Raises InputError if it has none.

    A class that a tier does not list, though the standard one does, is taken in proportion to the class it is part
    of, and remarked upon. Its aliases are the names that the provider answers with: its own, and those of its dated
    snapshots that the table lists at the very same prices.
    """
    table = _table()
    key = _key(model, table)
    shipped = table[key]
    aliases = (*_served(model), *_snapshots(key, table), *aliases)
    reading = _Reading(shipped)
    base = reading.figures("")
    if not {"input", "output"} <= base.keys():
        if isinstance(shipped.get("tiered_pricing"), list):
            return _by_range(model, shipped["tiered_pricing"], aliases)
        raise InputError(
            f"LiteLLM's table has no token prices for {model!r}", hint="give them by hand: --input and --output"
        )
    above = tuple(
        PinnedAbove(
            prompt_tokens=limit, per_million=reading.like(base, suffix, f"above {limit:,}"),
            tiers=reading.tiers(base, suffix, f"above {limit:,} "),
        )
        for limit, suffix in reading.limits()
    )
    tiers = reading.tiers(base, "", "")
    return Pinned(
        model=model, per_million=base, tiers=tiers, above=above, source=reading.source(), remarks=reading.remarks(),
        aliases=aliases,
    )


class _Reading:
    """One model's fields, and which of them were read."""

    def __init__(self, shipped: Mapping[str, Any]) -> None:
        self._shipped = shipped
        self._read: set[str] = set()
        self._derived: list[str] = []

    def figures(self, suffix: str) -> dict[str, Decimal]:
        """What is listed under `suffix`, which says the tier and the length of the prompt."""
        found: dict[str, Decimal] = {}
        for token_class, fields in _FIELDS.items():
            for field in (f"{one}{suffix}" for one in fields):
                if isinstance(self._shipped.get(field), int | float):
                    self._read.add(field)
                    found.setdefault(token_class, Decimal(str(self._shipped[field])) * _MILLION)
        return found

    def limits(self) -> list[tuple[int, str]]:
        matches = (_ABOVE.match(field) for field in self._shipped)
        return sorted({(int(found[2]) * 1000, found[1]) for found in matches if found})

    def tiers(self, base: Figures, suffix: str, place: str) -> dict[str, Figures]:
        return {
            tier: self.like(base, f"{suffix}{ending}", f"{place}{tier}")
            for tier, ending in _TIERS.items()
            if {"input", "output"} <= self.figures(f"{suffix}{ending}").keys()
        }

    def like(self, base: Figures, suffix: str, place: str) -> Figures:
        """The classes of `base` at the prices under `suffix`."""
        listed = self.figures(suffix)
        for token_class, price in base.items():
            if token_class in listed:
                continue
            whole = _PART_OF.get(token_class, token_class)
            if whole not in base or whole not in listed:
                whole = "input"
            if token_class in _FIELDS and base.get(whole):
                listed[token_class] = (price * listed[whole] / base[whole]).quantize(Decimal("1e-6")).normalize()
                self._derived.append(f"{place} {token_class}")
        return {token_class: listed[token_class] for token_class in _FIELDS if token_class in listed}

    def source(self) -> str:
        return _source() + (f"; in proportion: {', '.join(self._derived)}" if self._derived else "")

    def remarks(self) -> tuple[str, ...]:
        remarks = []
        if self._derived:
            remarks.append(f"not in LiteLLM's table, taken in proportion: {', '.join(self._derived)}")
        left = sorted(
            field for field, value in self._shipped.items()
            if _PER_TOKEN.search(field) and field not in self._read and value
        )
        if left:
            remarks.append(f"LiteLLM also lists {', '.join(left)}, which the book does not hold")
        return tuple(remarks)


def _by_range(model: str, ranges: Iterable[Mapping[str, Any]], aliases: tuple[str, ...]) -> Pinned:
    """A table of ranges of the prompt's length: the first is the standard price."""
    ordered = sorted(ranges, key=lambda one: one["range"][0])
    figures = [_Reading(one).figures("") for one in ordered]
    above = tuple(
        PinnedAbove(prompt_tokens=int(one["range"][0]), per_million=prices, tiers={})
        for one, prices in zip(ordered[1:], figures[1:], strict=True)
    )
    return Pinned(
        model=model, per_million=figures[0], tiers={}, above=above, source=_source(), aliases=aliases,
    )


def _source() -> str:
    return f"litellm {version('litellm')}"


def _served(model: str) -> tuple[str, ...]:
    return (model.partition("/")[2],) if "/" in model else ()


def _snapshots(key: str, table: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """`gpt-x-2026-01-31` of `gpt-x`: written into the book by name, since no name is ever matched by its beginning."""
    dated = re.compile(re.escape(key) + r"-(\d{4}-\d{2}-\d{2}|\d{8})")
    return tuple(
        name.rpartition("/")[2] for name, fields in table.items()
        if dated.fullmatch(name) and _prices(fields) == _prices(table[key])
    )


def _prices(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in fields.items() if "cost" in name or "pricing" in name}


def _table() -> Mapping[str, Mapping[str, Any]]:
    from orchestrator.models.frontier import load

    table: Mapping[str, Mapping[str, Any]] = load().model_cost
    return table


def _key(model: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    if model in table:
        return model
    provider, _, name = model.partition("/")
    if name in table and table[name].get("litellm_provider") == provider:
        return name
    raise InputError(
        f"LiteLLM's table has no {model!r}{_near(model, table)}",
        hint="give the figures of the provider's page by hand: --input, --output and --source",
    )


def _near(model: str, table: Iterable[str]) -> str:
    """Some names of the table like `model`, whole ones; none where none is like it: it has thousands."""
    bare = model.rpartition("/")[2]
    found = difflib.get_close_matches(bare, sorted({name.rpartition("/")[2] for name in table}), n=3, cutoff=0.75)
    return f"; near it are {', '.join(found)}" if found else ""
