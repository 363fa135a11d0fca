"""Anthropic: the Console's cost and usage exports (CSV), and the cost and usage reports of the admin API (JSON).

The Console's cost export names models as people do (`Claude Haiku 4.5`): an alias of the price book tells which that
is. The cost report's amounts are in the currency's lowest unit: cents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.finance.invoice.amounts import amount, one_day, tokens, utc_day
from orchestrator.finance.invoice.records import InvoiceLine

PROVIDER = "anthropic"
COST_COLUMNS = frozenset({"usage_date_utc", "model", "token_type", "cost_usd"})
USAGE_COLUMNS = frozenset({"usage_date_utc", "model_version", "usage_input_tokens_no_cache", "usage_output_tokens"})
_OF_TOKENS = ("", "token", "tokens")


def cost_row(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A row of the Console's cost export, in USD. Raises ValueError."""
    model, kind = str(row.get("model") or "").strip(), str(row.get("cost_type") or "").strip()
    usage = bool(model) and kind in _OF_TOKENS
    yield InvoiceLine(
        place=place, day=utc_day(row["usage_date_utc"], "usage_date_utc"), kind="usage" if usage else "other",
        model=model if usage else "", what=kind if not usage else str(row.get("token_type") or ""),
        account=_account(row), cost=amount(row["cost_usd"], "cost_usd"), currency="USD",
    )


def usage_row(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A row of the Console's usage export. Raises ValueError."""
    yield InvoiceLine(
        place=place, day=utc_day(row["usage_date_utc"], "usage_date_utc"), model=str(row["model_version"]).strip(),
        account=_account(row), tokens={
            "input": tokens(row["usage_input_tokens_no_cache"], "usage_input_tokens_no_cache"),
            "cache_read": tokens(row.get("usage_input_tokens_cache_read"), "usage_input_tokens_cache_read"),
            "cache_write": sum(
                tokens(row.get(name), name)
                for name in ("usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h")
            ),
            "output": tokens(row["usage_output_tokens"], "usage_output_tokens"),
        },
    )


def cost_result(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A result of /v1/organizations/cost_report, with its bucket's times. Raises ValueError."""
    kind, model = str(row.get("cost_type") or ""), str(row.get("model") or "")
    usage = kind in _OF_TOKENS
    yield InvoiceLine(
        place=place, day=one_day(row.get("starting_at"), row.get("ending_at")), kind="usage" if usage else "other",
        model=model if usage else "", what=str(row.get("description") or kind), account=_account(row),
        cost=amount(row.get("amount"), "amount").scaleb(-2), currency=str(row.get("currency") or "USD").upper(),
    )


def usage_result(place: str, row: Mapping[str, Any]) -> Iterator[InvoiceLine]:
    """A result of /v1/organizations/usage_report/messages, with its bucket's times. Raises ValueError."""
    written = row.get("cache_creation") or {}
    yield InvoiceLine(
        place=place, day=one_day(row.get("starting_at"), row.get("ending_at")), model=str(row.get("model") or ""),
        account=_account(row), tokens={
            "input": tokens(row.get("uncached_input_tokens"), "uncached_input_tokens"),
            "cache_read": tokens(row.get("cache_read_input_tokens"), "cache_read_input_tokens"),
            "cache_write": sum(tokens(value, name) for name, value in written.items()),
            "output": tokens(row.get("output_tokens"), "output_tokens"),
        },
    )


def _account(row: Mapping[str, Any]) -> str:
    return str(row.get("workspace_id") or row.get("workspace") or row.get("api_key_id") or "")
