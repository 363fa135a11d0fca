"""A file of outcomes learned later, CSV or JSON lines: which run or task, how it turned out, why, and when.

Columns: `run_id`, or `task_id` with `pipeline` (and `tenant`); `success`; and optionally `reason` and `at` (ISO 8601).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.csv_header import delimiter_of
from orchestrator.errors import InputError

SHOWN = 10
"""How many bad lines an error lists."""
KNOWN = ("run_id", "task_id", "pipeline", "tenant", "success", "reason", "at")
COLUMNS = "run_id,success,reason,at  or  task_id,pipeline,tenant,success,reason,at"

_TRUTH = {"true": True, "1": True, "yes": True, "success": True,
          "false": False, "0": False, "no": False, "failure": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRow:
    """One line. Either `run_id` is given, or `task_id` and `pipeline`; `at` is UTC epoch seconds."""

    line: int
    run_id: str = ""
    task_id: str = ""
    pipeline: str = ""
    tenant: str = ""
    success: bool
    reason: str = ""
    at: float | None = None


def read_feedback(path: Path, *, now: float, pipeline: str = "", tenant: str = "") -> list[FeedbackRow]:
    """All rows of the file; `pipeline` and `tenant` are of rows that name none.

    Raises InputError that lists the bad lines: then nothing is to be recorded.
    """
    defaults = {"pipeline": pipeline, "tenant": tenant}
    rows: list[FeedbackRow] = []
    bad: list[str] = []
    for line, values in lines_of(path, COLUMNS, ("run_id", "task_id")):
        try:
            if isinstance(values, str):
                raise ValueError(values)
            rows.append(_row(line, values, defaults, now))
        except ValueError as error:
            bad.append(f"{path}:{line}: {error}")
    refuse(bad)
    return rows


def refuse(bad: Sequence[str]) -> None:
    """Raise InputError where lines are bad: up to ten of them by name."""
    if bad:
        more = [f"and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
        raise InputError("\n".join([*bad[:SHOWN], *more]), hint="nothing was recorded")


def lines_of(path: Path, columns: str, names: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Each line's number and values, or what is wrong with it. A CSV needs `success` and one of the `names` of a run;
    `columns` are those that an error tells of."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                yield from _json_lines(file)
            else:
                delimiter = delimiter_of(file.readline())
                file.seek(0)
                reader = csv.DictReader(file, delimiter=delimiter, strict=True)
                yield from _csv_lines(path, reader, columns, names)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not text in UTF-8, or not CSV: {error}", hint="nothing was recorded") from None


def _json_lines(file: Any) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except ValueError as error:
            yield line, f"not JSON: {error}"
            continue
        yield line, found if isinstance(found, dict) else f"{text.strip()[:60]!r} is no JSON object"


def _csv_lines(
    path: Path, reader: csv.DictReader[str], known: str, names: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Names of columns go by their letters, whatever their case."""
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns = [name.lower() for name in header]
    if "success" not in columns or not set(names) & set(columns):
        missing = "success" if "success" not in columns else " or ".join(names)
        raise InputError(
            f"{path}:1: no column {missing}; the file has {', '.join(header)[:300]}",
            hint=f"the columns are {known}",
        )
    twice = sorted({name for name in columns if columns.count(name) > 1} & set(KNOWN))
    if twice:
        raise InputError(f"{path}:1: there are two columns {twice[0]!r}: {', '.join(header)[:300]}")
    for row in reader:
        yield reader.line_num, "more cells than columns" if None in row else row


def _row(line: int, values: Mapping[str, Any], defaults: Mapping[str, str], now: float) -> FeedbackRow:
    """Raises ValueError that says what is wrong with it."""
    run_id, task_id = text_in(values, "run_id"), text_in(values, "task_id")
    pipeline = text_in(values, "pipeline") or defaults["pipeline"]
    if bool(run_id) == bool(task_id):
        raise ValueError("give run_id or task_id, not both" if run_id else "run_id is empty")
    if task_id and not pipeline:
        raise ValueError(f"task_id {task_id!r} needs its pipeline: add the column, or give --pipeline NAME")
    return FeedbackRow(
        line=line, run_id=run_id, task_id=task_id, pipeline=pipeline,
        tenant=text_in(values, "tenant") or defaults["tenant"], success=truth_in(values),
        reason=text_in(values, "reason"),
        at=_time(text_in(values, "at"), now),
    )


def truth_in(values: Mapping[str, Any]) -> bool:
    """What a line says of success. Raises ValueError where that is neither yes nor no."""
    said = values.get("success")
    success = _TRUTH.get(str(said).strip().lower())
    if success is None:
        raise ValueError(f"success is {said!r}: write true or false")
    return success


def text_in(values: Mapping[str, Any], name: str) -> str:
    """A cell as text; empty where there is none. Raises ValueError for what is neither text nor a whole number."""
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{name} is {value!r}: write text")


def _time(text: str, now: float) -> float | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"at is {text!r}: write a time like 2026-11-22T14:30:00Z") from None
    seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    if seconds > now:
        raise ValueError(f"at is {text!r}, which is in the future")
    return seconds
