"""report close: freeze a month's figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.options import any_path, json_option, store_option

if TYPE_CHECKING:
    from orchestrator.store.closes import ClosedMonth


@click.command("close", short_help="Freeze the figures of a month that is over.")
@click.argument("month", metavar="MONTH", required=False)
@click.option("--list", "listed", is_flag=True, help="Show the months that are closed; `booked since` counts "
              "what was recorded of a month's runs after it, and is not restated yet.")
@click.option("--again", is_flag=True, help="Write the file of a month that is closed already; nothing is changed.")
@click.option("--yes", is_flag=True, help="Close a month without runs, or a ledger whose chains verify finds broken.")
@click.option("--out", type=any_path, default=Path(), help="The folder of the close file.  [default: here]")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of the month; one for all closes.")
@store_option
@json_option
def close(
    month: str | None, listed: bool, again: bool, yes: bool, out: Path, tz: str, store: str, as_json: bool
) -> None:
    """Freeze the figures of a month, in the ledger and in a close file for the auditors.

    The chains of the whole ledger are verified first: a close can't be undone. From then on the month is reported as it
    was closed, byte for byte. What is learned of it later appears in the open month, as a restatement. Months are
    closed in order, once; the file's hash and its heads of the chains let `verify --close` tell whether the ledger was
    rewritten since: keep it where the ledger's administrator can't write.

    \b
    Examples:
      orchestrator report close 2026-11 --out closes/
      orchestrator report close --list
    """
    from orchestrator.commands.opened import read_store, with_store
    from orchestrator.commands.output import print_json
    from orchestrator.finance.closing.close import close_month
    from orchestrator.finance.closing.document import as_file
    from orchestrator.store.closes import listed as listed_months

    if listed == (month is not None):
        raise click.UsageError("give a MONTH like 2026-11, or --list")
    if month is None:
        _show(read_store(store, listed_months), as_json)
        return
    wanted, path = month, out / f"close-{month}.json"
    if path.exists():
        raise click.UsageError(f"{str(path)!r} exists already: a close file is never written over; name another --out")
    out.mkdir(parents=True, exist_ok=True)
    if again:
        closed = _of(read_store(store, listed_months), month)
    else:
        closed = with_store(store, lambda opened: close_month(opened, wanted, tz=tz, anyway=yes))
    path.write_text(as_file(closed), encoding="utf-8")
    if as_json:
        print_json({**_row(closed), "file": path})
    else:
        click.echo(f"closed {month} ({closed.tz}): {path}\nsha256 {closed.digest}")


def _of(months: list[ClosedMonth], month: str) -> ClosedMonth:
    from orchestrator.errors import InputError

    for one in months:
        if one.period == month:
            return one
    raise InputError(f"{month} is not closed", hint=f"`orchestrator report close {month}` closes it")


def _show(months: list[ClosedMonth], as_json: bool) -> None:
    from orchestrator.commands.output import print_json, print_table

    if as_json:
        print_json([_row(one) for one in months])
        return
    rows = [_row(one).values() for one in months]
    print_table(("month", "time zone", "closed at", "booked since", "sha256"), rows)


def _row(one: ClosedMonth) -> dict[str, object]:
    from datetime import UTC, datetime

    return {
        "period": one.period, "tz": one.tz, "created_at": datetime.fromtimestamp(one.created_at, UTC).isoformat(),
        "booked_since": one.touched, "sha256": one.digest,
    }
