"""The report of a period: a closed month as it was frozen, anything else from the ledger as it is now."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Literal

from orchestrator.finance.attention import PERIOD, Finding
from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.closing.restated import restated
from orchestrator.finance.export.frozen import from_json, settled
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.store import closes
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.statements import Readable


def reported(store: Readable, query: ReportQuery, *, now: float | None = None) -> tuple[Report, Breakdown]:
    """What every format is written from. A closed month is frozen by pipeline: asked for in another way (by another
    key, for one pipeline, at another confidence), it is reported from the ledger, as it is known now."""
    now = time.time() if now is None else now
    with store.read() as connection:
        closed = closes.listed(connection)
    frozen = frozen_month(closed, query)
    if frozen is not None:
        return from_json(frozen.figures)
    report = restated(store, build_report(store, query, now=now), closed)
    breakdown = build_breakdown(store, report)
    if (month := _of_span(closed, query)) is not None:
        words = (f"not the closed figures of {month.period}: as known today. The closed ones are by pipeline, without "
                 "--pipeline or --error-price")
        breakdown = with_note(breakdown, "not_closed", words)
    return settled(report, breakdown)


def with_note(breakdown: Breakdown, kind: Literal["closed", "not_closed"], words: str) -> Breakdown:
    """What must be known of the whole, before all that is not urgent."""
    note = Finding(kind=kind, urgent=False, subject="the period", count=1, amounts=(), words=words)
    return replace(breakdown, attention=tuple(sorted((note, *breakdown.attention), key=lambda one: not one.urgent)))


def notes(breakdown: Breakdown) -> list[str]:
    """What `with_note` said of it."""
    return [one.words for one in breakdown.attention if one.kind in PERIOD]


def frozen_month(closed: list[ClosedMonth], query: ReportQuery) -> ClosedMonth | None:
    """The closed month that answers the query, if one does."""
    if query != ReportQuery(period=query.period):
        return None
    return _of_span(closed, query)


def _of_span(closed: list[ClosedMonth], query: ReportQuery) -> ClosedMonth | None:
    span = (query.period.since_at, query.period.until_at)
    return next((one for one in closed if (one.since_at, one.until_at) == span), None)
