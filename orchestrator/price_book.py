"""Reading and pinning the price book file. Prices are of LiteLLM's shipped table or a person's, never fetched."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestrator.config.checked import validated
from orchestrator.config.price_types import instant
from orchestrator.config.prices import PriceBook, PriceEntry
from orchestrator.config.yaml12 import parse_yaml, read_yaml
from orchestrator.errors import InputError
from orchestrator.shipped_prices import Figures, Pinned


def load_book(path: Path) -> PriceBook:
    """Raises ConfigError with file and line."""
    return validated(PriceBook, read_yaml(path))


def pin_price(path: Path, pinned: Pinned, valid_from: date | datetime) -> str:
    """Add `pinned` to the book at `path`, made if it is not there; returns what was done, in words.

    Comments and order stay. Raises InputError where the book has another price of that model from that day on.
    """
    entry = _written(pinned, valid_from)
    text = _text(path)
    book = validated(PriceBook, parse_yaml(text, path))
    held = [one for one in book.prices if one.model == pinned.model]
    latest = max(held, key=lambda one: instant(one.valid_from), default=None)
    new = PriceBook.model_validate({"book": "new", "prices": [entry]}).prices[0]
    if latest is not None and latest.valid_to is None and _figures(latest) == _figures(new):
        return f"{pinned.model}: unchanged since {latest.valid_from}"
    if any(instant(one.valid_from) == instant(valid_from) for one in held):
        raise InputError(
            f"{path} has another price of {pinned.model!r} from {valid_from}",
            hint="give --valid-from another day or moment; what was charged by a price keeps it",
        )
    aliases = {name: pinned.model for name in pinned.aliases if name != pinned.model and name not in book.aliases}
    _write(path, text, entry, aliases)
    also = f", also as {', '.join(aliases)}" if aliases else ""
    return f"{pinned.model}: {_words(pinned)} from {valid_from.isoformat()}{also}"


def add_entry(path: Path, entry: Mapping[str, Any]) -> None:
    """Add an entry to the book at `path`, made if it is not there. Raises ConfigError, and then nothing is written."""
    _write(path, _text(path), entry, {})


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else f"book: {path.stem}\nprices: []\n"


def _write(path: Path, text: str, entry: Mapping[str, Any], aliases: Mapping[str, str]) -> None:
    """`text` with the entry, where that still is a price book."""
    written = _with_entry(text, entry, aliases)
    validated(PriceBook, parse_yaml(written, path))
    path.write_text(written, encoding="utf-8")


def _figures(entry: PriceEntry) -> tuple[object, ...]:
    return entry.per_million, entry.tiers, entry.above, entry.currency


def _written(pinned: Pinned, valid_from: date | datetime) -> dict[str, Any]:
    """The entry as it stands in the file."""
    entry: dict[str, Any] = {
        "model": pinned.model, "currency": pinned.currency,
        "valid_from": valid_from.isoformat() if isinstance(valid_from, datetime) else valid_from,
        "per_million": _numbers(pinned.per_million),
    }
    if pinned.tiers:
        entry["tiers"] = {tier: _numbers(figures) for tier, figures in pinned.tiers.items()}
    if pinned.above:
        entry["above"] = [
            {"prompt_tokens": one.prompt_tokens, "per_million": _numbers(one.per_million)}
            | ({"tiers": {tier: _numbers(figures) for tier, figures in one.tiers.items()}} if one.tiers else {})
            for one in pinned.above
        ]
    return {**entry, "source": pinned.source}


def _numbers(figures: Figures) -> dict[str, int | float | str]:
    return {name: _number(figure) for name, figure in figures.items()}


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
    more = [*pinned.tiers, *(f"above {one.prompt_tokens:,} tokens" for one in pinned.above)]
    return f"{figures} {pinned.currency} a million tokens{' (also ' + ', '.join(more) + ')' if more else ''}"
