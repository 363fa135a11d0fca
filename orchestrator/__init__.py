"""draftgate: a cheap local model drafts, a strong model checks what needs checking, each success has a known cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.errors import OrchestratorError
    from orchestrator.pipeline import Pipeline
    from orchestrator.records import Call, Decision, Money, Outcome, Signal, Task, Usage, Verdict

__all__ = [
    "Call", "Decision", "Money", "OrchestratorError", "Outcome", "Pipeline", "Signal", "Task", "Usage", "Verdict",
]
__version__ = "0.1.0"

_HOMES = dict.fromkeys(__all__, "orchestrator.records") | {
    "OrchestratorError": "orchestrator.errors",
    "Pipeline": "orchestrator.pipeline",
}


def __getattr__(name: str) -> Any:
    """Public names load their module when first used, so that `import orchestrator` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
