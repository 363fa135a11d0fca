"""The files that a calibration writes, each replaced in one move: a reader sees the old one or the new, never half."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InputError
from orchestrator.quality.calibration.evidence import Reference
from orchestrator.quality.records import Certificate

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedPipeline


def certificate_body(
    certificate: Certificate, loaded: LoadedPipeline, step: str, *, signal: str, reference: Reference,
    created: datetime, fingerprint: Mapping[str, str], tried_on: Mapping[str, Any], source: str,
) -> dict[str, Any]:
    """What the certificate's file says of a step."""
    return {
        "kind": "certificate", "format": 1, "pipeline": loaded.config.pipeline, "step": step, "signal": signal,
        "reference": reference, "source": source, "created": created.isoformat(timespec="seconds"),
        **certificate.body(), "fingerprint": dict(fingerprint), "tried_on": dict(tried_on),
    }


def keep_previous(path: Path, what: str) -> Path:
    """A copy beside `path`, as NAME.previous.json: where it is. Raises InputError where it can't be made."""
    kept = path.with_name(f"{path.stem}.previous{path.suffix}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"the {what} before can't be read from {str(path)!r}: {error.strerror}") from error
    write_text(kept, text, f"{what} before")
    return kept


def write_json(path: Path, body: Mapping[str, Any], what: str) -> None:
    """Raises InputError, naming `what` and the path, where it can't be written."""
    write_text(path, json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n", what)


def write_text(path: Path, text: str, what: str) -> None:
    """Raises InputError, naming `what` and the path, where it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        except BaseException:  # Ctrl-C too: no half file is left beside the old one
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(f"the {what} can't be written to {str(path)!r}: {error.strerror}") from error
