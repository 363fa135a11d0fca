"""The evidence of success, as reports know it. It stands in the store, which counts by it."""

from orchestrator.store.evidence import (
    PEOPLE,
    SOURCES,
    Evidence,
    RunIds,
    evidence,
    feedback,
    outcome,
    run,
    spot_check,
    step,
)

__all__ = [
    "PEOPLE", "SOURCES", "Evidence", "RunIds", "evidence", "feedback", "outcome", "run", "spot_check", "step",
]
