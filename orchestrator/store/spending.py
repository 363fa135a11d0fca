"""What runs of a pipeline have cost so far."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.records import Money
from orchestrator.store.statements import table
from orchestrator.store.tables import OutcomeRow

_outcome = table(OutcomeRow)
LATEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentSoFar:
    """The cost of a pipeline's latest runs altogether, by currency. Runs of unknown cost are left out."""

    runs: int
    costs: tuple[Money, ...]


def latest(connection: Connection, pipeline: str) -> SpentSoFar:
    o = _outcome.c
    query = select(o.cost_nano, o.currency).where(
        o.pipeline == pipeline, o.cost_nano.is_not(None)
    ).order_by(o.ended_at.desc()).limit(LATEST)
    sums: dict[str, int] = {}
    runs = 0
    for nano, currency in connection.execute(query):
        runs += 1
        sums[currency] = sums.get(currency, 0) + nano
    return SpentSoFar(runs=runs, costs=tuple(Money(nano=n, currency=c) for c, n in sorted(sums.items()) if n))
