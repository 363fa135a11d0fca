"""The comparison: invoice and ledger by UTC day, model and account, each difference with what may have made it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TypeVar

from sqlalchemy import Connection

from orchestrator.config.prices import PriceBook
from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.bridge import bridged, bridges
from orchestrator.finance.charges import read_charges
from orchestrator.finance.invoice.ledger import LOCAL, Names, figures, in_currency_of, of_provider
from orchestrator.finance.invoice.notes import check_accounts, dimension_notes, local_notes, rate_notes
from orchestrator.finance.invoice.reasons import alias_notes, reasons
from orchestrator.finance.invoice.records import (
    Apart,
    ComparedRow,
    Figures,
    Invoice,
    InvoiceLine,
    Reconciled,
    RowStatus,
    Tolerance,
)
from orchestrator.finance.money_sums import exact_sum
from orchestrator.finance.period import Period

RowKey = tuple[date, str, str]
L = TypeVar("L", Charge, InvoiceLine)
SHOWN = 10


def reconcile(
    connection: Connection, invoice: Invoice, *, period: Period | None = None, book: PriceBook | None = None,
    tolerance: Tolerance | None = None, pipeline: str | None = None, accounts: Sequence[str] = (),
) -> Reconciled:
    """Lay `invoice` beside the ledger. Without a period: from the file's first day to its last.

    `accounts` are the invoice's accounts (projects, workspaces, keys) that are this ledger's; without any, those that
    the price book names, and where it names none of them, all. Raises InputError for days outside of the period, for
    an account that the file has no line of, and for a currency that is neither the ledger's nor convertible.
    """
    book, tolerance = book or PriceBook.model_validate({"book": "none"}), tolerance or Tolerance()
    since, until = _days(invoice, period)
    names = Names(book, invoice.provider)
    check_accounts(accounts, invoice, names)
    mine, apart = _ours(invoice, names, accounts)
    calls = read_charges(connection, period=_utc(since, until), pipeline=pipeline)
    ours, others = of_provider(calls, invoice, names)
    cost = in_currency_of(ours, invoice.currency, book)
    local: dict[tuple[date, str], int] = {}
    for line in calls:
        if line.provider in LOCAL:
            local_at = line.day, names.model(line.model)
            local[local_at] = local.get(local_at, 0) + line.calls
    by_model = any(line.model for line in mine or invoice.lines)
    by_account = _told_apart(mine, ours, names)

    def place(line: Charge | InvoiceLine) -> RowKey:
        return line.day, names.model(line.model) if by_model else "", names.account(line.account) if by_account else ""

    theirs, here = _grouped(mine, place), _grouped(ours, place)
    rows = [
        _row(
            at, Figures(cost=_total(theirs[at]), tokens=_tokens(theirs[at])) if at in theirs else None,
            figures(here[at], cost) if at in here else None, tolerance, here.get(at, ()),
            {model: n for (day, model), n in local.items() if day == at[0]},
        )
        for at in sorted({*theirs, *here})
    ]
    return Reconciled(
        file=invoice.file, shape=invoice.shape, currency=invoice.currency, since=since, until=until,
        tolerance=tolerance, rows=tuple(row for row in rows if row is not None), apart=(*apart, *others),
        notes=(
            *dimension_notes(by_model, by_account, mine, ours, names),
            *local_notes(calls), *rate_notes(ours, invoice.currency, book),
            *alias_notes(_models(mine, names), _models(calls, names)),
        ),
        rounding=_rounding(mine), grand_total=_total(invoice.lines),
        ledger=bridges((one.role, one.cost) for one in calls if one.cost is not None),
        compared=None if invoice.currency is None else bridged(
            ((one.role, cost(one)) for one in ours if one.cost is not None), invoice.currency
        ),
    )


def _rounding(lines: Iterable[InvoiceLine]) -> Decimal:
    """Half a unit of the file's last place for each line: what rounding can have added to or taken from their sum."""
    places = [-int(line.cost.as_tuple().exponent) for line in lines if line.cost is not None]
    return Decimal(len(places)).scaleb(-max([2, *places])) / 2


def _models(lines: Iterable[Charge | InvoiceLine], names: Names) -> set[str]:
    return {names.model(line.model) for line in lines if line.model}


# -- which days, whose lines -----------------------------------------------------------------------------------------


def _days(invoice: Invoice, period: Period | None) -> tuple[date, date]:
    """First day, and the day after the last. Raises InputError for lines outside, and for no whole UTC days."""
    since = period.since if period else None
    until = period.until if period else None
    for name, moment in (("starts", since), ("ends", until)):
        if moment is not None and moment.astimezone(UTC).time() != time():
            raise InputError(
                f"the period {name} at {moment.isoformat()}, and invoices go by UTC days", hint="give --tz UTC"
            )
    first = since.astimezone(UTC).date() if since else min(line.day for line in invoice.lines)
    after = until.astimezone(UTC).date() if until else max(line.day for line in invoice.lines) + timedelta(days=1)
    outside = [line for line in invoice.lines if not first <= line.day < after]
    if outside:
        named = [f"{line.place}: {line.day} is outside of {first} to {after}" for line in outside[:SHOWN]]
        more = [f"and {len(outside) - SHOWN:,} more"] if len(outside) > SHOWN else []
        raise InputError("\n".join([*named, *more]), hint="give the period that the file is of, or none")
    return first, after


def _utc(since: date, until: date) -> Period:
    start, end = (datetime.combine(day, time(), UTC) for day in (since, until))
    return Period(since=start, until=end)


def _ours(invoice: Invoice, names: Names, accounts: Sequence[str]) -> tuple[list[InvoiceLine], list[Apart]]:
    """The lines to compare; apart, and summed: what is no model usage, and what other accounts used."""
    known = {names.account(account) for account in accounts} or {
        names.account(line.account) for line in invoice.lines if names.account(line.account) in names.book.accounts
    }
    mine: list[InvoiceLine] = []
    others: dict[tuple[str, str], list[InvoiceLine]] = {}
    for line in invoice.lines:
        if line.account and known and names.account(line.account) not in known:
            others.setdefault((line.account, "another account's usage"), []).append(line)
        elif line.kind == "other":
            others.setdefault((line.what, "no usage of a model"), []).append(line)
        elif line.cost is not None and line.cost < 0:
            others.setdefault((line.what or line.model, "a credit"), []).append(line)
        else:
            mine.append(line)
    return mine, [
        Apart(side="invoice", what=what, reason=reason, lines=len(some), cost=_total(some), currency=invoice.currency)
        for (what, reason), some in sorted(others.items())
    ]


def _total(lines: Iterable[InvoiceLine]) -> Decimal | None:
    costs = [line.cost for line in lines if line.cost is not None]
    return exact_sum(costs) if costs else None


def _told_apart(mine: Iterable[InvoiceLine], ours: Iterable[Charge], names: Names) -> bool:
    """Can accounts be compared: the file tells them, and the ledger's are among them."""
    theirs = {names.account(line.account) for line in mine if line.account}
    return bool(theirs & {names.account(line.account) for line in ours if line.account})


# -- the rows --------------------------------------------------------------------------------------------------------


def _grouped(lines: Iterable[L], place: Callable[[L], RowKey]) -> dict[RowKey, list[L]]:
    alike: dict[RowKey, list[L]] = {}
    for line in lines:
        alike.setdefault(place(line), []).append(line)
    return alike


def _tokens(lines: Iterable[InvoiceLine]) -> dict[str, int] | None:
    """By the classes that the file tells."""
    sums: dict[str, int] = {}
    for line in lines:
        for name, count in (line.tokens or {}).items():
            sums[name] = sums.get(name, 0) + count
    return sums or None


def _row(
    at: RowKey, theirs: Figures | None, here: Figures | None, tolerance: Tolerance, calls: Sequence[Charge],
    local: Mapping[str, int],
) -> ComparedRow | None:
    invoice, ledger = theirs or Figures(), here or Figures()
    if theirs is None and not _costly(ledger):
        return None  # calls that failed without usage: nobody bills them
    by_money = theirs is None or invoice.cost is not None
    difference = exact_sum([invoice.cost, None if ledger.cost is None else -ledger.cost]) if by_money else None
    tokens = _difference(invoice.tokens, ledger.tokens if here else dict.fromkeys(invoice.tokens or (), 0))
    within = _within(difference, invoice.cost, tolerance) if difference is not None else True
    if not by_money and tokens is not None:
        within = _tokens_within(tokens, invoice.tokens or {}, tolerance)
    if theirs is None and ledger.cost is None:
        within = False
    status = _status(theirs, here, tokens, within)
    return ComparedRow(
        day=at[0], model=at[1], account=at[2], status=status, invoice=invoice, ledger=ledger, difference=difference,
        tokens=tokens, within=within,
        why=tuple(reasons(status, at[1], invoice, ledger, difference, tokens, calls, local))
        if status != "matched" or _notable(difference, invoice.cost, tolerance) else (),
    )


def _notable(difference: Decimal | None, invoiced: Decimal | None, tolerance: Tolerance) -> bool:
    """May a line that is within the tolerance have put the total beyond it?"""
    return difference is not None and abs(difference) * 100 > abs(invoiced or Decimal(0)) * tolerance.total


def _costly(ledger: Figures) -> bool:
    return bool(ledger.cost or ledger.unpriced or ledger.unsettled or any((ledger.tokens or {}).values()))


def _difference(theirs: Mapping[str, int] | None, here: Mapping[str, int] | None) -> dict[str, int] | None:
    """By class, where the invoice tells tokens."""
    if theirs is None or here is None:
        return None
    return {name: count - here.get(name, 0) for name, count in theirs.items()}


def _within(difference: Decimal, invoiced: Decimal | None, tolerance: Tolerance) -> bool:
    return abs(difference) <= max(tolerance.amount, abs(invoiced or Decimal(0)) * tolerance.percent / 100)


def _tokens_within(tokens: Mapping[str, int], invoiced: Mapping[str, int], tolerance: Tolerance) -> bool:
    return all(abs(n) * 100 <= invoiced.get(name, 0) * tolerance.percent for name, n in tokens.items())


def _status(
    theirs: Figures | None, here: Figures | None, tokens: Mapping[str, int] | None, within: bool
) -> RowStatus:
    if theirs is None:
        return "missing_there"
    if here is None:
        return "missing_here"
    if within:
        return "matched"
    return "tokens" if tokens and any(tokens.values()) else "price"
