"""A certificate file: a threshold, with the data behind it, its guarantee, and what it was certified for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.config.checked import validated
from orchestrator.config.digest import digest
from orchestrator.config.document import Document, read_json

_PROMISE = (
    "pipeline", "step", "signal", "reference", "threshold", "loss", "max_regret", "confidence", "fingerprint",
)
_DRAFTS = ("records", "drafts")
"""The tasks, and in which runs they were drafted; an earlier version did not say the second."""


class CertificateFile(BaseModel):
    """What loading relies on. Further keys (dates, figures) are kept and not compared."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal["certificate"]
    threshold: Annotated[float | None, Field(allow_inf_nan=False)]
    signal: str
    reference: Literal["label", "proof", "validator"]
    guarantee: str
    fingerprint: dict[str, str]


def read_certificate(path: Path) -> Mapping[str, Any]:
    """The certificate as written, its keys checked. Raises ConfigError where it is none."""
    document = Document(path, read_json(path))
    validated(CertificateFile, document)
    return dict(document.data)


def certificate_digest(certificate: Mapping[str, Any]) -> str:
    """What the ledger knows a certificate by: its promise, and the drafts that it stands on. Made again from the very
    same ones, on whatever day and at whatever prices, it is the same; from others it is another, whatever its
    threshold."""
    tried_on = certificate.get("tried_on")
    drafts = [tried_on.get(key) for key in _DRAFTS] if isinstance(tried_on, Mapping) else None
    return digest({**{key: certificate.get(key) for key in _PROMISE}, "drafts": drafts})


def known_as(certificate: Mapping[str, Any]) -> tuple[str, str]:
    """That digest, and the one by which earlier versions recorded it: of the whole file, its date included."""
    return certificate_digest(certificate), digest(certificate)
