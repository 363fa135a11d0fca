"""OpenAI: the dashboard's cost and usage exports (CSV), and the costs and usage APIs of an organisation (JSON).

A cost's `line_item` reads `MODEL, input`, `MODEL, cached input` or `MODEL, output`, with a service tier in front
(`priority | `), a modality behind the model (` audio`) or a context size at the end; anything else is no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from orchestrator.finance.invoice.amounts import amount, one_day, tokens
from orchestrator.finance.invoice.records import InvoiceLine

PROVIDER = "openai"
COST_COLUMNS = frozenset({"amount_value", "amount_currency", "line_item"})
USAGE_COLUMNS = frozenset({"num_model_requests", "input_tokens", "output_tokens", "model"})

_ITEM = re.compile(
    r"^(?:[\w ]+ \| )?(?P<model>[^\s,|]+)(?: (?:text|audio|image))?, (?P<kind>(?:cached )?input|output)"
    r"(?:, .*)?$"
)
_CLASS = {"input": "input", "cached input": "cache_read", "output": "output"}


def cost_row(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A row of the cost export; a day without costs has none. Raises ValueError."""
    if str(row.get("amount_value") or "").strip() == "":
        return
    day = one_day(row.get("start_time_iso") or row.get("start_time"), row.get("end_time_iso") or row.get("end_time"))
    unit = str(row.get("quantity_unit") or "tokens").strip()
    yield _cost(
        place, day, str(row.get("line_item") or ""), amount(row["amount_value"], "amount_value"),
        str(row["amount_currency"]), row.get("quantity") if unit == "tokens" else None, _account(row),
    )


def cost_result(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A result of /v1/organization/costs, with its bucket's times. Raises ValueError."""
    money = row.get("amount")
    if not isinstance(money, Mapping) or "value" not in money:
        raise ValueError(f"amount is {money!r}: an object with value and currency is expected")
    yield _cost(
        place, one_day(row.get("start_time"), row.get("end_time")), str(row.get("line_item") or ""),
        amount(money["value"], "amount.value"), str(money.get("currency") or ""), row.get("quantity"), _account(row),
    )


def _cost(
    place: str, day: Any, item: str, cost: Decimal, currency: str, quantity: object, account: str
) -> InvoiceLine:
    found = _ITEM.match(item.strip().replace("_tokens", ""))
    if found is None:  # without a line item the file was not grouped by it: what the money was for is not told
        kind: Any = "other" if item else "usage"
        return InvoiceLine(place=place, day=day, kind=kind, what=item, account=account, cost=cost,
                           currency=currency.upper())
    counted = None
    if quantity not in (None, ""):
        counted = {_CLASS[found["kind"]]: tokens(quantity, "quantity")}
    return InvoiceLine(place=place, day=day, model=found["model"], account=account, what=item, cost=cost,
                       currency=currency.upper(), tokens=counted)


def usage_row(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A row of the usage export, or a result of /v1/organization/usage/completions with its bucket's times."""
    if str(row.get("num_model_requests") or "").strip() in ("", "0"):
        return
    day = one_day(row.get("start_time_iso") or row.get("start_time"), row.get("end_time_iso") or row.get("end_time"))
    cached = tokens(row.get("input_cached_tokens"), "input_cached_tokens")
    whole = tokens(row.get("input_tokens"), "input_tokens")
    if cached > whole:
        raise ValueError(f"input_cached_tokens is {cached}, more than the {whole} input_tokens it is a part of")
    yield InvoiceLine(
        place=place, day=day, model=str(row.get("model") or ""), account=_account(row), tokens={
            "input": whole - cached + tokens(row.get("input_audio_tokens"), "input_audio_tokens"),
            "cache_read": cached, "cache_write": 0,
            "output": tokens(row.get("output_tokens"), "output_tokens")
            + tokens(row.get("output_audio_tokens"), "output_audio_tokens"),
        },
    )


def _account(row: Mapping[str, Any]) -> str:
    return str(row.get("project_id") or row.get("api_key_id") or "")
