"""What is learned from the ledger: certified thresholds. The names below load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.quality.certify import certify
    from orchestrator.quality.records import Certificate, Record

__all__ = ["Certificate", "Record", "certify"]


def __getattr__(name: str) -> Any:
    if name == "certify":
        from orchestrator.quality import certify as module

        return module.certify
    if name in ("Certificate", "Record"):
        from orchestrator.quality import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
