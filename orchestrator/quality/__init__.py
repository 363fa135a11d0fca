"""What is learned from the ledger: certified thresholds. The names below load on first use.

The function itself is `orchestrator.quality.certify.certify`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.quality.records import Certificate, Record

__all__ = ["Certificate", "Record"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from orchestrator.quality import records

        return getattr(records, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
