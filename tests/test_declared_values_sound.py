"""Whatever the schema, a comparison that a valid value decides is never called impossible."""

from __future__ import annotations

from itertools import product
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.declared_fields import DeclaredFields
from orchestrator.declared_values import impossible
from orchestrator.errors import ExpressionError
from orchestrator.expressions import Expression, compile_expression

SCALARS = (None, True, False, 0, 1, 2.5, "", "a", "b", "1", "true")
VALUES: list[Any] = [
    *SCALARS, *({"f": one} for one in SCALARS), *({"f": {"f": one}} for one in SCALARS), *([one] for one in SCALARS),
    *({"f": [one]} for one in SCALARS), {}, [], {"f": {}}, {"f": []}, {"a": 1}, {"f": {"a": 1}}, ["a", {"f": 1}],
]
LITERALS = ("null", "true", "false", "0", "1", "2.5", '""', '"a"', "'b'", '"1"', '"true"', "[]")
SHAPES = ("{p} == {x}", "{x} == {p}", "{p} != {x}", "{p} < {x}", "{x} >= {p}", "{p} in [{x}]", "{x} in {p}")


def decides(expression: Expression, value: Any) -> bool:
    """Does a draft or task with this `value` make a difference to what the comparison says?"""
    try:
        decided = expression.evaluate({"task": value})
    except ExpressionError:
        return False
    return "<" in expression.source or ">" in expression.source or decided is ("!=" not in expression.source)


EXPRESSIONS = [
    compile_expression(shape.format(p=path, x=literal))
    for path, literal, shape in product(("task", "task.f", "task.f.f", 'task["f"]'), LITERALS, SHAPES)
]
DECIDED_BY = [[decides(one, value) for value in VALUES] for one in EXPRESSIONS]

WORDS = st.sampled_from(["string", "number", "integer", "boolean", "null", "array", "object"])
LEAVES = st.one_of(
    st.sampled_from([{"$ref": "#/$defs/one"}, {"$ref": "#/$defs/two"}, {"$ref": "#"}, True, False, {}]),
    st.fixed_dictionaries({"type": WORDS | st.lists(WORDS, min_size=1, max_size=3, unique=True)}),
    st.fixed_dictionaries({"const": st.sampled_from(SCALARS)}),
    st.lists(st.sampled_from(SCALARS), min_size=1, max_size=3, unique_by=repr).map(lambda some: {"enum": some}),
)


def composed(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(parts, min_size=1, max_size=2)
    field = st.fixed_dictionaries({"f": parts})
    return st.one_of(
        st.fixed_dictionaries({"properties": field}, optional={"additionalProperties": parts, "allOf": some}),
        st.fixed_dictionaries({"anyOf": some}, optional={"properties": field, "type": WORDS}),
        st.fixed_dictionaries({"oneOf": some}), st.fixed_dictionaries({"allOf": some}, optional={"not": parts}),
        st.fixed_dictionaries({"items": parts}), st.fixed_dictionaries({"additionalProperties": parts}),
        st.fixed_dictionaries(
            {"patternProperties": st.fixed_dictionaries({"^f": parts})}, optional={"additionalProperties": parts}
        ),
        st.fixed_dictionaries({"if": parts, "then": parts}),
    )


SCHEMAS = st.recursive(LEAVES, composed, max_leaves=6)


@given(top=SCHEMAS, one=SCHEMAS, two=SCHEMAS)
def test_whatever_a_valid_value_decides_is_not_called_impossible(top: Any, one: Any, two: Any) -> None:
    schema = {**(top if isinstance(top, dict) else {"allOf": [top]}), "$defs": {"one": one, "two": two}}
    validator, fields = jsonschema_rs.validator_for(schema), DeclaredFields(task=schema)
    valid = [validator.is_valid(value) for value in VALUES]
    for expression, decided_by in zip(EXPRESSIONS, DECIDED_BY, strict=True):
        if any(decided and ok for decided, ok in zip(decided_by, valid, strict=True)):
            assert impossible(expression.tree, expression.source, fields) == []


def test_what_no_listed_value_decides_is_called_impossible() -> None:
    """But for `!= null`, which guards against a broken draft."""
    schema = {"type": "object", "properties": {"f": {"enum": ["a", 1, True]}}, "required": ["f"]}
    valid = [jsonschema_rs.is_valid(schema, value) for value in VALUES]
    for path_first, literal in product(("{p} == {x}", "{p} != {x}", "{p} < {x}", "{p} in [{x}]"), LITERALS):
        source = path_first.format(p="task.f", x=literal)
        expression = compile_expression(source)
        decided = any(ok and decides(expression, value) for ok, value in zip(valid, VALUES, strict=True))
        told = impossible(expression.tree, source, DeclaredFields(task=schema)) != []
        assert told is not (decided or source == "task.f != null"), source
