"""A comparison as people read it: by model, then every day that differs, then what was set apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from orchestrator.finance.invoice.records import CLASSES, ComparedRow, Reconciled, RowStatus, Tolerance
from orchestrator.finance.money_sums import exact_sum
from orchestrator.finance.phrases import adding_up, amount, counted
from orchestrator.finance.text_table import new_table, plain_console

if TYPE_CHECKING:
    from rich.table import Table

STATUS_WORDS: dict[RowStatus, str] = {
    "matched": "matched", "price": "price differs", "tokens": "tokens differ", "missing_here": "missing in the ledger",
    "missing_there": "missing in the invoice",
}
COLUMNS_OF_WORDS = ("currency", "account", "model", "what", "why", "likely reason", "")
APART_WORDS = {
    "no usage of a model": "tax and other", "a credit": "credits", "another account's usage": "other accounts",
}


def invoice_table(found: Reconciled, *, width: int = 120) -> str:
    """The whole comparison as text, the verdict first."""
    console, text = plain_console(width)
    last = found.until - timedelta(days=1)
    head = f"{found.file} ({found.shape}) beside the ledger, {found.since} to {last}, UTC days"
    for line in (head, _verdict(found), *_totals(found), *(f"! {note}" for note in found.notes)):
        console.print(line, soft_wrap=True)
    console.print()
    console.print(_by_model(found))
    if told := [row for row in found.rows if row.status != "matched" or (not found.total_within and row.why)]:
        console.print(_differences(told))
    if found.apart:
        console.print(_apart(found))
    return text.getvalue()


def _verdict(found: Reconciled) -> str:
    """Always with the difference of the totals: lines may all be within the tolerance, and their sum not."""
    beyond = [row for row in found.rows if not row.within]
    matched = sum(row.status == "matched" for row in found.rows)
    rows = counted(len(found.rows), "line")
    total = f" (total {_total_difference(found)})" if found.difference is not None else ""
    if found.ok:
        return f"AGREED{total}: all {rows} of day, model and account within {tolerance_words(found.tolerance)}."
    return (
        f"DIFFERENT{total}: {len(beyond):,} of {rows} of day, model and account beyond "
        f"{tolerance_words(found.tolerance)}; {matched:,} matched."
    )


def _total_difference(found: Reconciled) -> str:
    share = f", {found.difference / found.invoiced:+.1%}" if found.difference and found.invoiced else ""
    return f"{_side_by_side(found.invoiced, found.recorded)[2]} {found.currency}{share}"


def _totals(found: Reconciled) -> Iterator[str]:
    if found.difference is None:
        return
    limit = f"{found.tolerance.total:f}%"
    if found.total_within and abs(found.difference) * 100 > abs(found.invoiced) * found.tolerance.total:
        limit += f", or the file's rounding of {amount(found.rounding)}"
    invoiced, recorded, _ = _side_by_side(found.invoiced, found.recorded)
    yield (
        f"Total: invoice {invoiced}, ledger {recorded} {found.currency}, difference "
        f"{_total_difference(found)}: {'within' if found.total_within else 'BEYOND'} {limit}."
    )
    if any(one.apart for one in found.ledger):
        yield f"The ledger: {'; '.join(one.words for one in found.ledger)}."
        if found.compared is not None:
            yield f"Of it compared: {found.compared.words}."
    if found.grand_total is not None:
        yield f"{_grand_total(found)}."


def _grand_total(found: Reconciled) -> str:
    """The file's own sum, as it stands on the provider's bill."""
    assert found.grand_total is not None
    parts = {"compared": found.invoiced}
    for one in found.apart:
        if one.side == "invoice" and one.cost is not None:
            name = APART_WORDS.get(one.reason, one.reason)
            parts[name] = exact_sum([parts.get(name), one.cost])
    of = f" = {' + '.join(f'{name} {amount(cost)}' for name, cost in parts.items())}" if len(parts) > 1 else ""
    return f"The file's grand total: {amount(found.grand_total)} {found.currency}{of}"


def tolerance_words(given: Tolerance) -> str:
    return f"{given.amount:f}" + (f" or {given.percent:f}%" if given.percent else "") + " each"


def _by_model(found: Reconciled) -> Table:
    code = found.currency or "no money in the file: tokens"
    table = new_table("By model and account", "model", "account", f"invoice ({code})", f"ledger ({code})", "difference",
                      "lines", "matched", words=COLUMNS_OF_WORDS)
    by_money = found.currency is not None
    for model, account in sorted({(row.model, row.account) for row in found.rows}):
        rows = [row for row in found.rows if (row.model, row.account) == (model, account)]
        table.add_row(
            model or "(all)", account or "-", *_three(rows, by_money), f"{len(rows):,}",
            f"{sum(row.status == 'matched' for row in rows):,}",
        )
    table.add_row("all", "", *_three(found.rows, by_money), f"{len(found.rows):,}",
                  f"{sum(row.status == 'matched' for row in found.rows):,}")
    return table


def _three(rows: Sequence[ComparedRow], by_money: bool) -> tuple[str, str, str]:
    """Invoice, ledger, difference: one unit for all of the table, so that its columns add up. What only one of the two
    has is nothing in the other."""
    if by_money:
        return _side_by_side(exact_sum(row.invoice.cost for row in rows), exact_sum(row.ledger.cost for row in rows))
    theirs_n, ours_n = (sum(sum((side.tokens or {}).values()) for side in sides) for sides in
                        ([row.invoice for row in rows], [row.ledger for row in rows]))
    return f"{theirs_n:,}", f"{ours_n:,}", f"{theirs_n - ours_n:+,}"


def _differences(rows: Sequence[ComparedRow]) -> Table:
    table = new_table("Where they differ (invoice less ledger)", "day", "model", "account", "what", "difference",
                      "tokens", "", "likely reason", words=COLUMNS_OF_WORDS)
    for row in rows:
        table.add_row(
            str(row.day), row.model or "(all)", row.account or "-", STATUS_WORDS[row.status],
            "-" if row.difference is None else signed(row.difference), _token_words(row),
            "within" if row.within else "beyond", "; ".join(row.why),
        )
    return table


def _token_words(row: ComparedRow) -> str:
    parts = [f"{name.replace('_', ' ')} {n:+,}" for name in CLASSES if (n := (row.tokens or {}).get(name))]
    return ", ".join(parts) or "-"


def _apart(found: Reconciled) -> Table:
    table = new_table("Set apart, in no figure above", "in", "what", "why", "amount", "currency", "lines or calls",
                      words=COLUMNS_OF_WORDS)
    for one in found.apart:
        table.add_row(one.side, one.what or "(not named)", one.reason, amount(one.cost), one.currency or "-",
                      f"{one.lines:,}")
    return table


def _side_by_side(theirs: Decimal, ours: Decimal) -> tuple[str, str, str]:
    """Invoice, ledger and difference to one digit, so that the difference can be checked by eye."""
    difference = exact_sum([theirs, -ours])
    (recorded, said), invoiced = adding_up([ours, difference])
    return invoiced, recorded, f"+{said}" if difference > 0 else said


def signed(value: Decimal) -> str:
    return f"+{amount(value)}" if value > 0 else amount(value)
