"""Results go to stdout, everything else to stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click


def print_json(value: Any) -> None:
    """One JSON document: records as objects, exact amounts as strings."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    from orchestrator.records import Money

    if isinstance(value, Money):
        return {"amount": f"{value.amount.normalize():f}", "currency": value.currency}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Decimal | Path):
        return str(value)
    return value.isoformat() if isinstance(value, date | datetime) else value


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]], *, title: str | None = None) -> None:
    """A table on stdout; as wide as its content where stdout is no terminal, so that nothing is cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    width = None if sys.stdout.isatty() else 10_000
    console = Console(highlight=False, width=width)
    console.print(table, soft_wrap=width is not None)


def put(content: str | bytes, output: Path | None) -> None:
    """To the file `output`, which is told on stderr; to stdout where there is none."""
    if output is None:
        click.echo(content, nl=False)
        return
    output.write_bytes(content if isinstance(content, bytes) else content.encode())
    note(f"written to {output}")


def ask(question: str) -> bool:
    """On stderr; without a terminal the answer is no."""
    return sys.stdin.isatty() and click.confirm(question, err=True)


def note(words: str) -> None:
    """A line for the person at the terminal, on stderr."""
    click.echo(words, err=True)
