"""What the CEL package says of an expression that it can't parse, told once and in a line."""

from __future__ import annotations

import re

_FAULT = re.compile(r"^ERROR: <input>:(\d+):(\d+): (Syntax error: .*)$", re.MULTILINE)
_EXPECTED = re.compile(r" expecting .*$")
_MEANT = {"=": "==", "=>": ">=", "=<": "<=", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!"}
"""What is written for it in other languages."""
_WORD = re.compile(r"\w+|[=<>&|]+")


def parse_fault(source: str, said: str) -> str:
    """The first fault of `said`, the package's own words: where it is, and what may have been meant. The others are
    mostly its consequences."""
    if (found := _FAULT.search(said.removeprefix(f"Failed to parse expression '{source}': "))) is None:
        return said
    line, column, words = int(found[1]), int(found[2]), _EXPECTED.sub("", found[3]).replace("at '<EOF>'", "at its end")
    if "Recursion limit" in words:
        return f"{source!r} is nested too deeply"
    if words.endswith("input '<EOF>'"):
        words = "Syntax error: it ends too early"
    place = f"line {line}, column {column}" if "\n" in source else f"column {column}"
    meant = _meant(source.split("\n")[line - 1], column - 1)
    return f"{source!r}, {place}: {words}" + (f"; did you mean {meant!r}?" if meant else "")


def _meant(line: str, at: int) -> str:
    """For what stands at `at`, or is the word before it."""
    here, before = _WORD.match(line, at), line[:at].split()[-1:]
    return _MEANT.get(here[0] if here else "") or ("!" if before == ["not"] else "")
