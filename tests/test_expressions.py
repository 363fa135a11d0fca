"""CEL: what it sees, what it refuses, and that nothing is guessed."""

from __future__ import annotations

import json
from typing import Any

import cel
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orchestrator.errors import ExpressionError
from orchestrator.expressions import MAX_CHARS, MAX_ITEMS, MAX_NESTING, MAX_SOURCE, close, compile_expression
from orchestrator.records import Signal, Task

BINDINGS: dict[str, Any] = {
    "task": Task(input={"text": "2x widget", "lines": ["a", "bb"]}, meta={"residency": "local", "amount": 30}),
    "steps": {"first": {"value": {"kind": "order"}}},
    "signals": {"schema": Signal(name="schema", ok=True, value=True), "logprob": Signal(name="logprob", ok=False)},
    "value": {"qty": 3, "unit_price": 3.5, "total": 10.5, "note": None, "parts": [{"n": 1}, {"n": 2}]},
    "confidence": -0.31, "threshold": -0.12, "attempt": 1,
}


def holds(source: str, **changed: Any) -> bool:
    return compile_expression(source).holds({**BINDINGS, **changed})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # the examples of the documentation, word for word
        ('has(task.meta.residency) && task.meta.residency == "local"', True),
        ("size(task.input.text) > 4000", False),
        ("!signals.schema.ok && attempt < 2", False),
        ("has(task.meta.amount) && task.meta.amount > 10000.0", False),
        ("confidence < threshold", True),
        ("close(value.qty * value.unit_price, value.total, 0.005)", True),
        # optional fields
        ("has(task.meta.tier)", False),
        ("has(task.meta.tier) && task.meta.tier > 1.0", False),
        ("!has(task.meta.tier) || task.meta.tier > 1.0", True),
        ("task.meta.tier > 1.0 || true", True),
        ("has(value.note) && value.note == null", True),
        ("has(task.meta.tier) ? task.meta.tier > 1.0 : attempt == 1", True),
        # numbers are doubles, also against integer literals
        ("value.qty == 3 && value.qty * 2.0 == 6.0 && value.qty > 2", True),
        ("size(value.parts) == 2 && size(value.parts) < 2.5", True),
        ("int(value.qty) % 2 == 1", True),
        # comprehensions, indexes, keys with strings
        ("value.parts.all(p, p.n > 0.0) && value.parts.exists(p, p.n == 2)", True),
        ("value.parts[1].n == 2 && value['qty'] == 3", True),
        ("value.parts.filter(p, has(p.n) && p.n > value.qty).size() == 0", True),
        ("'qty' in value && !('task.meta.tier' in task.meta)", True),
        ('"value.qty" != "x" && value.qty == 3 // value.nope', True),
        ("steps.first.value.kind == 'order' && steps.first.value.kind.startsWith('or')", True),
        ("has((task.meta).amount) && (task).meta.amount == 30", True),
        ("type(value.qty) == double", True),
        ("signals.logprob.value == null", True),
        ("value.parts.map(p, p.n) == [1.0, 2.0]", True),
        ("task.input.lines.exists(x, x == 'bb') && task == task", True),
    ],
)
def test_expressions_see_what_the_documentation_says(source: str, expected: bool) -> None:
    assert holds(source) is expected


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("task.meta.tier > 1.0", "task.meta.tier is missing"),
        ("has(task.meta.tier.level)", "task.meta.tier.level is missing"),
        ("has(task.meta.tier) || task.meta.tier > 1.0", "task.meta.tier is missing"),
        ("has(value.qty.unit)", "value.qty.unit is missing"),
        ("value.qty * 2 > 1", r"write 2\.0"),
        ("value.note > 1.0", "types do not fit"),
        ("value.qty > 'a'", "types do not fit"),
        ("value.parts[7].n > 1.0", "IndexError"),
        ("value.parts[0].m > 1.0", "'m' is missing"),
        ("1 / 0 == 1", "ZeroDivisionError"),
        ("close(value.qty, value.note, 0.1)", "function failed"),
        ("close(value.qty, 3.0, true)", "function failed"),
        ("value.qty", "gives float, and must give true or false"),
        ("task.input.text", "gives str"),
        ("value.note", "gives NoneType"),
    ],
)
def test_what_can_not_be_evaluated_raises_with_the_reason(source: str, reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        holds(source)


@pytest.mark.parametrize("name", ["confidence", "threshold"])
def test_an_unknown_number_is_no_number(name: str) -> None:
    for unknown in (None, float("nan")):
        with pytest.raises(ExpressionError):
            holds("confidence < threshold", **{name: unknown})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("confidnce < threshold", "did you mean 'confidence'"),
        ("siz(value) > 1", "did you mean 'size'"),
        ("value.parts.lenght() > 1", "'lenght' is unknown"),
        ("confidence <", "Syntax error"),
        ("", "Syntax error"),
        ("value.parts.all(task, true)", "'task' is taken"),
        ("value.parts.all(__0, true)", "'__0' is taken"),
        ("__0 > 1.0", "'__0' is unknown"),
        (".value.qty == 1.0", "not understood"),
        ("value.parts.all(a, value.parts.all(b, value.parts.all(c, true)))", "3 comprehensions"),
        ("(" * 200 + "true" + ")" * 200, "is nested too deeply"),
        ("true || " * 400 + "true", "characters: 2000 is the most"),
        ("__import__('os').system('true') == 1", "unknown"),
    ],
)
def test_what_does_not_compile_says_where_and_what_instead(source: str, says: str) -> None:
    assert MAX_SOURCE == 2_000
    with pytest.raises(ExpressionError, match=says):
        compile_expression(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ('task.meta.x = "3"', "column 13: Syntax error: token recognition error at: '= '; did you mean '=='?"),
        ("value.a ==\n  = 3", "line 2, column 3: Syntax error: token recognition error at: '= '; did you mean '=='?"),
        ("value.a => 3", "column 9: Syntax error: token recognition error at: '=>'; did you mean '>='?"),
        ("value.a and true", "column 9: Syntax error: mismatched input 'and'; did you mean '&&'?"),
        ("value.a || not true", "column 16: Syntax error: extraneous input 'true'; did you mean '!'?"),
        ("value.a | true", "column 9: Syntax error: token recognition error at: '| '; did you mean '||'?"),
        ("true ? 1", "column 9: Syntax error: it ends too early"),
        ("size(value", "column 11: Syntax error: missing ')' at its end"),
        ("value.a ;", "column 9: Syntax error: token recognition error at: ';'"),
    ],
)
def test_a_syntax_error_is_told_once_in_a_line_with_what_may_have_been_meant(source: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(source)
    assert str(caught.value) == f"{source!r}, {says}"


def test_size_counts_characters_and_not_bytes() -> None:
    assert holds("size(value) == 3 && value.size() == 3", value="é€😀")


@pytest.mark.parametrize(
    ("a", "b", "tol", "expected"),
    [
        (0.13, 0.125, 0.005, True),
        (0.1 + 0.2, 0.3, 0.0, True),
        (10.0, 10.006, 0.005, False),
        (1e300, 1e300, 0.0, True),
    ],
)
def test_close_includes_its_tolerance_up_to_rounding(a: float, b: float, tol: float, expected: bool) -> None:
    assert close(a, b, tol) is expected
    assert close(b, a, tol) is expected


def test_a_value_too_large_to_look_at_is_not_evaluated() -> None:
    with pytest.raises(ExpressionError, match="too many items"):
        holds("size(value) > 1", value=[0] * (MAX_ITEMS + 1))
    with pytest.raises(ExpressionError, match="too long"):
        holds("value == 'a'", value="a" * (MAX_CHARS + 1))
    with pytest.raises(ExpressionError, match="too many items"):
        holds("value.all(a, value.all(b, a == b))", value=[0] * 1_001)


def test_a_value_nested_too_deeply_is_not_evaluated() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(ExpressionError):
        holds("value == 1.0", value=value)


@pytest.mark.parametrize("value", ["\ud800", {"a": object()}, 10**400])
def test_what_is_not_json_is_not_evaluated(value: Any) -> None:
    with pytest.raises(ExpressionError):
        holds("value == 1.0", value=value)


def test_a_failing_function_logs_nothing_of_the_values(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ExpressionError) as raised:
        holds("close(value.secret, 1.0, 1.0)", value={"secret": "4711-0815"})
    out = capfd.readouterr()
    assert "4711" not in out.out + out.err + caplog.text + str(raised.value)


PATHS = st.sampled_from(
    ["value.a", "value.b", "value.a.c", "value.b.d", "value.list", "value", "task.meta.x", "task.meta", "attempt"]
)
LEAVES = st.one_of(
    PATHS,
    PATHS.filter(lambda path: "." in path).map(lambda path: f"has({path})"),
    st.sampled_from(["1.0", "2", '"value.a"', "'has(value.b)'", "true", "null", "[1.0, value.a]", "value.list[0]"]),
)
OPERATORS = st.sampled_from(["&&", "||", "==", "!=", "<", "+", "in"])
SOURCES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, OPERATORS, inner).map(lambda p: f"({' '.join(p)})"),
        inner.map(lambda p: f"!({p})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})"),
        inner.map(lambda p: f"value.list.exists(x, {p} == x)"),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdx"), inner, max_size=3),
    max_leaves=6,
)


@given(
    source=SOURCES,
    value=st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES, "list": st.lists(VALUES, max_size=3)}),
    meta=st.fixed_dictionaries({}, optional={"x": VALUES}),
)
def test_reading_single_leaves_gives_what_cel_gives_on_the_whole(
    source: str, value: dict[str, Any], meta: dict[str, Any]
) -> None:
    assume(source.count("exists(") <= MAX_NESTING)
    bindings = {"value": value, "task": {"input": {}, "meta": meta}, "attempt": 1.0}
    try:
        whole: Any = cel.compile(source).execute(json.loads(json.dumps(bindings)))
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, ArithmeticError):
        whole = ExpressionError
    try:
        leaves: Any = compile_expression(source).evaluate(bindings)
    except ExpressionError:
        leaves = ExpressionError
    assert leaves == whole
