"""verify: is the ledger what its writers wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.options import existing_file, json_option, store_option

if TYPE_CHECKING:
    from orchestrator.finance.verify.ledger import Verified
    from orchestrator.store.engine import Store

EVERY = 1_000
"""Rows between two moves of the bar."""


@click.command(short_help="Is the ledger what its writers wrote.")
@click.option("--month", metavar="YYYY-MM", help="Costs, runs and totals of this month only; chains are walked whole.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of the month, like Europe/Berlin.")
@click.option("--close", "close", type=existing_file, help="Hold this close file against the ledger, too.")
@store_option
@json_option
def verify(month: str | None, tz: str, close: Path | None, store: str, as_json: bool) -> int:
    """Derive every cost and total again, and walk every writer's chain of seals.

    A row that was changed, removed, moved or put in is named. Exit code 1 where anything was found. What can't be
    found, and why the close files should lie where the ledger's administrator can't write: docs/trail.md.

    \b
    Examples:
      orchestrator verify
      orchestrator verify --month 2026-11 --json
      orchestrator verify --close close-2026-11.json
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json
    from orchestrator.finance.closing.document import read_file
    from orchestrator.finance.period import Period, parse_period

    period = parse_period(month=month, tz=tz) if month is not None else Period(tz=tz)
    file = read_file(close) if close is not None else None

    async def look(opened: Store) -> Verified:
        from orchestrator.finance.verify.ledger import count_rows
        from orchestrator.finance.verify.ledger import verify as verified
        from orchestrator.progress import bar

        total = await asyncio.to_thread(count_rows, opened)
        with bar("verifying", total // EVERY) as moved:
            seen = 0

            def advance() -> None:
                nonlocal seen
                seen += 1
                if seen % EVERY == 0:
                    moved()

            return await asyncio.to_thread(lambda: verified(opened, period, file=file, advance=advance))

    done = with_store(store, look)
    if as_json:
        print_json(_document(done))
    else:
        click.echo(_text(done))
    return 0 if done.clean else 1


def _document(done: Verified) -> dict[str, object]:
    return {
        "clean": done.clean, "writers": done.writers, "sealed_rows": done.sealed, "before_the_chain": done.unsealed,
        "calls": done.calls, "closes": done.closes, "findings": done.findings.kept,
        "findings_total": done.findings.count,
    }


def _text(done: Verified) -> str:
    from orchestrator.finance.phrases import counted

    calls, found = done.calls, done.findings
    lines = [f"{one.kind}: {one.words}" for one in found.kept]
    if found.count > len(found.kept):
        lines.append(f"and {found.count - len(found.kept):,} more")
    sealed, before = counted(done.sealed, "sealed row"), counted(sum(done.unsealed.values()), "row")
    lines += [
        f"{sealed} in the chains of {counted(done.writers, 'writer')}; {before} from before the chain",
        f"{calls.derived:,} costs derived again from usage and price; {calls.by_provider:,} are the provider's own, "
        f"{calls.price_not_kept:,} have a price that is not in the ledger",
        f"closed months: {', '.join(done.closes) or 'none'}",
        f"findings: {found.count:,}" if found.count else "all of it adds up",
    ]
    return "\n".join(lines)
