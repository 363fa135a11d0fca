"""What a JSON Schema refers to: the shapes that it allows, and how it stands within another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any] | bool | None

_MAX_REFS = 20
DEFINITIONS = ("$defs", "definitions")
_BY_NAME = (*DEFINITIONS, "properties", "patternProperties", "dependentSchemas")
_DATA = ("const", "enum", "default", "examples")


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


def within(schema: Mapping[str, Any], at: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """`schema` as it must read at the pointer `at` of another one, and the definitions to put at that one's root: what
    a `$ref` names is looked for from the root of the whole."""
    moved = _moved(schema, at)
    inner = {word: value for word, value in moved.items() if word not in (*DEFINITIONS, "$schema", "$id")}
    return inner, {word: moved[word] for word in DEFINITIONS if word in moved}


def _moved(schema: Any, at: str) -> Any:
    if isinstance(schema, list):
        return [_moved(one, at) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for word, value in schema.items():
        if word in ("$ref", "$dynamicRef") and isinstance(value, str):
            found[word] = _pointer(value, at)
        elif word in _BY_NAME and isinstance(value, Mapping):
            found[word] = {name: _moved(one, at) for name, one in value.items()}
        else:
            found[word] = value if word in _DATA else _moved(value, at)
    return found


def _pointer(ref: str, at: str) -> str:
    """Definitions go along to the root, and an anchor (`#name`) is found anywhere; all else is now below `at`."""
    if ref == "#" or (ref.startswith("#/") and ref[2:].split("/")[0] not in DEFINITIONS):
        return f"#{at}{ref[1:]}"
    return ref
