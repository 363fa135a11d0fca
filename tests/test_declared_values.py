"""What `check` says of a literal that a field's schema can't have there, and where it says nothing."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from orchestrator.declared_fields import DeclaredFields
from orchestrator.expressions import check_expression

TASK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "input": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "meta": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"}, "vip": {"type": "boolean"}, "paid": {"const": "yes"},
                "residency": {"type": "string", "enum": ["local", "any"], "default": "any"},
                "desk": {"enum": ["a", "b", None]}, "free": {},
                "tags": {"type": "array", "items": {"enum": ["x", "y"]}},
            },
            "required": ["amount", "vip", "paid", "desk", "free", "tags"],
        },
    },
    "required": ["input", "meta"],
}
VALUE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "category": {"enum": ["refund", "order", "account"]}, "priority": {"type": "string"},
        "stars": {"enum": [1, 2, 3]}, "qty": {"type": "integer"},
        "unit": {"anyOf": [{"$ref": "#/$defs/unit"}, {"type": "null"}]},
        "score": {"type": ["number", "null"]}, "lines": {"type": "array"}, "open": {"type": ["string", "number"]},
        "grade": {"type": "string", "nullable": True, "enum": ["A", "B"]},
        "by": {"additionalProperties": {"enum": [1]}},
        "event": {"oneOf": [
            {"properties": {"kind": {"const": "sale"}, "n": {"type": "number"}}, "required": ["kind", "n"]},
            {"properties": {"kind": {"const": "gift"}, "n": {"type": "string"}}, "required": ["kind", "n"]},
        ]},
        "both": {"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, "refused": False,
        "nested": {"allOf": [{"anyOf": [{"properties": {"k": {"const": "a"}}}, {"properties": {"k": {"const": "b"}}}]}],
                   "required": ["k"]},
        "matched": {"patternProperties": {"^x": {}}, "additionalProperties": False},
        "pair": {"type": "array", "prefixItems": [{"const": 1}]},
    },
    "required": [
        "category", "priority", "stars", "qty", "unit", "score", "lines", "open", "grade", "by", "event", "both",
        "nested", "matched", "pair", "refused",
    ],
    "$defs": {"unit": {"type": "string", "enum": ["kg", "box"]}},
}
FIELDS = DeclaredFields(
    task=TASK, value=VALUE, signals=("schema", "own"), measures={"schema": {"type": ["boolean", "null"]}},
    steps={"first": VALUE, "label": {"enum": ["yes", "no"]}, "bare": None},
)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('task.meta.residency == "Local"', "task.meta.residency is never \"Local\": did you mean 'local'?"),
        ('task.meta.residency != "LOCAL"', "did you mean 'local'?"),
        ('"locl" == task.meta.residency', "did you mean 'local'?"),
        ('(task.meta["residency"]) == ("Local")', "did you mean 'local'?"),
        ('has(task.meta.residency) && !(task.meta.residency == """Local""")', "did you mean 'local'?"),
        ('task.meta.residency == "home"', "is never \"home\": there are 'local', 'any'"),
        ('task.meta.residency == null', "task.meta.residency is one of 'local', 'any', never null"),
        ('task.meta.amount > "890"', 'task.meta.amount is a number, never "890": write 890'),
        ('"890" < task.meta.amount', "write 890"),
        ('task.meta.amount == true', "task.meta.amount is a number, never true"),
        ('task.meta.vip == "true"', "task.meta.vip is true or false, never \"true\": write true"),
        ('task.meta.paid == "no"', "task.meta.paid is never \"no\": there are 'yes'"),
        ('task.meta.desk in ["a", "c"]', "task.meta.desk is never \"c\": there are 'a', 'b', null"),
        ('"z" in task.meta.tags', "an item of task.meta.tags is never \"z\": there are 'x', 'y'"),
        ('task.input.text == 5', 'task.input.text is a string, never 5: write "5"'),
        ('value.category == "complaint"', "there are 'refund', 'order', 'account'"),
        ('value.category in ["refunds", "order"]', "value.category is never \"refunds\": did you mean 'refund'?"),
        ('value.category == r"re\\fund"', "did you mean 'refund'?"),
        ('value.priority == true', 'value.priority is a string, never true: write "true"'),
        ('value.priority == []', "value.priority is a string, never []"),
        ('value.stars == 4', "value.stars is never 4: there are 1, 2, 3"),
        ('value.stars == -1', "value.stars is never -1"),
        ('value.stars == "2"', 'value.stars is one of 1, 2, 3, never "2": write 2'),
        ('value.stars == "7"', 'value.stars is one of 1, 2, 3, never "7"'),
        ('value.unit == "KG"', "did you mean 'kg'?"),
        ('value.score < "1"', "value.score is a number or null, never \"1\""),
        ('value.event.kind == "sales"', "did you mean 'sale'?"),
        ('value.both == "a"', "there are 'b'"),
        ('value.nested.k == "c"', "there are 'a', 'b'"),
        ('has(value.by.x) && value.by.x == 2', "value.by.x is never 2: there are 1"),
        ('steps.first.value.category == "refunds"', "did you mean 'refund'?"),
        ('steps.label.value == "Yes"', "did you mean 'yes'?"),
        ('steps.first.status == "acepted"', "did you mean 'accepted'?"),
        ('steps.first.skipped == "no"', "is true or false"),
        ('signals.schema.ok == "yes"', "signals.schema.ok is true or false"),
        ('signals.schema.value == 1', "is true or false or null, never 1"),
        ('attempt == "2"', 'attempt is a number, never "2": write 2'),
        ('confidence < "0.8"', 'confidence is a number, never "0.8": write 0.8'),
        ('[1].all(x, value.category == "refunds")', "did you mean 'refund'?"),
        ('value.qty > 1 ? value.category == "refunds" : true', "did you mean 'refund'?"),
    ],
)
def test_a_literal_that_the_schema_can_not_have_is_told_with_what_to_write(source: str, says: str) -> None:
    problems = check_expression(source, fields=FIELDS)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{source}: ")
    assert says in problems[0]


@pytest.mark.parametrize(
    "source",
    [
        'task.meta.residency == "local" || "any" == task.meta.residency || task.meta["residency"] in ["any"]',
        'task.meta.residency != null && task.meta.residency > "b" && task.meta.residency.startsWith("Local")',
        'task.meta.amount > 890 && task.meta.amount == 890u && task.meta.amount < -0.5 && task.meta.amount != 0x1F',
        'task.meta.desk == null && task.meta.desk in ["a", null] && task.meta.free == "anything" && task.meta.free > 1',
        '"x" in task.meta.tags && task.meta.tags == [] && "1" in value.by && 1 in value.lines && 2 in value.pair',
        'task.meta.vip == true && true != task.meta.vip && task.input.text == "" && task.input.text == "Lo\\x63al"',
        'value.qty == 2.5 && value.qty * 2.0 > 1.0 && size(value.category) == 3',
        'value.stars >= 2.5 && value.stars > 9',
        'value.category == null || value.category != null || value.priority == null || null == value.stars',
        'value == null || steps.first.value == null || signals.schema.value == null',  # broken, skipped, not measured
        'value.unit == "kg" && value.unit == null && value.score == null && value.grade == null && value.grade == "A"',
        'value.event.kind == "gift" && value.event.kind == "sale" && value.event.n == "x" && value.event.n > 1',
        'value.nested.k == "a" && value.nested.k == "b" && value.both == "b" && value.refused == "x"',
        'value.open == "x" && value.open == 1 && value.lines[0] == "x"',
        'has(value.matched.xx) && value.matched.xx == 1',
        'has(value.by.x) && value.by.x == 1 && value.by["x"] == 1.0 && [1, 4].exists(x, x == value.stars)',
        'has(steps.bare.value.x) && steps.bare.value.x == "x" && steps.label.value == "no" && steps.label.skipped',
        'steps.first.status in ["accepted", "approved", "repaired", "redone"]',
        'signals.own.value == "x" && signals.own.value > 1 && signals.schema.reason == ""',
        'signals.schema.value != true',
        'value.category == value.priority && task.meta.residency == value.category && value.category in task.meta.tags',
        'value.category == "re" + "fund" && value.category == b"refund" && value.category == "re\\u0066und"',
        'value.category == (attempt > 1.0 ? "refund" : "no such") && string(value.stars) == "7" && value.stars == --2',
        'confidence < threshold && confidence < 0.8 && attempt < 3 && value.category in {"refund": 1}',
    ],
)
def test_what_may_be_is_no_problem(source: str) -> None:
    assert check_expression(source, fields=FIELDS) == []


def test_a_field_that_is_not_declared_is_told_once() -> None:
    (problem,) = check_expression('value.event.knd == "sale" && value.catgory == "x"', fields=DeclaredFields(
        value={"properties": {"category": {"enum": ["a"]}, "event": {}}, "required": ["category", "event"]}
    ))[1:]
    assert "value.catgory is not declared: did you mean 'category'?" in problem


def test_without_a_schema_any_literal_may_be() -> None:
    source = 'has(task.meta.x) && task.meta.x == "y" && has(value.a) && value.a > 5 && signals.own.value == []'
    assert check_expression(source, fields=DeclaredFields(signals=["own"])) == []


def test_a_long_list_of_values_is_not_told_whole() -> None:
    fields = DeclaredFields(value={"enum": [f"label_{n}" for n in range(77)]})
    (problem,) = check_expression('value == "~"', fields=fields)
    assert problem.endswith("'label_10', 'label_11' and 65 more")


def test_a_schema_that_names_itself_ends() -> None:
    looped = {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#"}}}
    assert check_expression('value == "x"', fields=DeclaredFields(value=looped)) == []
    doubling = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {"const": "x"}}
    fields = DeclaredFields(value={"$ref": "#/$defs/d0", "$defs": doubling})
    assert "there are 'x'" in check_expression('value == "~"', fields=fields)[0]


def test_the_labels_of_a_pydantic_model_are_understood() -> None:
    class Unit(enum.StrEnum):
        KG = "kg"
        BOX = "box"

    class Order(BaseModel):
        unit: Unit
        backup: Unit | None
        state: Literal["open", "shut"] = "open"
        total: float

    fields = DeclaredFields(value=Order.model_json_schema())
    sound = 'value.unit == "kg" && value.backup == null && value.backup == "box" && value.total > 1'
    assert check_expression(sound, fields=fields) == []
    for source, says in (
        ('value.unit == "KG"', "did you mean 'kg'?"), ('value.backup == "boxes"', "did you mean 'box'?"),
        ('has(value.state) && value.state == "shutt"', "did you mean 'shut'?"), ('value.total > "1"', "write 1"),
    ):
        assert says in check_expression(source, fields=fields)[0]
