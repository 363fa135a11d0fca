"""What `check` says of an expression before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator.declared_fields import BEFORE
from orchestrator.expressions import DeclaredFields, check_expression

TASK: dict[str, Any] = {
    "type": "object",
    "properties": {
        "input": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        "meta": {
            "type": "object",
            "properties": {
                "amount": {"type": "number"},
                "residency": {"type": "string", "default": "any"},
                "customer": {"type": "object", "properties": {"tier": {"type": "string"}}, "required": ["tier"]},
            },
        },
    },
    "required": ["input"],
}
VALUE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "qty": {"type": "integer"}, "total": {"type": "number"}, "note": {"type": "string", "default": ""},
        "buyer": {"$ref": "#/$defs/buyer"},
        "price": {"anyOf": [{"type": "object", "properties": {"net": {}}, "required": ["net"]}, {"type": "null"}]},
        "open": {"type": "object", "additionalProperties": {"type": "number"}},
        "either": {"oneOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]},
        "lines": {"type": "array", "items": {"type": "object", "properties": {"qty": {"type": "integer"}}}},
        "all": {"allOf": [{"properties": {"a": {}}, "required": ["a"]}], "properties": {"b": {}}},
    },
    "required": ["qty", "total", "buyer", "price", "open", "either", "lines", "all"],
    "$defs": {
        "buyer": {"type": "object", "properties": {"name": {}, "boss": {"$ref": "#/$defs/buyer"}}, "required": ["name"]}
    },
}
FIELDS = DeclaredFields(task=TASK, value=VALUE, signals=("schema", "logprob"), steps={"first": VALUE, "bare": None})


@pytest.mark.parametrize(
    "source",
    [
        'has(task.meta.amount) && task.meta.amount > 10.0',
        'task.meta.amount > 10.0 && has(task.meta.amount)',  # `&&` absorbs an error of either side
        '!has(task.meta.amount) || task.meta.amount > 10.0',
        '!(has(task.meta.amount) && attempt == 1) || task.meta.amount > 10.0',
        'has(task.meta.amount) ? task.meta.amount > 10.0 : false',
        '!has(task.meta.amount) ? true : task.meta.amount > 10.0',
        'has(task.meta.customer) && task.meta.customer.tier == "gold"',
        'has(task.meta.customer) && has(task.meta.customer.tier)',
        'task.meta.residency == "local" && size(task.input.text) > 3',
        'close(value.qty * 2.0, value.total, 0.01) && value.buyer.name != ""',
        'value.price.net > 1.0 && value.all.a == 1.0 && has(value.open.x) && value.open.x > 1.0',
        'has(value.buyer.boss) && value.buyer.boss.name == "x"',
        'signals.schema.ok && signals.logprob.value.mean > -1.0 && signals.logprob.reason == ""',
        'steps.first.value.qty > 1.0 && steps.first.status == "accepted"',
        'has(steps.bare.value.anything) && steps.bare.value.anything == 1.0',
        'has(value.note) && value.note == "" && [1].all(x, x == 1)',
        'has(value.either.a)',
        'confidence < threshold && attempt < 3',
        'attempt * 2.0 > 1.0 && 2 * 3 == 6 && size(value.open) + 1 > 2',
        'value.lines[0].qty * 2.0 > 3.0 && value.lines.exists(x, x.qty * 2.0 > 1.0) && (1 + 2) * 3 > 4',
        '[1, 2].exists(x, x * 2 > 3) && value.lines.all(x, [1].exists(x, x + 1 == 2)) && size(value.lines) * 2 > 1',
    ],
)
def test_declared_and_guarded_fields_are_no_problem(source: str) -> None:
    assert check_expression(source, fields=FIELDS) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('task.meta.amount > 10.0', "task.meta.amount may be missing: ask has(task.meta.amount) first"),
        ('has(task.meta.amount) || task.meta.amount > 10.0', "may be missing"),
        ('!has(task.meta.amount) && task.meta.amount > 10.0', "may be missing"),
        ('!(has(task.meta.amount) || attempt == 1) || task.meta.amount > 1.0', "may be missing"),
        ('has(task.meta.amount) ? true : task.meta.amount > 10.0', "may be missing"),
        ('has(task.meta.amont)', "task.meta.amont is not declared: did you mean 'amount'?"),
        ('task.meta.residncy == "local"', "did you mean 'residency'?"),
        ('task.input.txt == ""', "did you mean 'text'?"),
        ('task.mta.amount == 1.0', "a task has input and meta"),
        ('has(task.meta.customer.tier)', "task.meta.customer may be missing"),
        ('value.note == ""', "value.note may be missing"),
        ('value.buyer.boss.name == ""', "value.buyer.boss may be missing"),
        ('value.buyer.age > 1.0', "value.buyer.age is not declared"),
        ('value.open.x > 1.0', "value.open.x is not in any schema: ask has(value.open.x) first"),
        ('value.either.a == 1.0', "value.either.a may be missing"),
        ('value.all.b == 1.0', "value.all.b may be missing"),
        ('signals.schma.ok', "there is no signal 'schma': did you mean 'schema'?"),
        ('signals.logprob.mean > -1.0', "did you mean signals.logprob.value.mean?"),
        ('steps.second.value.qty > 1.0', "there is no earlier step 'second'"),
        ('steps.first.value.nope > 1.0', "steps.first.value.nope is not declared"),
        ('steps.first.vale.qty > 1.0', "an earlier step has value"),
        ('steps.bare.value.anything == 1.0', "is not in any schema"),
        ('value.qty * 2 > 5.0', "write an integer beside them"),
        ('value.lines[0].qty * 2 > 300.0', "write an integer beside them"),
        ('value.lines.exists(x, x.qty * 2 > 300.0)', "write an integer beside them"),
        ('value.lines.exists(x, [1].all(y, 2 * -x.qty > 3.0))', "write an integer beside them"),
        ('(value.qty + value.total) * (1 + 1) > 5.0', "write an integer beside them"),
        ('confidence.mean < 1.0', "confidence is a number and has no 'mean'"),
        ('value.qty >', "Syntax error"),
        ('[1].all(x, value.note == "x")', "value.note may be missing"),
    ],
)
def test_problems_name_the_field_and_what_to_write(source: str, says: str) -> None:
    problems = check_expression(source, fields=FIELDS)
    assert len(problems) == 1, problems
    assert says in problems[0]


def test_a_before_rule_sees_the_task_only() -> None:
    fields = DeclaredFields(task=TASK, value=VALUE, roots=BEFORE)
    assert "'confidence' is not known here" in check_expression("confidence < 1.0", fields=fields)[0]


def test_without_a_schema_every_field_wants_has() -> None:
    fields = DeclaredFields()
    assert "is not in any schema" in check_expression("task.input.text == ''", fields=fields)[0]
    assert check_expression("has(task.input.text) && task.input.text == ''", fields=fields) == []


def test_a_field_whose_name_a_pattern_allows_is_not_called_undeclared() -> None:
    patterned = {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False}
    fields = DeclaredFields(value=patterned)
    assert check_expression("has(value.xx) && value.xx == 1.0", fields=fields) == []
    assert "value.xx is not in any schema" in check_expression("value.xx == 1.0", fields=fields)[0]


def test_a_schema_that_refers_to_itself_ends() -> None:
    looped: dict[str, Any] = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert check_expression("has(value.x)", fields=DeclaredFields(value=looped)) == []
    assert check_expression("value.x == 1.0", fields=DeclaredFields(value=looped)) != []


def test_the_schema_of_a_pydantic_model_is_understood() -> None:
    class Customer(BaseModel):
        tier: str
        phone: str | None = None

    class Order(BaseModel):
        customer: Customer
        backup: Customer | None = None

    fields = DeclaredFields(value=Order.model_json_schema())
    assert check_expression("value.customer.tier == 'gold'", fields=fields) == []
    assert check_expression("has(value.backup) && value.backup.tier == 'gold'", fields=fields) == []
    assert "value.customer.phone may be missing" in check_expression("value.customer.phone == ''", fields=fields)[0]
    assert "is not declared" in check_expression("value.customer.name == ''", fields=fields)[0]
