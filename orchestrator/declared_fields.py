"""What `check` says of an expression before anything runs: fields nobody declared, optional ones without `has()`.

It errs to warn. A field is declared by the JSON Schema of the task or of a step's output; it is certain where the
schema requires it (a task's `default` counts, because admit fills it in). Anything else needs `has()`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cel_syntax import ARITHMETIC, Node
from orchestrator.config.schema_shapes import Schema, branches

Path = tuple[str, ...]

TASK_ALONE = frozenset({"task", "steps"})
"""Names at the root that a guard or `when:` may read."""

BEFORE = TASK_ALONE | {"gate", "gate_threshold"}
"""What a `before` rule may read: the step's gate, too."""

AFTER = TASK_ALONE | {"signals", "value", "confidence", "threshold", "attempt"}
"""What is there once there is a draft."""

_SIGNAL = ("ok", "value", "reason")
_STEP = ("value", "status", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFields:
    """What an expression may read at its place. `task` is the schema of {input, meta}; `value` that of the step's
    output; `steps` the earlier steps' ids with their output schemas; `measures` those of the signals' values, by name,
    as far as known. None is no schema. `roots` None allows all."""

    task: Schema = None
    value: Schema = None
    signals: Collection[str] = ()
    measures: Mapping[str, Schema] = field(default_factory=dict)
    steps: Mapping[str, Schema] = field(default_factory=dict)
    roots: Collection[str] | None = None


def undeclared(tree: Node, fields: DeclaredFields) -> list[str]:
    """Problems of the expression, each once, in order of appearance."""
    found = [p for node, sure in _reads(tree, frozenset()) for p in _problem(node, sure, fields)]
    found += _arithmetic(tree)
    return list(dict.fromkeys(found))


def _reads(node: Node, sure: frozenset[Path]) -> Iterator[tuple[Node, frozenset[Path]]]:
    """Each path and `has()`, with the paths known to be there wherever its value matters.

    `&&` and `||` absorb an error of one side where the other decides, so what either side asks for guards both.
    """
    if node.kind in ("path", "has"):
        yield node, sure
    elif node.kind in ("and", "or"):
        given = _when_true if node.kind == "and" else _when_false
        left, right = node.parts
        yield from _reads(left, sure | given(right))
        yield from _reads(right, sure | given(left))
    elif node.kind == "if":
        test, then, other = node.parts
        yield from _reads(test, sure)
        yield from _reads(then, sure | _when_true(test))
        yield from _reads(other, sure | _when_false(test))
    else:
        for part in node.parts:
            yield from _reads(part, sure)


def _when_true(node: Node) -> frozenset[Path]:
    """Paths that are there if `node` is true."""
    match node.kind:
        case "has":
            return frozenset(node.path[:end] for end in range(1, len(node.path) + 1))
        case "group":
            return _when_true(node.parts[0])
        case "not":
            return _when_false(node.parts[0])
        case "and":
            return _when_true(node.parts[0]) | _when_true(node.parts[1])
        case "or":
            return _when_true(node.parts[0]) & _when_true(node.parts[1])
        case _:
            return frozenset()


def _when_false(node: Node) -> frozenset[Path]:
    """Paths that are there if `node` is false."""
    match node.kind:
        case "group":
            return _when_false(node.parts[0])
        case "not":
            return _when_true(node.parts[0])
        case "or":
            return _when_false(node.parts[0]) | _when_false(node.parts[1])
        case "and":
            return _when_false(node.parts[0]) & _when_false(node.parts[1])
        case _:
            return frozenset()


def _problem(node: Node, sure: frozenset[Path], fields: DeclaredFields) -> Iterator[str]:
    root, rest = node.path[0], node.path[1:]
    if fields.roots is not None and root not in fields.roots:
        yield f"{root!r} is not known here: there are {', '.join(sorted(fields.roots))}"
    elif root == "signals":
        yield from _named(node.path, rest, fields.signals, _SIGNAL, "a signal")
    elif root == "steps":
        yield from _named(node.path, rest, fields.steps, _STEP, "an earlier step")
        if len(rest) > 2 and rest[1] == "value" and rest[0] in fields.steps:
            yield from _fields(node, ("steps", *rest[:2]), fields.steps[rest[0]], sure)
    elif root == "task":
        yield from _task(node, fields.task, sure)
    elif root == "value":
        yield from _fields(node, ("value",), fields.value, sure)
    elif rest:
        yield f"{root} is a number and has no {rest[0]!r}"


def _named(path: Path, rest: Path, names: Collection[str], parts: tuple[str, ...], what: str) -> Iterator[str]:
    """Problems of signals.NAME.PART and steps.ID.PART."""
    if rest and rest[0] not in names:
        yield f"{'.'.join(path)}: there is no {what.split(' ', 1)[1]} {rest[0]!r}{_nearest(rest[0], names)}"
    elif len(rest) > 1 and rest[1] not in parts:
        also = f"; did you mean {path[0]}.{rest[0]}.value.{rest[1]}?" if path[0] == "signals" else ""
        yield f"{'.'.join(path)}: {what} has {', '.join(parts)}, not {rest[1]!r}{also}"


def _task(node: Node, schema: Schema, sure: frozenset[Path]) -> Iterator[str]:
    if len(node.path) > 1 and node.path[1] not in ("input", "meta"):
        yield f"{'.'.join(node.path)}: a task has input and meta, not {node.path[1]!r}"
        return
    yield from _fields(node, ("task",), schema, sure | {("task", "input"), ("task", "meta")}, filled=True)


def _fields(
    node: Node, at: Path, schema: Schema, sure: frozenset[Path], *, filled: bool = False
) -> Iterator[str]:
    """Walk from `at` along the path; `filled` where defaults are filled in before anything is evaluated."""
    top = schema
    for name in node.path[len(at):]:
        here = (*at, name)
        declared, certain, schema_of = _property(schema, name, top, filled)
        asked_here = node.kind == "has" and here == node.path
        if declared is False:
            yield f"{'.'.join(here)} is not declared{_nearest(name, _names(schema, top))}"
            return
        if not certain and not asked_here and here not in sure:
            why = "may be missing" if declared else "is not in any schema"
            yield f"{'.'.join(here)} {why}: ask has({'.'.join(here)}) first"
            return
        schema, at = schema_of, here


def _property(schema: Schema, name: str, top: Schema, filled: bool) -> tuple[bool | None, bool, Schema]:
    """(declared, certain, its schema) of a property. declared None: nothing is known of it, nor excluded."""
    found = [_in_branch(branch, name, filled) for branch in branches(schema, top)]
    if not found:
        return None, False, None
    if all(declared is False for declared, _, _ in found):
        return False, False, None
    known = next((s for declared, _, s in found if declared), None)
    return (True if known is not None else None), all(certain for _, certain, _ in found), known


def _in_branch(schema: Mapping[str, Any], name: str, filled: bool) -> tuple[bool | None, bool, Schema]:
    properties = schema.get("properties") or {}
    if name in properties:
        part = properties[name]
        default = filled and isinstance(part, Mapping) and "default" in part
        return True, default or name in schema.get("required", ()), part if isinstance(part, Mapping) else {}
    more = schema.get("additionalProperties")
    unsaid = not properties and more is None
    open_ended = isinstance(more, Mapping) or more is True or unsaid or "patternProperties" in schema
    return (None if open_ended else False), False, more if isinstance(more, Mapping) else None


def _names(schema: Schema, top: Schema) -> list[str]:
    return [name for branch in branches(schema, top) for name in branch.get("properties", {})]


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {near[0]!r}?" if near else f": there are {', '.join(sorted(known)) or 'none'}"


def _arithmetic(node: Node, json: frozenset[str] = frozenset()) -> Iterator[str]:
    """A number of JSON and an integer of the expression don't add up in CEL. `json` are the variables of loops over
    what JSON holds."""
    if node.kind == "arithmetic":
        if any(_is_json(part, json) for part in node.parts) and any(_is_integer(part) for part in node.parts):
            yield f"JSON numbers are doubles: write an integer beside them ({' '.join(sorted(ARITHMETIC))}) as 2.0"
    elif node.kind == "macro":
        looped = frozenset({node.variable})
        json = json | looped if _is_json(node.parts[0], json) else json - looped
    for part in node.parts:
        yield from _arithmetic(part, json)


def _is_json(node: Node, json: frozenset[str]) -> bool:
    """Is its value read from JSON, or calculated from such."""
    match node.kind:
        case "path":
            return True
        case "bound":
            return node.path[0] in json
        case "arithmetic":
            return any(_is_json(part, json) for part in node.parts)
        case "index" | "group" | "selected" | "negative":
            return _is_json(node.parts[0], json)
    return False


def _is_integer(node: Node) -> bool:
    return node.kind == "integer" or (node.kind in ("arithmetic", "group") and all(map(_is_integer, node.parts)))
