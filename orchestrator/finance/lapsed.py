"""Certificates that spot checks revoked: who reads what a pipeline costs should know that it escalates for a reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.finance.configured import CALIBRATION
from orchestrator.finance.period import Period
from orchestrator.store.lapses import StoredLapse, listed
from orchestrator.store.statements import table
from orchestrator.store.tables import Config

_config = table(Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapsed:
    """`in_force`: the pipeline's last configuration still names this certificate; else another has taken its place."""

    pipeline: str
    step: str
    at: datetime
    reason: str
    in_force: bool

    @property
    def words(self) -> str:
        state = "" if self.in_force else " (another has taken its place)"
        when = f"was revoked on {self.at.date()}{state}"
        return f"{self.pipeline}: the certificate of step {self.step} {when}: {self.reason}."


def read_lapses(connection: Connection, pipeline: str | None, period: Period) -> tuple[Lapsed, ...]:
    """Those of the period, and earlier ones that are in force still."""
    since, until = period.since_at, period.until_at
    by_then = (lapse for lapse in listed(connection, pipeline) if until is None or lapse.at < until)
    found = [(lapse.at, _lapsed(connection, lapse)) for lapse in by_then]
    return tuple(one for at, one in found if one.in_force or since is None or at >= since)


def _lapsed(connection: Connection, lapse: StoredLapse) -> Lapsed:
    c = _config.c
    last = select(c.body_json).where(c.pipeline == lapse.pipeline, c.mode != CALIBRATION)
    body: Any = connection.execute(last.order_by(c.created_at.desc()).limit(1)).scalar_one_or_none()
    return Lapsed(
        pipeline=lapse.pipeline, step=lapse.step, at=datetime.fromtimestamp(lapse.at, UTC), reason=lapse.reason,
        in_force=lapse.certificate in (body or ""),
    )
