"""Which parts of an answer come from a closed list: enumerations and booleans of its JSON Schema.

What was answered tells how far to trust it: some classes are mixed up more than others. Of an answer from a closed
list its place there is kept with the draft's numbers, and a fitted confidence learns from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.config.feature_names import ANSWER_PREFIX
from orchestrator.config.schema_shapes import branches
from orchestrator.records import Json

MOST_FIELDS = 16
MOST_VALUES = 1000
DEEPEST = 4
MOST_LOOKED_AT = 1000
"""Parts of a schema: one that names itself has no end of them."""
_OR_NULL = {"boolean", "null"}

Place = tuple[type, str | int | None]
"""A value with its type, for True is not 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedAnswer:
    """One part of an answer: where it stands (`path`, empty for the whole answer) and what is allowed there."""

    path: tuple[str, ...]
    places: Mapping[Place, int]

    @property
    def name(self) -> str:
        """Its name among the features."""
        return ANSWER_PREFIX + (".".join(self.path) or "value")

    def place(self, answer: Json) -> int | None:
        """Which of the values allowed was answered, from 0; None where it is missing, or none of them."""
        for key in self.path:
            if not isinstance(answer, dict):
                return None
            answer = answer.get(key)
        if not isinstance(answer, (str, int)):
            return None
        return self.places.get((type(answer), answer))


def closed_answers(schema: Mapping[str, Any] | None) -> tuple[ClosedAnswer, ...]:
    """The first 16 of a schema, from the outside in and at most four objects deep, each with 2 to 1,000 values. A list
    of numbers with fractions or of structures is left out, and so is null among the values."""
    found: dict[str, ClosedAnswer] = {}
    todo: deque[tuple[Any, tuple[str, ...]]] = deque([(schema, ())] if schema is not None else [])
    for _ in range(MOST_LOOKED_AT):
        if not todo or len(found) == MOST_FIELDS:
            break
        part, path = todo.popleft()
        shapes = branches(part, schema)
        listed = [_values(shape) for shape in shapes]
        if shapes and all(some is not None for some in listed):
            values = dict.fromkeys((type(value), value) for some in listed for value in some or ())
            one = ClosedAnswer(path=path, places={value: i for i, value in enumerate(values)})
            if 2 <= len(values) <= MOST_VALUES:
                found.setdefault(one.name, one)
        elif len(shapes) == 1 and len(path) < DEEPEST:
            todo.extend((inner, (*path, name)) for name, inner in (shapes[0].get("properties") or {}).items())
    return tuple(found.values())


def _values(shape: Mapping[str, Any]) -> list[str | int] | None:
    """The values a shape allows; None where they are not listed."""
    if "const" in shape or "enum" in shape:
        allowed = [value for value in shape.get("enum", [shape.get("const")]) if value is not None]
        return allowed if all(isinstance(value, (str, int)) for value in allowed) else None
    kinds = shape.get("type")
    return [False, True] if kinds == "boolean" or (isinstance(kinds, list) and {*kinds} == _OR_NULL) else None
