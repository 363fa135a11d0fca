"""YAML 1.2, core schema (`off` is the word *off*), as plain Python with the line of every key.

Tags are refused, keys stand once, and what anchors expand to is counted, so that no short file becomes a large one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML, events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from orchestrator.config.document import Document, KeyPath, read_text
from orchestrator.errors import ConfigError

MAX_NODES = 50_000
MAX_DEPTH = 50
MAX_ALIASES = 100

# YAML 1.2.2, section 10.3.2
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,400}")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NOT_PRINTABLE = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_yaml(path: Path) -> Document:
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path, *, first_line: int = 1) -> Document:
    """One YAML document as plain Python. `first_line` is where `text` starts within `path` (front matter)."""
    try:
        return _Reading(path, YAML(typ="safe", pure=True).parse(text), first_line).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + first_line if mark else None
        raise ConfigError(f"not YAML: {error.problem or error.context}", file=str(path), line=line) from None
    except YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"not YAML: {reason}", file=str(path), line=_bad_character(text, first_line)) from None


@dataclass(slots=True)
class _Built:
    value: Any
    nodes: int


class _Reading:
    """One pass over the parser's events: iterative below, bounded in depth, nodes and aliases here."""

    def __init__(self, path: Path, source: Iterator[Any], first_line: int) -> None:
        self.path, self.source, self.first_line = path, source, first_line
        self.lines: dict[KeyPath, int] = {}
        self.anchors: dict[str, _Built] = {}
        self.nodes = self.aliases = 0

    def document(self) -> Document:
        event = next(self.source)
        while isinstance(event, events.StreamStartEvent | events.DocumentStartEvent):
            event = next(self.source)
        if isinstance(event, events.StreamEndEvent):
            raise ConfigError("the file is empty", file=str(self.path))
        built = self.build(event, ())
        next(self.source)
        if not isinstance(event := next(self.source), events.StreamEndEvent):
            self.fail(event, "a second document: one file, one document")
        return Document(self.path, built.value, self.lines)

    def build(self, event: Any, at: KeyPath) -> _Built:
        if isinstance(event, events.AliasEvent):
            return self.alias(event)
        if event.tag is not None:
            self.fail(event, f"the tag {event.tag!r} is not allowed: write plain values")
        self.count(event, 1)
        if len(at) > MAX_DEPTH:
            self.fail(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self.nodes - 1
        match event:
            case events.ScalarEvent():
                value: Any = self.scalar(event)
            case events.SequenceStartEvent():
                value = self.sequence(at)
            case _:
                value = self.mapping(at)
        built = _Built(value, self.nodes - before)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def sequence(self, at: KeyPath) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.source), events.SequenceEndEvent):
            here = (*at, len(items))
            self.lines[here] = self.line(event)
            items.append(self.build(event, here).value)
        return items

    def mapping(self, at: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.source), events.MappingEndEvent):
            key = self.build(event, at).value if isinstance(event, events.ScalarEvent) else None
            if not isinstance(key, str | int | float | bool):
                self.fail(event, "a key must be a plain word")
            key = key if isinstance(key, str) else event.value
            here = (*at, key)
            if key in found:
                self.fail(event, f"the key {key!r} stands twice, first in line {self.lines[here]}", key=key)
            self.lines[here] = self.line(event)
            found[key] = self.build(next(self.source), here).value
        return found

    def alias(self, event: Any) -> _Built:
        if event.anchor not in self.anchors:
            self.fail(event, f"the alias *{event.anchor} has no anchor before it")
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            self.fail(event, f"more than {MAX_ALIASES} aliases")
        built = self.anchors[event.anchor]
        self.count(event, built.nodes)
        return built

    def scalar(self, event: Any) -> Any:
        text = event.value
        if not event.implicit[0] or event.style is not None:  # quoted or a block: a string whatever it looks like
            return text
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _INT.fullmatch(text):
            return int(text)
        if _OCTAL_OR_HEX.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
        if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            self.fail(event, f"{text!r} is not a finite number")
        return text

    def count(self, event: Any, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.fail(event, f"more than {MAX_NODES:,} values: fewer anchors and aliases")

    def line(self, event: Any) -> int:
        return int(event.start_mark.line) + self.first_line

    def fail(self, event: Any, message: str, *, key: str | None = None) -> NoReturn:
        raise ConfigError(message, file=str(self.path), line=self.line(event), key=key)


def _bad_character(text: str, first_line: int) -> int | None:
    found = _NOT_PRINTABLE.search(text)
    return text.count("\n", 0, found.start()) + first_line if found else None
