"""What is learned from the ledger: certified thresholds first of all. The names below load on first use.

    from orchestrator.quality import certify, Record
    certificate = certify(records, max_regret=0.03)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.quality.certification.thresholds import certify, records_needed
    from orchestrator.quality.records import Certificate, Record, Tested

__all__ = ["Certificate", "Record", "Tested", "certify", "records_needed"]


def __getattr__(name: str) -> Any:
    if name in ("Certificate", "Record", "Tested"):
        from orchestrator.quality import records

        return getattr(records, name)
    if name in ("certify", "records_needed"):
        from orchestrator.quality.certification import thresholds

        return getattr(thresholds, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
