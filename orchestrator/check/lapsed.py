"""Whether the ledger says that a certificate was revoked. The store is only read, and never made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.check.finding import Finding
from orchestrator.check.recorded import recorded
from orchestrator.config.certificate import known_as
from orchestrator.config.loader import LoadedPipeline
from orchestrator.errors import StoreError

if TYPE_CHECKING:
    from orchestrator.store.lapses import StoredLapse


def revoked_certificates(loaded: LoadedPipeline, store: str, findings: list[Finding]) -> dict[str, str]:
    """By step: when and why spot checks revoked its present certificate. A store that can't be read is a finding."""
    try:
        lapses = _read(loaded.config.pipeline, store)
    except StoreError as error:
        words = f"it is not known whether a certificate was revoked: {error}"
        findings.append(Finding("warning", "store", words))
        return {}
    present = {
        (step.config.id, digest) for step in loaded.steps
        if step.confidence.certificate and not step.confidence.problem
        for digest in known_as(step.confidence.certificate)
    }
    return {
        lapse.step: f"revoked on {datetime.fromtimestamp(lapse.at, UTC).date()}: {lapse.reason}"
        for lapse in lapses if (lapse.step, lapse.certificate) in present
    }


def _read(pipeline: str, url: str) -> list[StoredLapse]:
    from orchestrator.store.lapses import listed

    return recorded(url, "lapse", lambda connection: listed(connection, pipeline))
