"""Task files, JSONL or CSV, read line by line: a bad line is reported with its number and stops nothing."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from orchestrator.cascade.given import as_task
from orchestrator.errors import InputError, OrchestratorError, TaskError
from orchestrator.records import Task

LONGEST = 1 << 20
READ_MARGIN = 2
"""A line may be this many times `limits.task_bytes` long before it is not even read whole."""


HANDED_OFF_KEYS = frozenset({"run_id", "reason"})
"""What a `--handed-off` file says besides the task: such a file may be run again as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: a task, or why it is none. `number` counts from 1."""

    number: int
    task: Task | None = None
    error: OrchestratorError | None = None
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a file holds: `lines` that are not blank, their `size_bytes` altogether, and those of the longest. In a CSV
    file the header's names are said with each line, as a task has them."""

    lines: int
    size_bytes: int
    longest: int = 0


def measure(path: Path, limit: int | None = None) -> Size:
    """Count the first `limit` lines (None: all) without parsing. Raises InputError where the file can't be read."""
    lines = size = longest = names = 0
    header = 1 if path.suffix.lower() == ".csv" else 0
    for _, raw in _raw_lines(path, LONGEST):
        if limit is not None and lines >= limit + header:
            break
        if raw is None or raw.strip():
            lines += 1
            size += (length := len(raw) if raw is not None else LONGEST)
            longest = max(longest, length)
            names = names or header * length
    lines = max(0, lines - header)
    return Size(lines=lines, size_bytes=size + lines * names, longest=longest + names)


def read(path: Path, *, task_bytes: int, schema: Mapping[str, Any] | None) -> Iterator[Line]:
    """The file's lines, one at a time. Raises InputError where it can't be read at all."""
    if path.suffix.lower() == ".csv":
        yield from _csv(path, task_bytes, schema)
        return
    for number, raw in _raw_lines(path, task_bytes * READ_MARGIN):
        if raw is None:
            words = f"the line is longer than {task_bytes * READ_MARGIN} bytes (`limits.task_bytes` is {task_bytes})"
            yield Line(number=number, error=TaskError(words))
        elif raw.strip():
            yield _line(number, raw)


def _line(number: int, raw: bytes) -> Line:
    text = raw[:2000].decode("utf-8", "replace").rstrip("\r\n")
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        words = "not UTF-8" if "utf" in str(error).lower() else "not JSON"
        return Line(number=number, text=text, error=TaskError(f"{words}: {error}"))
    if not isinstance(found, dict):
        return Line(number=number, text=text, error=TaskError(f"a line is an object, not {type(found).__name__}"))
    try:
        return Line(number=number, task=_task(found), text=text)
    except TaskError as error:
        return Line(number=number, text=text, error=error)


def _task(found: dict[str, Any]) -> Task:
    return as_task({name: value for name, value in found.items() if name not in HANDED_OFF_KEYS})


def _raw_lines(path: Path, most: int) -> Iterator[tuple[int, bytes | None]]:
    """(number, line) pairs; None for a line longer than `most` bytes, which is skipped without being held."""
    with _open(path) as file:
        number = 0
        while raw := file.readline(most):
            number += 1
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                raw = raw[3:]
            if len(raw) == most and not raw.endswith(b"\n"):
                while (rest := file.readline(most)) and not rest.endswith(b"\n"):
                    pass
                yield number, None
            else:
                yield number, raw


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"can't read {str(path)!r}: {error.strerror or error}") from error


def _csv(path: Path, task_bytes: int, schema: Mapping[str, Any] | None) -> Iterator[Line]:
    """Columns `id`, `meta.NAME`, `expected` or `expected.NAME`; any other, NAME or `input.NAME`, is the input's."""
    parts = (schema or {}).get("properties", {})
    types = {name: parts.get(name, {}).get("properties", {}) for name in ("input", "meta")}
    csv.field_size_limit(max(task_bytes, 1000))
    with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
        rows = csv.DictReader(file)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(number=rows.line_num, error=TaskError(f"not CSV: {error}"))
                continue
            yield _csv_line(rows.line_num, row, types)


def _csv_line(number: int, row: Mapping[str | None, Any], types: Mapping[str, Mapping[str, Any]]) -> Line:
    text = ",".join(str(v) for v in row.values())[:2000].encode("utf-8", "replace").decode()
    try:
        if None in row or any(v is None for v in row.values()):
            raise TaskError("the line has more or fewer fields than the header")
        task = _csv_task({str(k): v for k, v in row.items()}, types)
    except TaskError as error:
        return Line(number=number, text=text, error=error)
    return Line(number=number, task=task, text=text)


def _csv_task(row: dict[str, str], types: Mapping[str, Mapping[str, Any]]) -> Task:
    for name, value in row.items():
        if any("\udc80" <= c <= "\udcff" for c in value):
            raise TaskError(f"column {name!r} is not UTF-8")
    given: dict[str, Any] = {"input": {}, "meta": {}}
    expected: Any = None
    for name, value in row.items():
        head, _, rest = name.partition(".")
        if name == "id":
            given["id"] = value or None
        elif head == "meta" and rest:
            if value:
                given["meta"][rest] = _typed(value, types["meta"].get(rest, {}))
        elif name == "expected":
            expected = _typed(value, {}) if value else None
        elif head == "expected" and rest:
            expected = {**(expected or {}), rest: _typed(value, {})}
        else:
            field = rest if head == "input" and rest else name
            given["input"][field] = _typed(value, types["input"].get(field, {"type": "string"}))
    return as_task({**given, "expected": expected})


def _typed(value: str, schema: Mapping[str, Any]) -> Any:
    """A CSV cell as the schema's type; where none is known, JSON if it reads as such, else the text."""
    if schema.get("type") == "string":
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
