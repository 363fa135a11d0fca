"""Reading and pinning the price book file. Prices are of LiteLLM's shipped table or a person's, never fetched."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.config.checked import nearest, validated
from orchestrator.config.prices import PriceBook
from orchestrator.config.yaml12 import parse_yaml, read_yaml
from orchestrator.errors import InputError

_MILLION = 1_000_000
_SHIPPED = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "reasoning": "output_cost_per_reasoning_token",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A price to be written: of a million tokens, by class. `aliases` are names the provider answers with."""

    model: str
    per_million: Mapping[str, Decimal]
    currency: str = "USD"
    source: str = ""
    aliases: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def load_book(path: Path) -> PriceBook:
    """Raises ConfigError with file and line."""
    return validated(PriceBook, read_yaml(path))


def shipped_price(model: str, *, aliases: tuple[str, ...] = ()) -> Pinned:
    """The price LiteLLM ships for `model`, `provider/name` as in `use: litellm:…`. Raises InputError if it has none."""
    table = _shipped_table()
    key = _key(model, table)
    entry = table[key]
    figures = {
        name: Decimal(str(entry[field])) * _MILLION for name, field in _SHIPPED.items() if entry.get(field) is not None
    }
    if not {"input", "output"} <= figures.keys():
        raise InputError(
            f"LiteLLM's table has no token prices for {model!r}", hint="give them by hand: --input and --output"
        )
    tiers = sorted(field for field in entry if "_above_" in field and "cost_per_token" in field)
    remarks = (f"LiteLLM also lists {', '.join(tiers)}, which the book does not hold",) if tiers else ()
    served = (model.partition("/")[2],) if "/" in model else ()
    return Pinned(
        model=model, per_million=figures, source=f"litellm {version('litellm')}", aliases=(*served, *aliases),
        remarks=remarks,
    )


def pin_price(path: Path, pinned: Pinned, valid_from: date) -> str:
    """Add `pinned` to the book at `path`, made if it is not there; returns what was done, in words.

    Comments and order stay. Raises InputError where the book has another price of that model from that day on.
    """
    entry = {
        "model": pinned.model, "currency": pinned.currency, "valid_from": valid_from,
        "per_million": {name: _number(figure) for name, figure in pinned.per_million.items()}, "source": pinned.source,
    }
    text = path.read_text(encoding="utf-8") if path.exists() else f"book: {path.stem}\nprices: []\n"
    book = validated(PriceBook, parse_yaml(text, path))
    held = [one for one in book.prices if one.model == pinned.model]
    latest = max(held, key=lambda one: one.valid_from, default=None)
    new = PriceBook.model_validate({"book": "new", "prices": [entry]}).prices[0]
    if latest is not None and (latest.per_million, latest.currency) == (new.per_million, new.currency):
        return f"{pinned.model}: unchanged since {latest.valid_from}"
    if any(one.valid_from == valid_from for one in held):
        raise InputError(
            f"{path} has another price of {pinned.model!r} from {valid_from}",
            hint="give --valid-from another day; what was charged by a price keeps it",
        )
    aliases = {name: pinned.model for name in pinned.aliases if name != pinned.model and name not in book.aliases}
    written = _with_entry(text, entry, aliases)
    validated(PriceBook, parse_yaml(written, path))
    path.write_text(written, encoding="utf-8")
    also = f", also as {', '.join(aliases)}" if aliases else ""
    return f"{pinned.model}: {_words(pinned)} from {valid_from}{also}"


def _shipped_table() -> Mapping[str, Mapping[str, Any]]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read at import: without it, the table is fetched
    import litellm

    table: Mapping[str, Mapping[str, Any]] = litellm.model_cost
    return table


def _key(model: str, table: Mapping[str, Mapping[str, Any]]) -> str:
    if model in table:
        return model
    provider, _, name = model.partition("/")
    if name in table and table[name].get("litellm_provider") == provider:
        return name
    raise InputError(
        f"LiteLLM's table has no {model!r}{nearest(name or model, list(table))[:200]}",
        hint="give the figures of the provider's page by hand: --input and --output",
    )


def _with_entry(text: str, entry: Mapping[str, Any], aliases: Mapping[str, str]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    book = yaml.load(text)
    if not book.get("prices"):
        book["prices"] = []
    book["prices"].append(dict(entry))
    if aliases:
        book.setdefault("aliases", {}).update(aliases)
    out = io.StringIO()
    yaml.dump(book, out)
    return out.getvalue()


def _number(figure: Decimal) -> int | float | str:
    """The figure as a YAML number where that is exact, else as a string."""
    if figure == figure.to_integral_value():
        return int(figure)
    return float(figure) if Decimal(str(float(figure))) == figure else str(figure)


def _words(pinned: Pinned) -> str:
    figures = ", ".join(f"{name} {_number(figure)}" for name, figure in pinned.per_million.items())
    return f"{figures} {pinned.currency} a million tokens"
