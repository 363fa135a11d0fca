"""What runs of a pipeline have cost so far."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.records import Money
from orchestrator.store.statements import table
from orchestrator.store.tables import Config, OutcomeRow

CALIBRATION = "calibration"
"""The mode under which `calibrate` drafts: its runs serve nobody, and cost a draft each."""
LATEST = 1000
_config, _outcome = table(Config), table(OutcomeRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentSoFar:
    """The cost of a pipeline's latest runs altogether, by currency. Runs of unknown cost and those of `calibrate` are
    left out."""

    runs: int
    costs: tuple[Money, ...]


def latest(connection: Connection, pipeline: str) -> SpentSoFar:
    o, c = _outcome.c, _config.c
    calibrations = select(c.config_id).where(c.pipeline == pipeline, c.mode == CALIBRATION)
    query = select(o.cost_nano, o.currency).where(
        o.pipeline == pipeline, o.cost_nano.is_not(None), o.config_id.not_in(calibrations)
    ).order_by(o.ended_at.desc()).limit(LATEST)
    sums: dict[str, int] = {}
    runs = 0
    for nano, currency in connection.execute(query):
        runs += 1
        sums[currency] = sums.get(currency, 0) + nano
    costs = (Money(nano=nano, currency=code) for code, nano in sorted(sums.items()) if nano)
    return SpentSoFar(runs=runs, costs=tuple(costs))
