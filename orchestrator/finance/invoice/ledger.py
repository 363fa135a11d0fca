"""The ledger's side of an invoice: its calls by UTC day, model and account, those of the invoice's provider."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.config.prices import PriceBook
from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.convert import in_currency
from orchestrator.finance.invoice.records import Apart, Figures, Invoice
from orchestrator.finance.money_sums import exact_sum

LOCAL = ("vllm", "embedded", "python")
"""Kinds of models that no provider invoices."""
TO = {"input": "input", "input_audio": "input", "cache_read": "cache_read", "cache_write": "cache_write",
      "cache_write_1h": "cache_write", "output": "output", "output_audio": "output", "reasoning": "output"}
"""The ledger's token classes as invoices tell them."""


@dataclass(frozen=True, slots=True)
class Names:
    """What models and accounts are called on both sides. Models go by the price book's aliases, **never by a prefix**:
    a dated snapshot is another model until an alias says it is not."""

    book: PriceBook
    provider: str | None

    def model(self, name: str) -> str:
        """LiteLLM's names lead with the provider, which is no part of the name."""
        lead, _, bare = name.partition("/")
        plain = bare if bare and lead == self.provider else name
        return self.book.aliases.get(name) or self.book.aliases.get(plain, plain)

    def account(self, name: str | None) -> str:
        """The alias that the price book has for an invoice's account: by its id or its name."""
        for alias, one in self.book.accounts.items():
            if name in (alias, one.billing_account, one.name, one.sub_account, one.sub_account_name) and name:
                return alias
        return name or ""


def of_provider(
    lines: Iterable[Charge], invoice: Invoice, names: Names
) -> tuple[list[Charge], list[Apart]]:
    """The lines that this invoice should bear, and the sum of those it should not."""
    billed = {names.model(line.model) for line in invoice.lines if line.model}
    ours: list[Charge] = []
    others: dict[tuple[str, str], list[Charge]] = {}
    for line in lines:
        if line.provider in LOCAL:
            others.setdefault(("local models", "no provider bills them"), []).append(line)
        elif names.model(line.model) in billed or _is_of(line, invoice.provider, billed):
            ours.append(line)
        else:
            reason = "not in this file, and not known to be of its provider"
            others.setdefault((names.model(line.model), reason), []).append(line)
    return ours, [
        Apart(side="ledger", what=what, reason=reason, lines=sum(line.calls for line in some), cost=_sum(some),
              currency=next((line.currency for line in some if line.cost is not None), None))
        for (what, reason), some in sorted(others.items())
    ]


def _is_of(line: Charge, provider: str | None, billed: set[str]) -> bool:
    if provider is None or not billed:  # a map, or a file without models: all that a provider bills
        return True
    return line.provider == provider or line.model.startswith(f"{provider}/")


def _sum(lines: Iterable[Charge]) -> Decimal | None:
    """Of one currency; None where they are of several, or of unknown cost."""
    spent = [line.cost for line in lines if line.cost is not None]
    return exact_sum(one.amount for one in spent) if len({one.currency for one in spent}) == 1 else None


def in_currency_of(lines: Iterable[Charge], currency: str | None, book: PriceBook) -> Callable[[Charge], Decimal]:
    """How to tell a line's cost in the invoice's currency. Raises InputError where no rate is pinned for that."""
    others = sorted({line.cost.currency for line in lines if line.cost and line.cost.nano} - {currency, ""})
    rated = {rate.from_ for rate in book.rates} | {rate.to for rate in book.rates}
    if currency is not None and others and not {currency, *others} <= rated:
        raise InputError(
            f"the invoice is in {currency}, and the ledger's calls were priced in {', '.join(others)}",
            hint=f"pin a rate from {others[0]} to {currency} under `rates:` in the price book, and give it by --prices",
        )

    def cost(line: Charge) -> Decimal:
        if line.cost is None:
            return Decimal(0)
        if not line.cost.currency or currency is None:
            return line.cost.amount
        return Decimal(in_currency(line.cost.nano, line.cost.currency, currency, line.day, book.rates)).scaleb(-9)

    return cost


def figures(lines: Sequence[Charge], cost: Callable[[Charge], Decimal]) -> Figures:
    """The sums of lines that are alike."""
    tokens = dict.fromkeys(TO.values(), 0)
    for line in lines:
        for name, count in line.tokens.items():
            tokens[TO[name]] += count
    priced = [cost(line) for line in lines if line.cost is not None]
    return Figures(
        cost=exact_sum(priced) if priced else None, tokens=tokens, calls=sum(line.calls for line in lines),
        unpriced=sum(line.unpriced for line in lines), unsettled=sum(line.unsettled for line in lines),
        estimated=sum(line.calls for line in lines if line.provenance == "estimated"),
        bound=exact_sum(line.bound.amount for line in lines if line.bound is not None),
    )
