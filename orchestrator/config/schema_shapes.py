"""The shapes that a JSON Schema allows, through what it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any] | bool | None

_MAX_REFS = 20


def branches(schema: Schema, top: Schema, refs: int = 0) -> list[Mapping[str, Any]]:
    """The object shapes a schema allows: through local `$ref`, `anyOf`, `oneOf` and `allOf`; without null."""
    if not isinstance(schema, Mapping) or schema.get("type") == "null":
        return []
    if "$ref" in schema:
        return branches(referenced(schema["$ref"], top), top, refs + 1) if refs < _MAX_REFS else []
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [b for part in schema[word] for b in branches(part, top, refs + 1)]
    if "allOf" in schema:
        return [_merged([schema, *(b for part in schema["allOf"] for b in branches(part, top, refs + 1))])]
    return [schema]


def _merged(parts: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    together: dict[str, Any] = {"properties": {}, "required": []}
    for part in parts:
        together |= {word: part[word] for word in ("type", "enum", "const") if word in part}
        together["properties"] |= part.get("properties", {})
        together["required"] += part.get("required", [])
    return together


def referenced(ref: Any, top: Schema) -> Schema:
    """What a local `$ref` names in `top`; None where it names nothing there."""
    node: Any = top
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    for name in ref[1:].strip("/").split("/") if ref != "#" else ():
        node = node.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else None
