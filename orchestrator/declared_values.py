"""What `check` says of a comparison before anything runs: a literal that the field's schema can't have there.

Where the schema knows `local` and `any`, `task.meta.residency == "Local"` never holds: a rule that keeps tasks home
by it keeps none. It errs to be silent: where the schema leaves a doubt, nothing is said.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from orchestrator.allowed_values import ITEM, Allowed, Kind, allowed, kind_of
from orchestrator.cel_syntax import Node
from orchestrator.config.schema_shapes import Schema
from orchestrator.declared_fields import DeclaredFields, Path
from orchestrator.records import Json, Status

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_EQUALITY = frozenset({"==", "!=", "in"})
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_NUMERAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)
_A: dict[Kind, str] = {
    "string": "a string", "number": "a number", "boolean": "true or false", "null": "null", "array": "a list",
    "object": "a map",
}
_NUMBER: Schema = {"type": "number"}
_SIGNAL: Schema = {"properties": {"ok": {"type": "boolean"}, "reason": {"type": "string"}}}
_STEP: Schema = {"properties": {"skipped": {"type": "boolean"}, "status": {"enum": list(get_args(Status))}}}
_SHOWN = 12
"""Of a longer list of what there is, how many are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A field and a literal, the field on the left. `written` is the literal's source.

    Of `x in ["a", "b"]` there is one for each; `"a" in x` is one with ITEM at the end of the path.
    """

    path: Path
    operator: str
    literal: Json
    written: str


def comparisons(tree: Node, source: str) -> Iterator[Comparison]:
    """Each comparison of a path with a literal, in order of appearance."""
    for node in tree.walk():
        if node.kind == "comparison":
            yield from _compared(node, source)


def impossible(tree: Node, source: str, fields: DeclaredFields) -> list[str]:
    """Problems of the literals compared with declared fields, each once, in order of appearance."""
    found = (_problem(one, fields) for one in comparisons(tree, source))
    return list(dict.fromkeys(problem for problem in found if problem))


def _compared(node: Node, source: str) -> Iterator[Comparison]:
    left, right = (_inner(part) for part in node.parts)
    path, other = _path(left, source), _path(right, source)
    if node.operator == "in" and path is not None:
        for literal in right.parts if right.kind == "list" else ():
            yield from _with_literal(path, "in", _inner(literal), source)
    elif path is not None:
        yield from _with_literal(path, node.operator, right, source)
    elif other is not None:
        at = (*other, ITEM) if node.operator == "in" else other
        yield from _with_literal(at, _MIRRORED.get(node.operator, node.operator), left, source)


def _with_literal(path: Path, operator: str, node: Node, source: str) -> Iterator[Comparison]:
    try:
        value = _literal(node, source)
    except ValueError:
        return
    yield Comparison(path=path, operator=operator, literal=value, written=source[node.start : node.end])


def _inner(node: Node) -> Node:
    """Without the brackets around it."""
    return _inner(node.parts[0]) if node.kind == "group" else node


def _path(node: Node, source: str) -> Path | None:
    """`task.meta.tier`, also written `task.meta["tier"]`; None of anything else."""
    if node.kind == "path":
        return node.path
    if node.kind != "index" or node.parts[1].kind != "string":
        return None
    try:
        holder, name = _path(node.parts[0], source), _literal(node.parts[1], source)
    except ValueError:
        return None
    return None if holder is None else (*holder, name)


def _literal(node: Node, source: str) -> Json:
    """The value of a literal. Raises ValueError of what is none, or none of JSON."""
    text = source[node.start : node.end]
    match node.kind:
        case "word":
            return _WORDS[text]
        case "list":
            return [_literal(part, source) for part in node.parts]
        case ("integer" | "float") if node.parts:
            minuses = source[node.start : node.parts[0].start].count("-")
            return (-1) ** minuses * _literal(node.parts[0], source)
        case "integer":
            return int(text.rstrip("uU"), 16 if text[:2] in ("0x", "0X") else 10)
        case "float":
            return float(text)
        case "string":
            return _text(text)
    raise ValueError(text)


def _text(written: str) -> str:
    """What stands between the quotes. Raises ValueError of bytes, and where an escape stands for something else."""
    bare = written.lstrip("rR")
    if bare[0] not in "'\"" or ("\\" in bare and bare == written):
        raise ValueError(written)
    quotes = 3 if bare[:3] in ("\"\"\"", "'''") else 1
    return bare[quotes:-quotes]


def _problem(one: Comparison, fields: DeclaredFields) -> str | None:
    # a draft that breaks its schema may well be null there, and `!= null` is what guards against it
    if one.literal is None and (one.path[0] != "task" or one.operator == "!="):
        return None
    found, kind = _allowed(one.path, fields), kind_of(one.literal)
    if not found or (one.path[-1] == ITEM and "object" in _allowed(one.path[:-1], fields)):
        return None  # what is not declared is told as such; of a map, `in` asks for a key
    if kind not in found:
        return f"{_named(one.path)} is {_any_of(found)}, never {one.written}{_instead(one.literal, found)}"
    values = found[kind]
    if values is None or one.operator not in _EQUALITY or kind in ("array", "object") or one.literal in values:
        return None
    return f"{_named(one.path)} is never {one.written}{_nearest(one.literal, _listed(found))}"


def _named(path: Path) -> str:
    return f"an item of {'.'.join(path[:-1])}" if path[-1] == ITEM else ".".join(path)


def _allowed(path: Path, fields: DeclaredFields) -> Allowed:
    root, *rest = path
    schema, top, below = _declared(root, tuple(rest), fields)
    return allowed(schema, below, top)


def _declared(root: str, rest: Path, fields: DeclaredFields) -> tuple[Schema, Schema, Path]:
    """(schema, what its references refer to, the path below it) of a path; None is no schema."""
    match root, rest:
        case "task", _:
            return fields.task, fields.task, rest
        case "value", _:
            return fields.value, fields.value, rest
        case "steps", (step, "value", *below):
            return (schema := fields.steps.get(step)), schema, tuple(below)
        case "steps", (_, *below):
            return _STEP, _STEP, tuple(below)
        case "signals", (name, "value", *below):
            return (schema := fields.measures.get(name)), schema, tuple(below)
        case "signals", (_, *below):
            return _SIGNAL, _SIGNAL, tuple(below)
        case "steps" | "signals", _:
            return None, None, rest
    return _NUMBER, _NUMBER, rest


def _any_of(found: Allowed) -> str:
    """In words: `a number or null`, `one of 'low', 'high'`."""
    listed = [f"one of {_choice(values)}"] if (values := _listed(found)) else []
    return " or ".join(listed + [_A[kind] for kind, values in found.items() if values is None])


def _listed(found: Allowed) -> list[Json]:
    return [value for values in found.values() for value in values or ()]


def _instead(literal: Json, found: Allowed) -> str:
    """What was probably meant by a literal of another kind: `: write 890` for "890"."""
    for kind, text in _readings(literal):
        if kind in found and ((values := found[kind]) is None or json.loads(text) in values):
            return f": write {text}"
    return ""


def _readings(literal: Json) -> Iterator[tuple[Kind, str]]:
    """A literal as a value of another kind: (that kind, what to write)."""
    if isinstance(literal, str):
        if literal in ("true", "false"):
            yield "boolean", literal
        if _NUMERAL.fullmatch(literal):
            yield "number", literal
    elif isinstance(literal, (bool, int, float)):
        yield "string", json.dumps(json.dumps(literal))


def _nearest(literal: Json, values: Sequence[Json]) -> str:
    """`: did you mean 'local'?`, or what there is to choose from."""
    words = {value.casefold(): value for value in values if isinstance(value, str)}
    near = difflib.get_close_matches(literal.casefold(), list(words), 1) if isinstance(literal, str) else ()
    return f": did you mean {words[near[0]]!r}?" if near else f": there are {_choice(values)}"


def _choice(values: Sequence[Json]) -> str:
    shown = list(dict.fromkeys(repr(value) if isinstance(value, str) else json.dumps(value) for value in values))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
