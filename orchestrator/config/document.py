"""A file as written: UTF-8 text of bounded size, JSON with unique keys, and the line of every key.

Every fault is a `ConfigError` that says where. YAML is read by `yaml12.py`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.errors import ConfigError

MAX_BYTES = 1_000_000

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One configuration file: `data` as plain Python, `lines` from a path of keys to its line (from 1)."""

    path: Path
    data: Any
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def line(self, keys: KeyPath) -> int:
        """The line of `keys`, or of the nearest thing around them that has one."""
        for length in range(len(keys), -1, -1):
            if (found := self.lines.get(keys[:length])) is not None:
                return found
        return 1


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file of at most `max_bytes`, a byte-order mark left off."""
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ConfigError("no such file", file=str(path), hint=_neighbours(path)) from None
    except IsADirectoryError:
        raise ConfigError("a folder, where a file is needed", file=str(path)) from None
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", file=str(path)) from error
    if len(raw) > max_bytes:
        raise ConfigError(f"larger than {max_bytes:,} bytes", file=str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"not UTF-8: byte {raw[error.start]:#04x} at offset {error.start}", file=str(path), line=line,
            hint="save the file as UTF-8",
        ) from None


def read_json(path: Path) -> Any:
    """A JSON file. Keys stand once; NaN and Infinity, which are no JSON, are refused."""
    text = read_text(path)

    def no_constant(name: str) -> NoReturn:
        raise ConfigError(f"{name} is not JSON", file=str(path))

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConfigError(f"the key {twice!r} stands twice in one object", file=str(path), key=twice)
        return found

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"not JSON: {error.msg}", file=str(path), line=error.lineno) from None
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"not usable JSON: {error}", file=str(path)) from None


def _neighbours(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"the folder {path.parent} does not exist"
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the folder {path.parent} has no file {path.name!r}"
