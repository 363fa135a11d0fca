"""The report of a period: a closed month as it was frozen, anything else from the ledger as it is now."""

from __future__ import annotations

import time

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.closing.restated import restated
from orchestrator.finance.export.frozen import from_json, settled
from orchestrator.finance.read import Readable
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.store import closes
from orchestrator.store.closes import ClosedMonth


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
    return settled(report, build_breakdown(store, report))


def frozen_month(closed: list[ClosedMonth], query: ReportQuery) -> ClosedMonth | None:
    """The closed month that answers the query, if one does."""
    if query != ReportQuery(period=query.period):
        return None
    span = (query.period.since_at, query.period.until_at)
    return next((one for one in closed if (one.since_at, one.until_at) == span), None)
