"""A certificate file: a threshold, with the data behind it, its guarantee, and what it was certified for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.config.checked import validated
from orchestrator.config.digest import digest
from orchestrator.config.document import Document, read_json


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
    """What the ledger knows a certificate by: another calibration makes another, whatever its threshold."""
    return digest(certificate)
