"""report --invoice: a provider's usage export beside the ledger. Exit code 1 where a difference is beyond tolerance."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import Command, Parsed, existing_file

if TYPE_CHECKING:
    from orchestrator.finance.invoice.records import Reconciled, Tolerance
    from orchestrator.finance.period import Period

_PART = re.compile(r"^(?:(total)=)?(\d+(?:\.\d+)?)(%?)$")


def _tolerance(value: Any) -> Tolerance:
    """`0.01`, `0.5%`, or both: `0.01,0.5%`; with `total=1%` also what the sum may differ by, else that is the
    percentage given, or 0.5%."""
    from orchestrator.finance.invoice.records import Tolerance

    if isinstance(value, Tolerance):
        return value
    found = [_PART.match(part.strip()) for part in str(value).split(",")]
    given = {one[1] or ("percent" if one[3] else "amount"): Decimal(one[2]) for one in found if one}
    if None in found or len(given) < len(found) or any(one and one[1] and not one[3] for one in found):
        raise ValueError(
            f"{value!r} is no tolerance: write an amount, a percentage, or both, like 0.01,0.5%,total=0.5%"
        )
    if given.keys() <= {"total"}:
        return Tolerance(**given)
    percent = given.get("percent", Decimal(0))
    return Tolerance(
        amount=given.get("amount", Decimal(0)), percent=percent, total=given.get("total", percent or Tolerance().total)
    )


def invoice_options(command: Command) -> Command:
    """The options of `report` that belong to --invoice: invoice, columns, tolerance, account."""
    for option in (
        click.option("--account", "accounts", multiple=True, metavar="ID",
                     help="A project, workspace or key of the --invoice that is this ledger's (may be repeated)."),
        click.option("--tolerance", type=Parsed("tolerance", _tolerance), metavar="0.01,0.5%,total=0.5%",
                     default="0.01,0.5%,total=0.5%", show_default=True,
                     help="Of --invoice: what a day and model may differ by, and the total: amount or %, the larger."),
        click.option("--columns", metavar="A=B,… or MAP.yaml",
                     help="Which column of the --invoice holds what: date=Day,model=SKU,cost=Amount,currency=USD."),
        click.option("--invoice", type=existing_file,
                     help="Lay this usage export of a provider beside the ledger (exit code 1 above tolerance)."),
    ):
        command = option(command)
    return command


def report_invoice(
    store: str, invoice: Path, *, period: Period, columns: str | None, tolerance: Tolerance, accounts: tuple[str, ...],
    prices: Path | None, pipeline: str | None, as_json: bool, output: Path | None, width: int = 160,
) -> int:
    """The exit code: 0 within the tolerance, 1 beyond. `prices` is the price book whose aliases, accounts and rates
    say what is called what. Raises InputError for a file that can't be read."""
    from orchestrator.commands.opened import read_store
    from orchestrator.commands.output import put
    from orchestrator.finance.invoice.compare import reconcile
    from orchestrator.finance.invoice.mapped import parse_map
    from orchestrator.finance.invoice.read import read_invoice
    from orchestrator.finance.invoice.words import invoice_table
    from orchestrator.price_book import load_book

    read = read_invoice(invoice, parse_map(columns) if columns else None)
    book = load_book(prices) if prices is not None else None

    found = read_store(store, lambda connection: reconcile(
        connection, read, period=None if period.since is None and period.until is None else period, book=book,
        tolerance=tolerance, pipeline=pipeline, accounts=accounts,
    ))
    put(_json(found) if as_json else invoice_table(found, width=width), output)
    return 0 if found.ok else 1


def _json(found: Reconciled) -> str:
    """One document: amounts as decimal strings, days as ISO dates."""
    import json

    from orchestrator.finance.plain import encode

    body = {"kind": "invoice", "format": 1, "ok": found.ok, "invoiced": found.invoiced, "recorded": found.recorded,
            "difference": found.difference, "total_within": found.total_within}
    return json.dumps(encode({**body, **encode(found)}), indent=2, ensure_ascii=False) + "\n"
