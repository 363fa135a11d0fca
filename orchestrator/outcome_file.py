"""OUT.jsonl and its companions: what a file run writes, one line an outcome, never the same outcome twice.

Lines are only appended, until the file is closed: then the lines of runs whose task was done again are taken out, the
file being replaced in one step. A kill in between leaves both lines, and the next run takes the old one out.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Self

import orjson

from orchestrator.errors import InputError, OrchestratorError
from orchestrator.records import TOKEN_CLASSES, Call, Outcome, Task

if TYPE_CHECKING:
    from orchestrator.store.engine import Store

FLUSH_EVERY = 200


class OutcomeFile:
    """Appends outcomes to `path` (None: standard output). What an earlier run wrote is kept; a torn last line,
    left by a kill, is cut off. `beside` is a file of tasks given to people, which loses those done again, too."""

    def __init__(self, path: Path | None, beside: Path | None = None) -> None:
        self._path, self._beside = path, beside
        self._written = _Written()
        self._first: str | None = None
        self._file: IO[bytes] | None = None
        self._unflushed = 0

    def __enter__(self) -> Self:
        if self._path is None:
            import sys

            self._file = sys.stdout.buffer
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"can't write {str(self._path)!r}: {error.strerror or error}") from error
        self._file = append_private(self._path, "a+b")
        try:
            self._read_back(self._file)
        except BaseException:  # whatever it is, the file is not left open
            self._written.close()
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if self._file is not None and self._path is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        elif self._file is not None:
            self._file.flush()
        if kind is None:
            self._take_out()
        self._written.close()

    def _take_out(self) -> None:
        if self._path is not None and self._written.replaces_some:
            without(self._path, self._written.is_replaced)
        if self._beside is not None and self._beside.is_file() and self._written.knows_replaced:
            without(self._beside, self._written.is_replaced)

    async def belongs_to(self, store: Store) -> None:
        """Raises InputError where the file holds outcomes of another store: they would mix."""
        if self._first is not None and await store.stored_outcome(self._first) is None:
            raise InputError(
                f"{str(self._path)!r} holds outcomes that are not in this store (run {self._first!r})",
                hint="name another --out, move the file away, or give the --store it was written with",
            )

    def write(self, outcome: Outcome) -> bool:
        """Append the outcome; False where it is in the file already."""
        assert self._file is not None
        if not self._written.add(outcome.run_id, outcome.again_of):
            return False
        self._file.write(outcome_line(outcome))
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self._file.flush()
            self._unflushed = 0
        return True

    def _read_back(self, file: IO[bytes]) -> None:
        file.seek(0)
        good = 0
        for line in file:
            try:
                found = orjson.loads(line)
                run_id, again_of = found["run_id"], found.get("again_of", ())
            except (orjson.JSONDecodeError, KeyError, TypeError):
                if line.endswith(b"\n"):
                    raise InputError(
                        f"{str(self._path)!r} is not an outcome file", hint="name another --out"
                    ) from None
                break
            if not line.endswith(b"\n"):
                break
            self._first = self._first or run_id
            self._written.add(run_id, again_of)
            good += len(line)
        file.truncate(good)


class _Written:
    """Which runs the file holds, and which ones others did again: on disk but for a cache of fixed size, since a set
    would grow with the file."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a temporary file of SQLite's own, gone on close
        for name in ("written", "replaced"):
            self._database.execute(f"CREATE TABLE {name} (run_id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._insert = self._database.cursor()

    def add(self, run_id: str, again_of: Sequence[str] = ()) -> bool:
        """False where it is there already."""
        for one in again_of:
            self._insert.execute("INSERT OR IGNORE INTO replaced VALUES (?)", (one,))
        self._insert.execute("INSERT OR IGNORE INTO written VALUES (?)", (run_id,))
        return self._insert.rowcount == 1

    @property
    def knows_replaced(self) -> bool:
        return self._has("SELECT 1 FROM replaced LIMIT 1")

    @property
    def replaces_some(self) -> bool:
        """Does the file hold runs that others did again."""
        return self._has("SELECT 1 FROM replaced JOIN written USING (run_id) LIMIT 1")

    def is_replaced(self, run_id: str) -> bool:
        return self._has("SELECT 1 FROM replaced WHERE run_id = ?", run_id)

    def _has(self, query: str, *values: str) -> bool:
        return self._database.execute(query, values).fetchone() is not None

    def close(self) -> None:
        self._database.close()


class RejectedFile:
    """`OUT.rejected.jsonl`: lines that could not be taken, made only when there is one. Written anew by each run."""

    def __init__(self, out: Path | None) -> None:
        self.path = out.with_name(f"{out.name.removesuffix('.jsonl')}.rejected.jsonl") if out else None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, number: int, error: OrchestratorError, text: str) -> None:
        body = orjson.dumps({"line": number, "error": f"{type(error).__name__}: {error}", "text": text}) + b"\n"
        if self.path is None:
            import sys

            sys.stderr.buffer.write(body)
            return
        if self._file is None:
            self._file = append_private(self.path)
        self._file.write(body)
        self._file.flush()


def outcome_line(outcome: Outcome) -> bytes:
    """One line of OUT.jsonl. Costs are exact decimal numbers, null where unknown."""
    d = outcome.decision
    line: dict[str, Any] = {
        "id": outcome.id, "run_id": outcome.run_id, "status": outcome.status, "value": outcome.value,
        "success": outcome.success, "success_source": outcome.success_source,
        "decision": {"rule": d.rule, "action": d.action, "explanation": d.explanation} if d else None,
        "cost_usd": _exact(outcome.cost_usd), "calls": [_call(c) for c in outcome.calls],
    }
    if outcome.again_of:
        line["again_of"] = outcome.again_of
    if outcome.degraded:
        line["degraded"] = True
    if outcome.error:
        line["error"] = outcome.error
    if len(outcome.steps) > 1:
        line["steps"] = {name: {"status": s.status, "value": s.value} for name, s in outcome.steps.items()}
    return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def handed_off_line(task: Task, outcome: Outcome) -> bytes:
    """A task for a person, with the reason: a line that can be run again once it is mended."""
    reason = outcome.decision.explanation if outcome.decision else outcome.error
    return orjson.dumps({
        "id": task.id, "input": task.input, "meta": task.meta,
        **({} if task.expected is None else {"expected": task.expected}), "run_id": outcome.run_id, "reason": reason,
    }) + b"\n"


def _call(call: Call) -> dict[str, Any]:
    u = call.usage
    usage = None if u is None else {name: tokens for name in TOKEN_CLASSES if (tokens := getattr(u, name))}
    dollars = call.cost.amount if call.cost is not None and call.cost.currency == "USD" else None
    line = {"role": call.role, "model": call.model, "usage": usage, "cost_usd": _exact(dollars),
            "latency_ms": round(call.latency_ms, 3)}
    return line | ({"error": call.error} if call.error else {})


def _exact(amount: Any) -> Any:
    return None if amount is None else orjson.Fragment(f"{amount.normalize():f}".encode())


def without(path: Path, gone: Callable[[str], bool]) -> None:
    """Take out the lines of runs that are `gone`. Whoever reads the file meanwhile, or after a kill, finds it as it was
    or as it is to be."""
    place = path.resolve()
    fresh = place.with_name(f"{place.name}.new")
    with place.open("rb") as old, _private(fresh, "wb") as new:
        fresh.chmod(stat.S_IMODE(os.fstat(old.fileno()).st_mode))
        for line in old:
            if not gone(_run_of(line)):
                new.write(line)
        new.flush()
        os.fsync(new.fileno())
    fresh.replace(place)


def _run_of(line: bytes) -> str:
    """The run that a line tells of; none for one that is broken, which stays as it is."""
    try:
        return str(orjson.loads(line)["run_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def append_private(path: Path, mode: Literal["ab", "a+b"] = "ab") -> IO[bytes]:
    """Open for appending, made readable by its owner only. Raises InputError where it can't be written."""
    return _private(path, mode)


def _private(path: Path, mode: Literal["ab", "a+b", "wb"]) -> IO[bytes]:
    try:
        return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as error:
        raise InputError(f"can't write {str(path)!r}: {error.strerror or error}") from error
