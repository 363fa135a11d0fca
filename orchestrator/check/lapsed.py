"""Whether the ledger says that a certificate was revoked. The store is only read, and never made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.check.finding import Finding, compared_drafts, without_a_certificate
from orchestrator.check.recorded import recorded
from orchestrator.config.certificate import certificate_digest
from orchestrator.config.loader import LoadedPipeline
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from orchestrator.store.lapses import StoredLapse


def lapse_findings(loaded: LoadedPipeline, store: str) -> Iterator[Finding]:
    """A warning for each step whose present certificate spot checks revoked, or where the store can't be read."""
    try:
        lapses = _read(loaded.config.pipeline, store)
    except StoreError as error:
        yield Finding("warning", "store", f"it is not known whether a certificate was revoked: {error}")
        return
    for step in loaded.steps:
        certificate = None if step.confidence.problem else step.confidence.certificate
        present = certificate_digest(certificate) if certificate else None
        for lapse in lapses:
            if (lapse.step, lapse.certificate) == (step.config.id, present):
                words = without_a_certificate(loaded, compared_drafts(step))
                revoked = f"revoked on {datetime.fromtimestamp(lapse.at, UTC).date()}: {lapse.reason}"
                yield Finding(
                    "warning", f"step {step.config.id}", f"{words}: its certificate was {revoked}; calibrate anew"
                )


def _read(pipeline: str, url: str) -> list[StoredLapse]:
    from orchestrator.store.lapses import listed

    return recorded(url, "lapse", lambda connection: listed(connection, pipeline))
