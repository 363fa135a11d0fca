"""What the configurations in the ledger mean for reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from orchestrator.config.pipeline import SuccessConfig
from orchestrator.store.statements import table
from orchestrator.store.tables import Config

CALIBRATION = "calibration"
"""The mode under which `calibrate` drafts: its runs serve nobody and are in no figure, its cost is a line apart."""
BASELINE = "baseline"
APART = (BASELINE, CALIBRATION)
"""Roles whose cost is no part of cost per success."""

Fitted = Mapping[str, Sequence[str]]
"""Steps whose logged confidence is a fitted probability, with the ids of the configurations where it is."""

config = table(Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a pipeline's configurations say of success, which tags they let into reports, and which steps' confidence
    is a fitted probability."""

    config_id: str
    pipeline: str
    require: str | None
    feedback_window_s: float
    tags: tuple[str, ...]
    fitted: tuple[str, ...] = ()


def read_configs(connection: Connection, pipeline: str | None) -> list[Configured]:
    """Oldest first: the last of a pipeline is the present one."""
    rows = select(config.c.config_id, config.c.pipeline, config.c.body_json).where(config.c.mode != CALIBRATION)
    rows = rows.order_by(config.c.created_at)
    if pipeline is not None:
        rows = rows.where(config.c.pipeline == pipeline)
    return [_configured(*row) for row in connection.execute(rows)]


def fitted_steps(configs: Iterable[Configured]) -> Fitted:
    steps: dict[str, list[str]] = {}
    for one in configs:
        for step in one.fitted:
            steps.setdefault(step, []).append(one.config_id)
    return steps


def _configured(config_id: str, pipeline: str, body_json: str) -> Configured:
    """From the pipeline file as it was written: what it leaves out has the default."""
    written = json.loads(body_json).get("pipeline") or {}
    success = SuccessConfig.model_validate(written.get("success") or {})
    steps = [step for step in written.get("steps") or () if (step.get("confidence") or {}).get("fitted")]
    return Configured(
        config_id=config_id, pipeline=pipeline, require=success.require, feedback_window_s=success.feedback_window,
        tags=tuple(written.get("tags") or ()), fitted=tuple(step["id"] for step in steps),
    )
