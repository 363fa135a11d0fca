"""What an invoice says, what the ledger says, and how the two compare. Money is exact; None is not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Literal

from orchestrator.finance.bridge import Bridge
from orchestrator.finance.money_sums import exact_sum

CLASSES = ("input", "cache_read", "cache_write", "output")
"""Tokens as invoices tell them apart: audio counts as what it goes in or comes out as, reasoning as output."""

LineKind = Literal["usage", "other"]
RowStatus = Literal["matched", "price", "tokens", "missing_here", "missing_there"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line of the file. `place` is where it stands. `kind` other: no usage of a model (tax, credits, storage, tool
    calls), `what` says which. `model` and `account` are empty where the file does not tell them.

    `cost` is in units of `currency`, None in a file of tokens alone; `tokens` by CLASSES, None in one of money alone.
    """

    place: str
    day: date
    kind: LineKind = "usage"
    model: str = ""
    account: str = ""
    what: str = ""
    cost: Decimal | None = None
    currency: str = ""
    tokens: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A file, read. `shape` is what it was recognised as, `provider` who wrote it, where that is known."""

    file: str
    shape: str
    provider: str | None
    lines: tuple[InvoiceLine, ...]

    @property
    def currency(self) -> str | None:
        return next((line.currency for line in self.lines if line.currency), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """A line's difference of money is within it where it is within `amount` or within `percent` of the invoice's
    figure; one of tokens where it is within `percent`. The sum of all lines must be within `total` percent, or within
    what the file's own rounding can come to: many small lines, each within `amount`, may add up to a wrong bill."""

    amount: Decimal = Decimal("0.01")
    percent: Decimal = Decimal("0.5")
    total: Decimal = Decimal("0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One side of a row. `calls` and what follows are the ledger's: calls without a price (`unpriced`), without an
    answer (`unsettled`, which cost `bound` at most), and with usage that was inferred (`estimated`)."""

    cost: Decimal | None = None
    tokens: Mapping[str, int] | None = None
    calls: int = 0
    unpriced: int = 0
    unsettled: int = 0
    estimated: int = 0
    bound: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One day, model and account. `difference` is the invoice's cost less the ledger's, one that is absent taken for
    0; `tokens` the same by class, where both tell them. `why` is what may have made it."""

    day: date
    model: str
    account: str
    status: RowStatus
    invoice: Figures
    ledger: Figures
    difference: Decimal | None
    tokens: Mapping[str, int] | None
    within: bool
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """What is in one of the two and not compared, summed: `cost` in units of `currency`, both None where it is not
    known or of several currencies."""

    side: Literal["invoice", "ledger"]
    what: str
    reason: str
    lines: int
    cost: Decimal | None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """The whole comparison. `ok`: neither a row nor the total is beyond the tolerance. `rounding` is what the rounding
    of the compared lines' amounts can come to: half a unit of the file's last place (no coarser than cents) each.
    `grand_total` is of all lines of the file, those set apart too; None in a file of tokens alone. `ledger` is all that
    the ledger has of these days, as the report parts it, and `compared` the part of it that the invoice should bear, in
    its currency; None where no call of it has a cost."""

    file: str
    shape: str
    currency: str | None
    since: date
    until: date
    tolerance: Tolerance
    rows: tuple[ComparedRow, ...]
    apart: tuple[Apart, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)
    rounding: Decimal = Decimal(0)
    grand_total: Decimal | None = None
    ledger: tuple[Bridge, ...] = ()
    compared: Bridge | None = None

    @property
    def ok(self) -> bool:
        return all(row.within for row in self.rows) and self.total_within

    @property
    def difference(self) -> Decimal | None:
        """The invoice's total less the ledger's, of what is compared; None in a file of tokens alone."""
        return exact_sum([self.invoiced, -self.recorded]) if self.currency is not None else None

    @property
    def total_within(self) -> bool:
        allowed = max(abs(self.invoiced) * self.tolerance.total / 100, self.rounding)
        return self.difference is None or abs(self.difference) <= allowed

    @property
    def invoiced(self) -> Decimal:
        return exact_sum(row.invoice.cost for row in self.rows)

    @property
    def recorded(self) -> Decimal:
        return exact_sum(row.ledger.cost for row in self.rows)
