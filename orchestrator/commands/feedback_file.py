"""A CSV file of outcomes learned later: run_id, success, and optionally reason."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InputError

_TRUTH = {"true": True, "1": True, "yes": True, "success": True,
          "false": False, "0": False, "no": False, "failure": False}


@dataclass(frozen=True, slots=True)
class Feedback:
    run_id: str
    success: bool
    reason: str = ""


def read_feedback(path: Path) -> list[Feedback]:
    """All rows of the file. Raises InputError that lists every bad line, and then none is to be recorded."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = {"run_id", "success"} - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{path}:1: no column {', '.join(sorted(missing))}", hint="run_id,success,reason")
            found = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not CSV in UTF-8: {error}") from None
    bad = [f"{path}:{line}: {wrong}" for line, row in found if (wrong := _wrong(row))]
    if bad:
        raise InputError("\n".join(bad), hint="nothing was recorded")
    return [
        Feedback(row["run_id"], _TRUTH[row["success"].strip().lower()], row.get("reason") or "") for _, row in found
    ]


def _wrong(row: dict[str, str]) -> str:
    if not row["run_id"]:
        return "run_id is empty"
    if (row["success"] or "").strip().lower() not in _TRUTH:
        return f"success is {row['success']!r}: write true or false"
    return ""
