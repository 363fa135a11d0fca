"""Digests of configuration: equal settings give equal digests, wherever the files lie."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from orchestrator.canonical import canonical

_WHOLE_BYTES = 64 * 1024 * 1024
_END_BYTES = 1024 * 1024


def digest(value: Any) -> str:
    """`sha256:` and 64 hex digits of the canonical JSON of `value`."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"


def folder_digest(folder: Path) -> str:
    """The digest of a folder's files, by relative name and content; of a file over 64 MiB its size and both ends.

    Prose (`*.md`, a model card) is left out: it changes no answer.
    """
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".md" and not f.name.startswith("."))
    return digest([[f.relative_to(folder).as_posix(), _file_digest(f)] for f in files])


def _file_digest(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        ends = hashlib.sha256(file.read(_END_BYTES))
        file.seek(-_END_BYTES, 2)
        ends.update(file.read(_END_BYTES))
        return f"{size}:{ends.hexdigest()}"
