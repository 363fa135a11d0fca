"""Which options of `report` go together. What would be ignored is refused: exit code 2, before the ledger is read."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from orchestrator.finance.export.formats import FileFormat

BELONGS = {"columns": "--invoice", "tolerance": "--invoice", "accounts": "--invoice", "focus_version": "--format focus"}
"""Options that say something of another one, which must be there."""
OF_THE_REPORT = ("by", "error_price", "currency", "focus_version")
"""What --reprice and --invoice have no use for."""
NAMES = {"accounts": "--account", "format_": "--format", "as_json": "--json"}


def given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def check_together(context: click.Context, kind: FileFormat) -> None:
    """Raises click.UsageError."""
    other = [name for name in ("reprice", "invoice") if given(context, name)]
    if len(other) == 2:
        raise click.UsageError("--reprice and --invoice are two reports: ask for one of them")
    for name in (*OF_THE_REPORT, *(("prices",) if other == ["reprice"] else ())) if other else ():
        if given(context, name):
            raise click.UsageError(f"{_option(name)} has no part in --{other[0]}: leave it out")
    if other and kind not in ("table", "json"):
        raise click.UsageError(f"--{other[0]} is written as a table or as JSON, not as {kind}")
    met = {"--invoice": "invoice" in other, "--format focus": kind == "focus"}
    for name, parent in BELONGS.items():
        if given(context, name) and not met[parent]:
            raise click.UsageError(f"{_option(name)} belongs to {parent}: add that, or leave it out")
    if kind == "xlsx" and context.params["output"] is None:
        raise click.UsageError("a workbook is no text: add -o FILE.xlsx")
    if context.params["currency"] is not None and kind != "table":
        raise click.UsageError(f"--currency is said in the table, not in {kind}: leave out the one or the other")
    if context.params["currency"] is not None and context.params["prices"] is None:
        raise click.UsageError("--currency needs --prices BOOK.yaml, which holds the rates")


def kind_of(context: click.Context, format_: FileFormat, output: Path | None, *, as_json: bool) -> FileFormat:
    """The format asked for or, where none is, that of the file's ending. Raises click.UsageError where two are."""
    from orchestrator.finance.export.formats import ENDINGS

    named = given(context, "format_")
    if as_json and named and format_ != "json":
        raise click.UsageError(f"--json and --format {format_} are two formats: leave out the one or the other")
    asked: FileFormat = "json" if as_json else format_
    ending = output.suffix.lower().lstrip(".") if output is not None else ""
    meant = [kind for kind, end in ENDINGS.items() if end == ending]
    if not meant or asked in meant:
        return asked
    if as_json or named:
        raise click.UsageError(f"{str(output)!r} ends as {meant[0]}, and {asked} was asked for: rename the file, or "
                               f"ask for --format {meant[0]}")
    return meant[0]


def check_pipeline(store: str, name: str) -> None:
    """Raises InputError where the ledger has runs, and none of such a pipeline."""
    from sqlalchemy import select

    from orchestrator.commands.opened import read_store
    from orchestrator.errors import InputError
    from orchestrator.finance.configured import config

    named = select(config.c.pipeline).distinct()
    known = sorted(read_store(store, lambda connection: connection.execute(named).scalars().all()))
    if known and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"the store knows no pipeline {name!r}{meant}",
                         hint=f"the pipelines of this ledger are {', '.join(known)}")


def _option(name: str) -> str:
    return NAMES.get(name, f"--{name.replace('_', '-')}")
