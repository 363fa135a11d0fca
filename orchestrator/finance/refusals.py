"""Budgets that refused calls, as far as the ledger tells: an event at the first refusal in each bucket of time.

How many calls were refused is not on record: a refused call never left, and has no row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.config.budget import SPANS
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.scope import within
from orchestrator.store.statements import table
from orchestrator.store.tables import Event

_event = table(Event)
_TOLD = re.compile(r"^budget (['\"])(.+?)\1: limit ([^,]+)")
"""How the event of a refusal begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A budget that refused calls: the account without its bucket, its limits (it may have been changed), the span, and
    the hours, days or months in which a call did not fit; of a budget in total, none."""

    account: str
    limits: tuple[str, ...]
    span: str
    buckets: tuple[str, ...]


def read_refusals(connection: Connection, query: ReportQuery) -> list[Refusal]:
    """Of the period. Another event tells where the limit was changed within a bucket: it counts once."""
    c = _event.c
    rows = select(c.pipeline, c.detail).where(c.kind == "budget_refused", within(c.at, query.period))
    if query.pipeline is not None:
        rows = rows.where(c.pipeline == query.pipeline)
    limits: dict[tuple[str, str], dict[str, None]] = {}
    buckets: dict[tuple[str, str], set[str]] = {}
    for pipeline, detail in connection.execute(rows.order_by(c.at, c.event_id)):
        account, span, bucket, limit = _read(pipeline, detail)
        limits.setdefault((account, span), {})[limit] = None
        buckets.setdefault((account, span), set()).update([bucket] if bucket else [])
    return [
        Refusal(account=account, limits=tuple(said), span=span, buckets=tuple(sorted(buckets[account, span])))
        for (account, span), said in limits.items()
    ]


def _read(pipeline: str, detail: str) -> tuple[str, str, str, str]:
    """Account, span, bucket and limit of SPAN:WHO:BUCKET; in total there is no bucket."""
    told = _TOLD.match(detail)
    if told is None:
        return f"of {pipeline}", "", "", detail
    span, who, *rest = told[2].split(":")
    bucket = ":".join(rest) if span in SPANS else ""
    return f"{span}:{who}" if span in SPANS else told[2], span, bucket, told[3]
