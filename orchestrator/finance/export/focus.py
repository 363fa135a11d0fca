"""The charges as a FOCUS file (FinOps Open Cost and Usage Specification), 1.2 or 1.0: what finance tools read.

One row a charge and token class; the charge period is the UTC day, the billing period its month. Billed and effective
cost are the ledger's, to the last billionth; list and contracted cost are unit price times quantity (docs/focus.md).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from orchestrator.finance.breakdown import Breakdown, Charge, group_of_charge
from orchestrator.finance.configured import APART
from orchestrator.finance.export.figures import estimated
from orchestrator.finance.export.flat import FORMULA
from orchestrator.finance.export.focus_prices import UNITS, Priced, UnitPrices
from orchestrator.finance.export.focus_split import by_class, of_use, shares
from orchestrator.finance.phrases import counted
from orchestrator.finance.plain import figure, plain_decimal
from orchestrator.finance.records import Line, Report, Spend
from orchestrator.records import Money

Version = Literal["1.0", "1.2"]
FocusRow = dict[str, str]

COLUMNS: tuple[str, ...] = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId",
    "SubAccountName", "Tags",
)
SINCE_1_2: tuple[str, ...] = ("InvoiceId", "ServiceSubcategory", "SkuMeter", "SkuPriceDetails")
AS_VALIDATED: Mapping[str, str] = {
    "ChargeType": "ChargeCategory", "InvoiceIssuer": "InvoiceIssuerName", "Provider": "ProviderName",
    "Publisher": "PublisherName", "ResourceID": "ResourceId",
}
"""Names that `focus-validator` 1.0.0 asks for in a file of 1.0, with those that the specification gave them."""
OWN: tuple[str, ...] = (
    "x_Pipeline", "x_PipelineVersion", "x_Owner", "x_CostCenter", "x_Mode", "x_Tenant", "x_Step", "x_Role",
    "x_TokenClass", "x_ServiceTier", "x_Provenance", "x_Calls", "x_SuccessfulOutcomes",
    "x_CostPerSuccessfulOutcome",
)
METERS: Mapping[str, str] = {
    "input": "Input Tokens", "input_audio": "Audio Input Tokens", "cache_read": "Cached Input Tokens",
    "cache_write": "Cache Write Tokens", "cache_write_1h": "Cache Write Tokens (1 h)", "output": "Output Tokens",
    "output_audio": "Audio Output Tokens", "reasoning": "Reasoning Tokens", "total": "All Tokens",
}


def columns(version: Version) -> tuple[str, ...]:
    return (*sorted((*COLUMNS, *(AS_VALIDATED if version == "1.0" else SINCE_1_2))), *OWN)


def render_focus(report: Report, breakdown: Breakdown, *, version: Version = "1.2") -> bytes:
    """A CSV file in UTF-8. What has no cost is not in it: see `left_out`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns(version), lineterminator="\r\n", extrasaction="ignore")
    writer.writeheader()
    for row in _rows(report, breakdown):
        also = {name: row.get(same, "") for name, same in AS_VALIDATED.items()}
        writer.writerow({key: _cell(value) for key, value in (row | also).items()})
    return text.getvalue().encode()


def left_out(breakdown: Breakdown) -> list[str]:
    """In words, the calls of which nothing is in the file, because nobody knows what they cost."""
    notes = []
    why = {"unpriced": "without a price", "unsettled": "without an answer", "in_flight": "in flight"}
    for name, words in why.items():
        if n := sum(getattr(one, name) for one in breakdown.charges):
            notes.append(f"{counted(n, 'call')} {words}: not in the file, the cost is unknown")
    if waiting := sum(one.pending for one in breakdown.charges):
        notes.append(f"{counted(waiting, 'call')} in hours of a rented GPU not closed yet: billed cost is usage cost")
    return notes


def _rows(report: Report, breakdown: Breakdown) -> Iterator[FocusRow]:
    prices, results = UnitPrices(breakdown.prices), _Results(report)
    accounts = {one.alias: one for one in breakdown.accounts}
    for charge in breakdown.charges:
        cost = of_use(charge)
        if cost is None:
            continue
        alias = charge.account or "unassigned"
        account = accounts.get(alias)
        common = {
            **_period(charge.day), **_money_columns(cost.currency), **results.of(charge), **_own(charge),
            "BillingAccountId": account.billing_account_id if account else alias,
            "BillingAccountName": account.billing_account_name if account else alias,
            "SubAccountId": (account.sub_account_id if account else None) or "",
            "SubAccountName": (account.sub_account_name if account else None) or "",
            "InvoiceIssuerName": (account.invoice_issuer if account else None) or provider(charge),
            "ProviderName": provider(charge), "PublisherName": provider(charge), "SkuId": charge.model,
            "Tags": json.dumps(dict(charge.tags), ensure_ascii=False, sort_keys=True),
        }
        costs = by_class(charge)
        billed = shares(cost if charge.allocated is None else charge.allocated, costs)
        for i, (name, used) in enumerate(costs.items()):
            yield {**common, **_priced(charge, name, used, billed[name], prices.of(charge, name, used)),
                   "x_Calls": str(charge.calls) if i == 0 else ""}
    yield from _idle(breakdown)


def _period(day: date) -> FocusRow:
    month = day.replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    return {
        "BillingPeriodStart": _moment(month), "BillingPeriodEnd": _moment(following),
        "ChargePeriodStart": _moment(day), "ChargePeriodEnd": _moment(day + timedelta(days=1)),
    }


def _moment(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _money_columns(currency: str) -> FocusRow:
    return {
        "BillingCurrency": currency, "ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based",
        "ServiceCategory": "AI and Machine Learning", "ServiceSubcategory": "Generative AI",
        "ServiceName": "Model inference",
    }


def _own(charge: Charge) -> FocusRow:
    return {
        "x_Pipeline": charge.pipeline, "x_PipelineVersion": charge.version, "x_Owner": charge.owner,
        "x_CostCenter": charge.cost_center, "x_Mode": charge.mode, "x_Tenant": charge.tenant, "x_Step": charge.step,
        "x_Role": charge.role, "x_ServiceTier": charge.tier or "standard",
        "x_Provenance": charge.provenance or charge.state,
    }


def _priced(charge: Charge, name: str, cost: Money, billed: Money, price: Priced) -> FocusRow:
    tokens = sum(charge.tokens.values()) if name == "total" else charge.tokens.get(name, 0)
    meter = METERS[name]
    details = {"x_ModelId": charge.model, "x_ServiceTier": charge.tier or "standard", "x_TokenClass": name}
    return {
        "BilledCost": number(billed.amount), "EffectiveCost": number(cost.amount),
        "ListUnitPrice": number(price.list_price), "ListCost": number(price.list_price * price.quantity),
        "ContractedUnitPrice": number(price.contracted), "ContractedCost": number(price.contracted * price.quantity),
        "PricingQuantity": number(price.quantity), "PricingUnit": price.unit, "PricingCategory": price.category,
        "ConsumedQuantity": number(Decimal(tokens)), "ConsumedUnit": "Tokens",
        "ChargeDescription": f"{charge.model}: {meter.lower()}, {charge.role.replace('_', ' ')} of {charge.pipeline}",
        "SkuMeter": meter, "SkuPriceId": f"{charge.price_version or 'provider'}/{charge.tier or 'standard'}/{name}",
        "SkuPriceDetails": json.dumps(details, ensure_ascii=False), "x_TokenClass": name,
    }


def _idle(breakdown: Breakdown) -> Iterator[FocusRow]:
    """What rented GPUs cost beyond the use made of them: billed, the hours without a call; effective, all idle time.

    Billed and effective cost of a GPU so sum to the same: its bill.
    """
    beyond: dict[tuple[date, str, str, str], list[int]] = {}
    for one in breakdown.idle:
        held = beyond.setdefault((one.day, one.model, one.price_version, one.cost.currency), [0, 0])
        held[0], held[1] = held[0] + one.cost.nano, held[1] + one.cost.nano
    for charge in breakdown.charges:
        if charge.allocated is not None:
            place = charge.day, charge.model, charge.price_version or "", charge.allocated.currency
            beyond.setdefault(place, [0, 0])[1] += charge.allocated.nano - (charge.cost.nano if charge.cost else 0)
    for (day, model, version, currency), (billed, effective) in sorted(beyond.items()):
        cost = Money(nano=billed, currency=currency).amount
        yield {
            **_period(day), **_money_columns(currency), "BillingAccountId": "unassigned",
            "BillingAccountName": "unassigned", "InvoiceIssuerName": SELF, "ProviderName": SELF, "PublisherName": SELF,
            "BilledCost": number(cost), "EffectiveCost": number(Money(nano=effective, currency=currency).amount),
            "ListUnitPrice": number(cost), "ListCost": number(cost), "ContractedUnitPrice": number(cost),
            "ContractedCost": number(cost), "PricingQuantity": "1.0", "PricingUnit": UNITS, "PricingCategory": "Other",
            "ChargeDescription": f"{model}: idle GPU time", "SkuId": model, "SkuMeter": "Idle GPU",
            "SkuPriceId": f"{version}/idle", "Tags": "{}", "x_TokenClass": "idle", "x_Provenance": "allocated",
            "SkuPriceDetails": json.dumps({"x_ModelId": model}),
        }


SELF = "self-hosted"


def provider(charge: Charge) -> str:
    """Who made the model available: LiteLLM's names lead with the provider; what is served here is our own."""
    if charge.provider in ("vllm", "embedded"):
        return SELF
    lead, parted, _ = charge.model.partition("/")
    return lead if parted else charge.provider or "unknown"


class _Results:
    """Successes and their cost, of the report's line that a charge belongs to. Not to be summed: they are of the
    whole line, on each of its rows."""

    def __init__(self, report: Report) -> None:
        self._by = report.query.by
        self._lines: Mapping[tuple[str, ...], Line] = {
            tuple(line.group[key] for key in self._by): line for line in report.lines
        }

    def of(self, charge: Charge) -> FocusRow:
        line = self._lines.get(group_of_charge(charge, self._by))
        if line is None or charge.role in APART:
            return {}
        unit = next((s.per_success for s in _spend(line, charge)), None)
        return {
            "x_SuccessfulOutcomes": f"{figure(line.successes + estimated(line)):.9g}",
            "x_CostPerSuccessfulOutcome": plain_decimal(unit.value) if unit and unit.value is not None else "",
        }


def _spend(line: Line, charge: Charge) -> Sequence[Spend]:
    return [one for one in line.spend if one.currency == charge.currency]


def number(value: Decimal) -> str:
    """A decimal, with its point: a column of whole numbers would be read as integers."""
    text = plain_decimal(value)
    return text if "." in text else f"{text}.0"


def _cell(value: str) -> str:
    """Text that a spreadsheet would run is disarmed; numbers are left alone."""
    return f"'{value}" if value.startswith(FORMULA) and not value[1:2].isdigit() else value
