"""A file of an invoice, recognised by its header and read line by line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.csv_header import delimiter_of
from orchestrator.errors import InputError
from orchestrator.finance.invoice import anthropic, openai
from orchestrator.finance.invoice.mapped import ColumnMap, check_header, mapped_row
from orchestrator.finance.invoice.records import Invoice, InvoiceLine

SHOWN = 10
"""How many bad lines an error lists."""

ReadRow = Callable[[str, Mapping[str, Any]], Iterator[InvoiceLine]]
Read = Iterator[tuple[str, Callable[[], Iterator[InvoiceLine]]]]
TIMES = ("start_time", "end_time", "starting_at", "ending_at")
"""Of the bucket that an API's result stands in."""

CSV_SHAPES: tuple[tuple[str, str, frozenset[str], ReadRow], ...] = (
    ("OpenAI cost export", openai.PROVIDER, openai.COST_COLUMNS, openai.cost_row),
    ("OpenAI usage export", openai.PROVIDER, openai.USAGE_COLUMNS, openai.usage_row),
    ("Anthropic Console cost export", anthropic.PROVIDER, anthropic.COST_COLUMNS, anthropic.cost_row),
    ("Anthropic Console usage export", anthropic.PROVIDER, anthropic.USAGE_COLUMNS, anthropic.usage_row),
)
JSON_SHAPES: tuple[tuple[str, str, str, ReadRow], ...] = (
    ("OpenAI costs API", openai.PROVIDER, "amount.value", openai.cost_result),
    ("OpenAI usage API", openai.PROVIDER, "num_model_requests", openai.usage_row),
    ("Anthropic cost report", anthropic.PROVIDER, "amount", anthropic.cost_result),
    ("Anthropic usage report", anthropic.PROVIDER, "uncached_input_tokens", anthropic.usage_result),
)


def read_invoice(path: Path, columns: ColumnMap | None = None) -> Invoice:
    """Raises InputError for a file that is empty, of no known shape, or has bad lines: up to ten are named."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8: {error}", hint="export it again, as CSV or JSON") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty", hint="export it again")
    is_json = columns is None and text.lstrip()[0] in "{["
    shape, provider, reads = _json(path, text) if is_json else _csv(path, text, columns)
    lines: list[InvoiceLine] = []
    bad: list[str] = []
    for place, read in reads:
        try:
            lines.extend(read())
        except (ValueError, KeyError) as error:
            bad.append(f"{place}: {error if isinstance(error, ValueError) else f'no {error}'}")
    if bad:
        more = [f"and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
        raise InputError("\n".join([*bad[:SHOWN], *more]), hint="nothing was compared: mend the file, or --columns")
    if not lines:
        raise InputError(f"{path}: no line with usage or cost", hint="was it exported for the right days and project?")
    _one_currency(path, lines)
    return Invoice(file=str(path), shape=shape, provider=provider, lines=tuple(lines))


def _csv(path: Path, text: str, columns: ColumnMap | None) -> tuple[str, str | None, Read]:
    delimiter = (columns.delimiter if columns else None) or delimiter_of(text)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    if columns is not None:
        check_header(columns, header, str(path))
        return "CSV by --columns", None, _each(rows, partial(mapped_row, columns))
    for shape, provider, needed, read in CSV_SHAPES:
        if needed <= set(header):
            return shape, provider, _each(rows, read)
    raise InputError(
        f"{path}:1: no export of OpenAI or Anthropic has these columns: {', '.join(header)[:300]}",
        hint="say which is which: --columns date=…,model=…,cost=…,currency=… (docs/invoice.md)",
    )


def _each(rows: Iterable[tuple[str, dict[str, Any]]], read: ReadRow) -> Read:
    for place, row in rows:
        if None in row:
            yield place, _too_many
        elif any(str(value or "").strip() for value in row.values()):
            yield place, partial(read, place, row)


def _too_many() -> Iterator[InvoiceLine]:
    raise ValueError("more cells than columns")


def _json(path: Path, text: str) -> tuple[str, str | None, Read]:
    try:
        found = json.loads(text, parse_float=str)  # an amount is never a float here
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    pages = found if isinstance(found, list) else [found]
    if not all(isinstance(page, dict) and isinstance(page.get("data"), list) for page in pages):
        raise InputError(f"{path}: not the answer of a costs or usage API: no list `data`")
    if pages[-1].get("has_more"):
        raise InputError(
            f"{path}: there are more pages: has_more is true", hint="put all pages into one file, as a JSON list"
        )
    results = [
        (f"{path}: data[{b}].results[{i}]", bucket, result)
        for page in pages for b, bucket in enumerate(page["data"])
        for i, result in enumerate(bucket.get("results") or ())
    ]
    for shape, provider, marked, read in JSON_SHAPES:
        if results and all(_has(result, marked) for _, _, result in results):
            return shape, provider, (
                (place, partial(read, place, {**result, **{name: bucket.get(name) for name in TIMES}}))
                for place, bucket, result in results
            )
    found_there = f"{results[0][0]}: {', '.join(results[0][2])[:200]} is no known result" if results else ""
    raise InputError(
        found_there or f"{path}: no results",
        hint="known are the costs and usage APIs of OpenAI and Anthropic (docs/invoice.md)",
    )


def _has(result: Mapping[str, Any], marked: str) -> bool:
    name, _, inner = marked.partition(".")
    value = result.get(name)
    return name in result and (isinstance(value, Mapping) and inner in value if inner else not isinstance(value, dict))


def _one_currency(path: Path, lines: Iterable[InvoiceLine]) -> None:
    seen: dict[str, str] = {}
    for line in lines:
        if line.cost is not None:
            seen.setdefault(line.currency, line.place)
    if "" in seen:
        raise InputError(f"{seen['']}: in which currency?", hint="add currency=COLUMN, or currency=USD, to --columns")
    if len(seen) > 1:
        raise InputError(f"{path}: amounts in several currencies: {', '.join(sorted(seen))}", hint="one file for each")
