"""What is said above the rows: what could not be told apart, at which rate money was converted, what stands outside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.config.prices import PriceBook
from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.convert import rate_of
from orchestrator.finance.invoice.ledger import LOCAL, Names
from orchestrator.finance.invoice.records import Invoice, InvoiceLine
from orchestrator.finance.phrases import counted

SHOWN = 10


def check_accounts(asked: Sequence[str], invoice: Invoice, names: Names) -> None:
    """Raises InputError for an account that no line of the file belongs to."""
    has = sorted({line.account for line in invoice.lines if line.account})
    known = {*has, *map(names.account, has)}
    for account in asked:
        if account not in known:
            more = f" and {len(has) - SHOWN:,} more" if len(has) > SHOWN else ""
            raise InputError(
                f"no line of {invoice.file} belongs to the account {account!r}",
                hint=f"the file has {', '.join(has[:SHOWN])}{more}" if has else "the file tells no accounts",
            )


def dimension_notes(
    by_model: bool, by_account: bool, mine: Sequence[InvoiceLine], ours: Sequence[Charge], names: Names
) -> Iterator[str]:
    """Of models and accounts, which could not be compared, and why."""
    if not mine:
        yield "no line of the file is usage to compare: all of it is set apart below"
    elif not by_model:
        yield "the file does not tell models: whole days are compared (export it grouped by line item or model)"
    theirs = sorted({line.account for line in mine if line.account})
    if by_account or not theirs:
        return
    here = sorted({line.account for line in ours if line.account})
    if not any(names.account(account) in names.book.accounts for account in theirs):
        yield "accounts are not compared: the price book names none of the file's under `accounts:`"
    elif not here:
        yield (
            "accounts are not compared: the price book names the file's, but the ledger's calls carry none "
            "(write `account:` beside the model in the pipeline's `models:`)"
        )
    else:
        yield (
            f"accounts are not compared: the ledger's calls carry {', '.join(here[:SHOWN])}, and the file has "
            f"{', '.join(theirs[:SHOWN])}"
        )


def local_notes(calls: Sequence[Charge]) -> Iterator[str]:
    """Where nothing stands beside the invoice because a provider bills none of the ledger's calls."""
    if calls and all(line.provider in LOCAL for line in calls):
        count = counted(sum(line.calls for line in calls), "call")
        yield f"the ledger has of these days only {count} of local models: no provider bills them, set apart below"


def rate_notes(calls: Sequence[Charge], currency: str | None, book: PriceBook) -> Iterator[str]:
    """Every rate at which a call was converted into the invoice's currency."""
    if currency is None:
        return
    of = {(line.cost.currency, line.day) for line in calls if line.cost and line.cost.nano}
    rates = {(code, rate_of(code, currency, day, book.rates)) for code, day in of if code not in ("", currency)}
    for _, rate in sorted(rates, key=lambda one: (one[0], one[1].valid_from)):
        source = f", {rate.source}" if rate.source else ""
        other = rate.to if rate.from_ == currency else rate.from_
        yield (
            f"the ledger's {other} are told in {currency} at the pinned rate: 1 {rate.from_} = {rate.rate:f} {rate.to} "
            f"(from {rate.valid_from}{source})"
        )
