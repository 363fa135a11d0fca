"""What a JSON Schema refers to: the shapes that it allows, and how it stands within another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def within(schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`schema` as it must read inside another one, and the definitions to put at that one's root, from where what a
    `$ref` names is looked for. A schema that names itself, or a part outside its definitions, becomes a
    definition: no pointer then leads through a list, where not every server follows."""
    name = "answer"
    while name in schema.get("$defs", {}):
        name += "_"
    moved = _moved(schema, f"#/$defs/{name}")
    inner = {word: value for word, value in moved.items() if word not in (*DEFINITIONS, "$schema", "$id")}
    definitions = {word: moved[word] for word in DEFINITIONS if word in moved}
    if any(_is_elsewhere(ref) for ref in references(schema)):
        definitions["$defs"] = {**definitions.get("$defs", {}), name: inner}
        inner = {"$ref": f"#/$defs/{name}"}
    return inner, definitions


def references(schema: Any) -> Iterator[str]:
    """Every `$ref` within a schema."""
    if isinstance(schema, Mapping):
        for word, value in schema.items():
            if word in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif word in _BY_NAME and isinstance(value, Mapping):
                for one in value.values():
                    yield from references(one)
            elif word not in _DATA:
                yield from references(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from references(one)


def _moved(schema: Any, root: str) -> Any:
    """The same schema, with what it names outside its definitions looked for below `root`."""
    if isinstance(schema, list):
        return [_moved(one, root) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for word, value in schema.items():
        if word in ("$ref", "$dynamicRef") and isinstance(value, str):
            found[word] = root + value[1:] if _is_elsewhere(value) else value
        elif word in _BY_NAME and isinstance(value, Mapping):
            found[word] = {name: _moved(one, root) for name, one in value.items()}
        else:
            found[word] = value if word in _DATA else _moved(value, root)
    return found


def _is_elsewhere(ref: str) -> bool:
    """Neither a definition, which goes along to the root, nor an anchor (`#name`), which is found anywhere."""
    return ref == "#" or (ref.startswith("#/") and ref[2:].split("/")[0] not in DEFINITIONS)
