"""A comparison as people read it: by model, then every day that differs, then what was set apart."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.finance.invoice.records import CLASSES, Reconciled, Row, Status, Tolerance, exact_sum
from orchestrator.finance.phrases import amount, counted

if TYPE_CHECKING:
    from rich.table import Table

STATUS_WORDS: dict[Status, str] = {
    "matched": "matched", "price": "price differs", "tokens": "tokens differ", "missing_here": "missing in the ledger",
    "missing_there": "missing in the invoice",
}


def invoice_table(found: Reconciled, *, width: int = 120) -> str:
    """The whole comparison as text, the verdict first."""
    import io

    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=False, highlight=False, markup=False, emoji=False)
    last = found.until - timedelta(days=1)
    console.print(f"{found.file} ({found.shape}) beside the ledger, {found.since} to {last}, UTC days")
    console.print(_verdict(found))
    for note in found.notes:
        console.print(f"! {note}")
    console.print()
    console.print(_by_model(found))
    if any(row.status != "matched" for row in found.rows):
        console.print(_differences(found))
    if found.apart:
        console.print(_apart(found))
    return text.getvalue()


def _verdict(found: Reconciled) -> str:
    beyond = [row for row in found.rows if not row.within]
    matched = sum(row.status == "matched" for row in found.rows)
    rows = counted(len(found.rows), "line")
    if not beyond:
        return f"AGREED: all {rows} of day, model and account within {tolerance_words(found.tolerance)}."
    return (
        f"DIFFERENT: {len(beyond):,} of {rows} of day, model and account beyond {tolerance_words(found.tolerance)}; "
        f"{matched:,} matched."
    )


def tolerance_words(given: Tolerance) -> str:
    return f"{given.amount:f}" + (f" or {given.percent:f}%" if given.percent else "") + " each"


def _by_model(found: Reconciled) -> Table:
    code = found.currency or "no money in the file: tokens"
    table = _new("By model and account", "model", "account", f"invoice ({code})", f"ledger ({code})", "difference",
                 "lines", "matched")
    for model, account in sorted({(row.model, row.account) for row in found.rows}):
        rows = [row for row in found.rows if (row.model, row.account) == (model, account)]
        table.add_row(
            model or "(all)", account or "-", *_three(rows), f"{len(rows):,}",
            f"{sum(row.status == 'matched' for row in rows):,}",
        )
    table.add_row("all", "", *_three(found.rows), f"{len(found.rows):,}",
                  f"{sum(row.status == 'matched' for row in found.rows):,}")
    return table


def _three(rows: list[Row] | tuple[Row, ...]) -> tuple[str, str, str]:
    if any(row.invoice.cost is not None for row in rows):
        theirs, ours = exact_sum(row.invoice.cost for row in rows), exact_sum(row.ledger.cost for row in rows)
        return amount(theirs), amount(ours), signed(theirs - ours)
    theirs_n, ours_n = (sum(sum((side.tokens or {}).values()) for side in sides) for sides in
                        ([row.invoice for row in rows], [row.ledger for row in rows]))
    return f"{theirs_n:,}", f"{ours_n:,}", f"{theirs_n - ours_n:+,}"


def _differences(found: Reconciled) -> Table:
    table = _new("Where they differ (invoice less ledger)", "day", "model", "account", "what", "difference", "tokens",
                 "", "likely reason")
    for row in found.rows:
        if row.status != "matched":
            table.add_row(
                str(row.day), row.model or "(all)", row.account or "-", STATUS_WORDS[row.status],
                "-" if row.difference is None else signed(row.difference), _token_words(row),
                "" if row.within else "beyond", "; ".join(row.why),
            )
    return table


def _token_words(row: Row) -> str:
    parts = [f"{name.replace('_', ' ')} {n:+,}" for name in CLASSES if (n := (row.tokens or {}).get(name))]
    return ", ".join(parts) or "-"


def _apart(found: Reconciled) -> Table:
    table = _new("Set apart, in no figure above", "in", "what", "why", "amount", "lines or calls")
    for one in found.apart:
        table.add_row(one.side, one.what or "(not named)", one.reason, amount(one.cost), f"{one.lines:,}")
    return table


def signed(value: Decimal) -> str:
    return f"+{amount(value)}" if value > 0 else amount(value)


def _new(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    left = ("model", "account", "what", "why", "in", "day", "likely reason", "")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return table
