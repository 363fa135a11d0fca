"""handoffs: what waits for a person, and what people answered, one by one or by the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import existing_file, json_option, store_option

if TYPE_CHECKING:
    from orchestrator.store.feedback import StoredHandOff
    from orchestrator.store.resolutions import Resolution

SHOWN = 50
"""How many a table shows where nothing is said."""
GAP = 2
"""Blanks between two columns."""
LEAST = 30
"""Columns that a reason has, however narrow the terminal is."""


@click.group(short_help="Tasks given to a person: list, resolve.")
def handoffs() -> None:
    """Tasks that were given to a person."""


@handoffs.command("list")
@click.option("--pipeline", metavar="NAME", help="Of this pipeline only.")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N",
              help=f"The oldest N. Without it: {SHOWN}, or all with --json.")
@store_option
@json_option
def list_handoffs(pipeline: str | None, everything: bool, limit: int | None, store: str, as_json: bool) -> None:
    """Show what waits for a person: how many by which rule and why, then each, oldest first.

    \b
    Example:
      orchestrator handoffs list --pipeline order_lines --json
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import note, print_json

    found = with_store(store, lambda opened: opened.handoffs(pipeline=pipeline, open_only=not everything))
    if as_json:
        print_json(found[:limit])
        return
    shown = found[: limit or SHOWN]
    if found:
        _print_reasons(found)
        _print_each(shown, everything)
    else:
        note("nothing waits for a person")
    if len(found) > len(shown):
        note(f"{len(found) - len(shown):,} more: --limit {len(found)} shows them")


@handoffs.command("resolve")
@click.argument("run_id", required=False)
@click.option("--value", metavar="JSON", help="The person's answer, as JSON.")
@click.option("--value-file", type=existing_file, help="The same, from a file.")
@click.option("--success/--failure", default=None, help="How it turned out.")
@click.option("--reason", default="", help="Why, in words.")
@click.option("--file", "file", type=existing_file,
              help="CSV or JSON lines (.jsonl) of many: run_id; value, as JSON; success; reason.")
@store_option
def resolve_handoff(
    run_id: str | None, value: str | None, value_file: Path | None, success: bool | None, reason: str,
    file: Path | None, store: str,
) -> None:
    """Close a hand-off with what the person decided.

    The value is what the pipeline would have answered: one that breaks the step's output schema is refused. A file is
    taken whole or not at all. A resolution stands; what turns out later is said by `orchestrator outcome`.

    \b
    Examples:
      orchestrator handoffs resolve r_01J… --value '{"item": "widget", "qty": 2}' --success
      orchestrator handoffs resolve --file answers.csv
    """
    from orchestrator.commands.handoff_file import read_resolutions, resolve_all
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import note
    from orchestrator.store.resolutions import Resolution

    if file is not None:
        if run_id is not None or value is not None or value_file is not None or success is not None or reason:
            raise click.UsageError("give --file alone: it says all of each run")
        rows = read_resolutions(file)
        with_store(store, lambda opened: resolve_all(opened, file, rows))
        note(f"resolved: {len(rows):,}")
        return
    if run_id is None:
        raise click.UsageError("give RUN_ID, or --file FILE")
    if success is None:
        raise click.UsageError("say how it turned out: --success or --failure")
    if value is not None and value_file is not None:
        raise click.UsageError("give --value or --value-file, not both")
    answer = _json(value_file.read_text(encoding="utf-8") if value_file else value)
    one: Sequence[Resolution] = [Resolution(run_id=run_id, value=answer, success=success, reason=reason)]
    with_store(store, lambda opened: opened.resolve_handoffs(one))
    note(f"resolved: {run_id}")


def _print_reasons(found: Sequence[StoredHandOff]) -> None:
    """How many each rule gave away, the most first, with the reason of one of them."""
    def by(one: StoredHandOff) -> tuple[str, str]:
        return one.pipeline, one.rule or ""

    groups = [(len(some), some[0]) for some in (list(some) for _, some in groupby(sorted(found, key=by), key=by))]
    groups.sort(key=lambda group: -group[0])
    rows = [(f"{count:,}", one.pipeline, one.rule or "", one.reason) for count, one in groups]
    _print(("hand-offs", "pipeline", "rule", "why, of one of them"), rows)
    click.echo()


def _print_each(shown: Sequence[StoredHandOff], everything: bool) -> None:
    rows = [(*((_resolved(one),) if everything else ()), one.run_id, one.pipeline, one.step, _when(one.created_at),
             one.reason) for one in shown]
    columns = (*(("resolved",) if everything else ()), "run", "pipeline", "step", "since", "why")
    _print(columns, rows)


def _print(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """A table whose last cells are cut to what a terminal has left beside the others; whole where stdout is none."""
    from orchestrator.commands.output import print_table
    from orchestrator.finance.explain_words import printable

    rows = [tuple(map(printable, row)) for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console

        others = [max(len(row[i]) for row in (columns, *rows)) + GAP for i in range(len(columns) - 1)]
        room = max(LEAST, Console().width - sum(others))
        rows = [(*row[:-1], row[-1] if len(row[-1]) <= room else f"{row[-1][: room - 1]}…") for row in rows]
    print_table(columns, rows)


def _resolved(one: StoredHandOff) -> str:
    return f"{_when(one.resolved_at)}{' (done again)' * one.done_again}" if one.resolved_at else "open"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"the value is not JSON: {error}") from None
