"""What a JSON Schema allows at a path, by kind of value: enough to tell what can never stand there.

It errs to allow: a keyword that is not looked at (`not`, `if`, `minimum`, `pattern`) leaves a value allowed that the
schema refuses, and what is not understood allows anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Literal

from orchestrator.config.schema_shapes import Schema, referenced

Kind = Literal["string", "number", "boolean", "null", "array", "object"]

Allowed = Mapping[Kind, tuple[Any, ...] | None]
"""By kind, the values that are allowed, None being any. A kind that is not there is not allowed."""

ANYTHING: Allowed = dict.fromkeys(("string", "number", "boolean", "null", "array", "object"))
ITEM = "[]"
"""In a path, any item of an array."""

_KINDS: Mapping[str, Kind] = {
    "string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null",
    "array": "array", "object": "object",
}


def allowed(schema: Schema, path: tuple[str, ...], top: Schema) -> Allowed:
    """What may stand at `path` in a value that `schema` accepts; `top` is what its local `$ref`s refer to."""
    return _Walk(top).at(schema, path)


def kind_of(value: Any) -> Kind:
    """The kind of a JSON value: True is no number."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


class _Walk:
    """Along one path. What was asked before is not asked again, so that a schema that names itself ends."""

    def __init__(self, top: Schema) -> None:
        self.top = top
        self.known: dict[tuple[int, int], Allowed] = {}

    def at(self, schema: Any, path: tuple[str, ...]) -> Allowed:
        if not isinstance(schema, Mapping):
            return ANYTHING
        key = (id(schema), len(path))
        if key not in self.known:
            self.known[key] = ANYTHING
            self.known[key] = self._by_every_word(schema, path)
        return self.known[key]

    def _by_every_word(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> Allowed:
        if "$ref" in schema:  # what stands beside it counts in newer drafts only
            return self.at(referenced(schema["$ref"], self.top), path)
        found = self._below(schema, path) if path else _here(schema)
        for part in schema.get("allOf", ()):
            found = _both(found, self.at(part, path))
        for word in ("anyOf", "oneOf"):
            if word in schema:
                found = _both(found, _either(self.at(part, path) for part in schema[word]))
        return found

    def _below(self, schema: Mapping[str, Any], path: tuple[str, ...]) -> Allowed:
        name, *rest = path
        if name == ITEM:
            known = "items" in schema and "prefixItems" not in schema
            below = self.at(schema["items"] if known else None, tuple(rest))
            return below if "array" in _here(schema) else {}
        if "object" not in _here(schema):
            return {}
        if name in (schema.get("properties") or {}):
            return self.at(schema["properties"][name], tuple(rest))
        if "patternProperties" in schema:
            return ANYTHING
        more = schema.get("additionalProperties")
        return {} if more is False else self.at(more, tuple(rest))


def _here(schema: Mapping[str, Any]) -> Allowed:
    """By the words `type`, `const` and `enum` alone."""
    found = _of_type(schema["type"]) if "type" in schema else ANYTHING
    if "const" in schema:
        found = _both(found, _listed([schema["const"]]))
    if "enum" in schema:
        found = _both(found, _listed(schema["enum"]))
    return {**found, "null": None} if schema.get("nullable") is True else found


def _of_type(word: str | list[str]) -> Allowed:
    words = [word] if isinstance(word, str) else word
    return {_KINDS[one]: None for one in words} if all(one in _KINDS for one in words) else ANYTHING


def _listed(values: Iterable[Any]) -> Allowed:
    found: dict[Kind, tuple[Any, ...] | None] = {}
    for kind, listed in groupby(sorted(values, key=kind_of), key=kind_of):
        found[kind] = tuple(listed)
    return found


def _both(a: Allowed, b: Allowed) -> Allowed:
    found: dict[Kind, tuple[Any, ...] | None] = {}
    for kind in (kind for kind in a if kind in b):
        left, right = a[kind], b[kind]
        together = right if left is None else left if right is None else tuple(v for v in left if v in right)
        if together != ():
            found[kind] = together
    return found


def _either(parts: Iterable[Allowed]) -> Allowed:
    """Each value once: through references the same part may count many times."""
    found: dict[Kind, tuple[Any, ...] | None] = {}
    for part in parts:
        for kind, values in part.items():
            before = found.get(kind, ())
            if before is None or values is None:
                found[kind] = None
            else:
                found[kind] = tuple({repr(value): value for value in (*before, *values)}.values())
    return found
