"""A verdict's schema holds the step's own, wherever that refers to itself: no server takes a `$ref` to nothing."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from pydantic import BaseModel

from orchestrator.cascade.prompts import repair_schema


class Part(BaseModel):
    number: int
    parts: list[Part] = []


class Order(BaseModel):
    first: Part
    others: list[Part]


LINKED = {
    "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:order",
    "type": "object", "additionalProperties": False, "required": ["number"],
    "properties": {
        "number": {"type": "integer"}, "same": {"$ref": "#/properties/number"}, "within": {"$ref": "#"},
        "old": {"$ref": "#/definitions/old"}, "$ref": {"type": "string"}, "default": {"$ref": "#/$defs/a~1b"},
    },
    "definitions": {"old": {"type": "array", "items": {"$ref": "#/properties/number"}}},
    "$defs": {"answer": {"type": "null"}, "a/b": {"enum": [{"$ref": "#/nothing"}, 3]}},
}
PART = {"number": 1, "parts": [{"number": 2, "parts": []}]}


def taken(output: dict[str, Any], value: Any, verdict: str = "repaired") -> bool:
    whole = jsonschema_rs.validator_for(repair_schema(output))
    return bool(whole.is_valid({"verdict": verdict, "reasons": [], "value": value}))


@pytest.mark.parametrize(("output", "right", "wrong"), [
    (Order.model_json_schema(), {"first": PART, "others": [PART]}, {"first": PART, "others": [{"number": "1"}]}),
    (Part.model_json_schema(), PART, {"number": 1, "parts": [{"number": None}]}),
    (LINKED, {"number": 1, "same": 2, "within": {"number": 3}, "old": [4], "$ref": "x", "default": 3},
     {"number": 1, "within": {"number": "3"}}),
    (LINKED, {"number": 1, "default": {"$ref": "#/nothing"}}, {"number": 1, "same": "2"}),
    (LINKED, {"number": 1, "old": []}, {"number": 1, "old": ["4"]}),
])
def test_a_value_that_refers_within_its_schema_is_checked_by_it(
    output: dict[str, Any], right: Any, wrong: Any
) -> None:
    assert taken(output, right)
    assert taken(output, None, "approved")
    assert not taken(output, wrong)


def test_the_definitions_of_an_output_stand_at_the_root_and_nowhere_else() -> None:
    whole = repair_schema(LINKED)
    value = whole["properties"]["value"]["anyOf"][0]
    assert set(whole) >= {"$defs", "definitions"}
    assert value == {"$ref": "#/$defs/answer_"}, "it names itself, and has an `answer` of its own"
    assert not {"$defs", "definitions", "$id", "$schema"} & set(whole["$defs"]["answer_"])
    assert LINKED["properties"]["within"] == {"$ref": "#"}, "the step's own is left as it was"


def test_a_schema_that_refers_to_nothing_stands_as_it_is() -> None:
    output = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    assert repair_schema(output)["properties"]["value"]["anyOf"] == [output, {"type": "null"}]
    assert repair_schema(None)["properties"]["value"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
