"""What runs of a pipeline have cost so far, and which tasks cost nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.records import SERVED, Mode, Money
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import Config, OutcomeRow, Run

LATEST = 1000
_config, _outcome, _run = table(Config), table(OutcomeRow), table(Run)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentSoFar:
    """The cost of a pipeline's latest answered runs in one mode altogether, by currency. Runs of unknown cost are left
    out; those of `calibrate` are of a mode of their own."""

    runs: int
    costs: tuple[Money, ...]


def latest(connection: Connection, pipeline: str, mode: Mode) -> SpentSoFar:
    o, c = _outcome.c, _config.c
    alike = select(c.config_id).where(c.pipeline == pipeline, c.mode == mode)
    query = select(o.cost_nano, o.currency).where(
        o.pipeline == pipeline, o.cost_nano.is_not(None), o.status.in_(sorted(SERVED)), o.config_id.in_(alike)
    ).order_by(o.ended_at.desc()).limit(LATEST)
    sums: dict[str, int] = {}
    runs = 0
    for nano, currency in connection.execute(query):
        runs += 1
        sums[currency] = sums.get(currency, 0) + nano
    costs = (Money(nano=nano, currency=code) for code, nano in sorted(sums.items()) if nano)
    return SpentSoFar(runs=runs, costs=tuple(costs))


def done_among(
    connection: Connection, pipeline: str, tenant: str, task_keys: Sequence[str], *, answered: bool = False
) -> set[str]:
    """Which of a tenant's tasks are done; `answered`: and neither handed off nor failed."""
    r, o = _run.c, _outcome.c
    wanted = select(r.task_key).where(
        r.pipeline == pipeline, r.tenant == tenant, among(r.task_key), r.done.is_(True)
    )
    if answered:
        lost = o.status.in_(("handed_off", "failed"))
        wanted = wanted.join(_outcome, o.run_id == r.run_id).where(~lost)
    return {
        key for some in chunks(task_keys) for key in connection.execute(wanted, {"among": some}).scalars()
    }
