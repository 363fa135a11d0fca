"""Any other CSV, by a map that says which of its columns holds what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.finance.invoice.amounts import amount, tokens, utc_day
from orchestrator.finance.invoice.records import CLASSES, InvoiceLine

COLUMNS = ("date", "model", "account", "cost", "currency", "what", *CLASSES)
SETTINGS = ("decimal", "date_format", "delimiter")
_CODE = re.compile(r"^[A-Z]{3}$")
_NO_USAGE = re.compile(
    r"(?<![\w:/.-])(?:vat|tax|taxes|gst|hst|pst|mwst|ust|umsatzsteuer|mehrwertsteuer|tva|iva|btw|credits?|discount|"
    r"refund|rebate|rabatt|gutschrift)(?![\w:/.-]*\w)", re.IGNORECASE,
)
"""A word of its own, not a part of a model's name (`ft:gpt-4o:acme:tax`)."""
_NET_OF = re.compile(r"\b(?:incl|excl|net|before|without|plus|zzgl|inkl|exkl|ohne)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """`columns` names the file's column of each of COLUMNS; `currency` may be a code instead. `decimal` is "," where
    amounts read 1.234,50; `date_format` is strptime's; without a `delimiter` it is that of the header."""

    columns: Mapping[str, str] = field(default_factory=dict)
    decimal: str = "."
    date_format: str | None = None
    delimiter: str | None = None


def parse_map(text: str) -> ColumnMap:
    """`date=Day,model=SKU,cost=Amount`, or the path of a YAML file with the same keys. Raises InputError."""
    if "=" not in text:
        from orchestrator.config.yaml12 import read_yaml

        found = read_yaml(Path(text)).data
        if not isinstance(found, dict):
            raise InputError(f"{text}: not a map of columns", hint=f"keys: {', '.join((*COLUMNS, *SETTINGS))}")
        pairs = {str(key): str(value) for key, value in found.items()}
    else:
        pairs = dict(_pair(part) for part in text.split(",") if part.strip())
    unknown = sorted(set(pairs) - {*COLUMNS, *SETTINGS})
    if unknown:
        raise InputError(
            f"--columns names {unknown[0]!r}, which is none", hint=f"it may be {', '.join((*COLUMNS, *SETTINGS))}"
        )
    columns = {name: column for name, column in pairs.items() if name in COLUMNS}
    if "date" not in columns or not {"cost", *CLASSES} & set(columns):
        raise InputError("--columns needs date, and cost or tokens", hint="like date=Day,model=SKU,cost=Amount")
    if pairs.get("decimal", ".") not in (".", ","):
        raise InputError(f"decimal is {pairs['decimal']!r}: write . or ,")
    return ColumnMap(
        columns=columns, decimal=pairs.get("decimal", "."), date_format=pairs.get("date_format"),
        delimiter=pairs.get("delimiter"),
    )


def _pair(part: str) -> tuple[str, str]:
    name, _, column = part.partition("=")
    if not column.strip():
        raise InputError(f"--columns has {part.strip()!r}: write NAME=COLUMN")
    return name.strip(), column.strip()


def check_header(given: ColumnMap, header: list[str], file: str) -> None:
    """Raises InputError for a column that the file has not."""
    for name, column in given.columns.items():
        if column not in header and not (name == "currency" and _CODE.match(column)):
            raise InputError(f"{file}:1: no column {column!r} for {name}", hint=f"the file has {', '.join(header)}")


def mapped_row(given: ColumnMap, place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A line without a model is no model usage, where the file has a column of models; nor is one of tax or credits,
    by its model or its `what`. Raises ValueError."""
    columns = given.columns

    def cell(name: str) -> str:
        return str(row.get(columns.get(name, "")) or "").strip()

    cost = None
    if "cost" in columns and cell("cost"):
        cost = amount(cell("cost"), columns["cost"], comma=given.decimal == ",")
    used = {name: tokens(cell(name), columns[name]) for name in CLASSES if name in columns}
    other = ("model" in columns and not cell("model")) or _is_no_usage(cell("model"), cell("what"))
    currency = columns.get("currency", "")
    yield InvoiceLine(
        place=place, day=utc_day(cell("date"), columns["date"], given.date_format), kind="other" if other else "usage",
        model="" if other else cell("model"), account=cell("account"),
        what=cell("what") or ((cell("model") or "no model") if other else ""), cost=cost,
        currency=(row[currency].strip() if currency in row else currency).upper(), tokens=used or None,
    )


def _is_no_usage(model: str, what: str) -> bool:
    """Tax, a credit or the like: named where the model would be, or in a description that names no model."""
    described = bool(_NO_USAGE.search(what)) and not _NET_OF.search(what) and not (model and model in what)
    return bool(_NO_USAGE.search(model)) or described
