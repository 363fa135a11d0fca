"""Baselines: one row for each task that the validator answered alone."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal

from orchestrator.store.baseline_tables import BaselineRow
from orchestrator.store.statements import Transaction, inserting_new

_BASELINE = inserting_new(
    BaselineRow, "run_id", "pipeline", "share", "served", "required", "same", "judge", "right", "ended_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineEntry:
    """How a baseline's answer compares; the fields are those of `BaselineRow`."""

    run_id: str
    pipeline: str
    share: float
    served: bool
    required: bool | None
    same: bool | None
    judge: Literal["label", "proof"] | None
    right: bool | None
    ended_at: float


def record(transaction: Transaction, entry: BaselineEntry) -> None:
    """Keep it; a second one of the same run is passed over."""
    transaction.many(_BASELINE, [astuple(entry)])
