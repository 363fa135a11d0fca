"""Signals: each kind, and what all of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Any
from uuid import UUID

import pytest

from orchestrator.cascade.compare import compile_compare
from orchestrator.cascade.signals import (
    compile_signals,
    confidence_of,
    draft_features,
    signals_from_json,
    signals_to_json,
)
from orchestrator.cascade.signals.features import features_from_json, features_to_json
from orchestrator.config.feature_names import feature_names
from orchestrator.config.pipeline import StepConfig
from orchestrator.errors import ConfigError
from orchestrator.expressions import DeclaredFields
from orchestrator.records import Draft, Signal, Task, TokenLogprobs
from tests.drafts import draft_of, task_of, unread

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "qty": {"type": "integer", "minimum": 1}},
    "required": ["item", "qty"],
    "additionalProperties": False,
}
GOOD = {"item": "blue widget", "qty": 2}


class Colour(Enum):
    RED = "secret"


@dataclass
class Point:
    x: int


def measured(entry: Any, draft: Draft, *, task: Task | None = None, samples: Any = (), **options: Any) -> Signal:
    """The one signal of `entry`, measured on `draft`."""
    found = compile_signals([entry], **options).measure_sync(draft, task or task_of("2x blue widget"), samples)
    return next(iter(found.values()))


def test_schema_is_ok_where_the_value_matches_and_names_the_place_where_it_does_not() -> None:
    assert measured("schema", draft_of(GOOD), output_schema=SCHEMA).ok
    bad = measured("schema", draft_of({"item": "secret-4711", "qty": 0}), output_schema=SCHEMA)
    assert (bad.ok, bad.value, bad.required) == (False, False, True)
    assert "value.qty" in bad.reason
    assert "4711" not in measured("schema", draft_of({"item": 4711, "qty": 1}), output_schema=SCHEMA).reason
    assert measured("schema", unread("{"), output_schema=SCHEMA).reason == "the draft is not JSON"


def test_schema_without_an_output_schema_wants_a_text() -> None:
    assert measured("schema", draft_of("hello")).ok
    assert not measured("schema", draft_of("", parsed=False)).ok


def test_schema_can_not_be_made_optional() -> None:
    with pytest.raises(ConfigError, match="always required"):
        compile_signals([{"schema": {"required": False}}], output_schema=SCHEMA)


def test_logprob_gives_the_summary_of_the_answer_and_of_its_value_span() -> None:
    span = TokenLogprobs(n=5, mean=-0.5, total=-2.5, q0=-2.0, q10=-1.0, q25=-0.5, q50=-0.2)
    signal = measured("logprob", draft_of(GOOD, span=span))
    assert signal.ok
    assert not signal.required
    signals = {"logprob": signal}
    assert [confidence_of(signals, f"logprob.{p}") for p in ("mean", "min", "margin_min")] == [-0.1, -1.0, 0.2]
    assert confidence_of(signals, "logprob.span.min") == -2.0
    assert confidence_of(signals, "logprob.span.margin_min") is None


def test_logprob_is_not_ok_where_the_server_gave_none() -> None:
    signal = measured("logprob", draft_of(GOOD, logprobs=None))
    assert not signal.ok
    assert confidence_of({"logprob": signal}, "logprob.mean") is None


@pytest.mark.parametrize(
    ("options", "ok", "reason"),
    [
        ({"min_mean": -0.2, "min_min": -1.0}, True, ""),
        ({"min_mean": -0.05}, False, "mean is -0.1, below -0.05"),
        ({"span_min_mean": -1.0}, False, "span.mean is not known, and must be at least -1"),
    ],
)
def test_logprob_with_limits_is_a_required_check(options: dict[str, float], ok: bool, reason: str) -> None:
    signal = measured({"logprob": options}, draft_of(GOOD))
    assert (signal.ok, signal.reason, signal.required) == (ok, reason, True)


@pytest.mark.parametrize(("reason", "ok"), [("stop", True), ("length", False), ("content_filter", False)])
def test_finish_is_ok_where_the_answer_ended_of_itself(reason: str, ok: bool) -> None:
    assert measured("finish", draft_of(GOOD, finish_reason=reason)).ok is ok


@pytest.mark.parametrize(
    ("options", "ok"),
    [
        ({"min_chars": 5, "max_chars": 5}, True),
        ({"max_chars": 4}, False),
        ({"min_tokens": 3, "max_tokens": 3}, True),
        ({"min_tokens": 4}, False),
    ],
)
def test_length_limits_are_inclusive(options: dict[str, int], ok: bool) -> None:
    signal = measured({"length": options}, draft_of("hello", tokens=3))
    assert (signal.ok, signal.value) == (ok, {"chars": 5, "tokens": 3})


def test_arithmetic_is_a_check_on_the_value_and_the_task() -> None:
    entry = {"arithmetic": {"check": "value.qty <= task.meta.stock"}}
    assert measured(entry, draft_of(GOOD), task=task_of(stock=2)).ok
    assert measured(entry, draft_of(GOOD), task=task_of(stock=1)).reason == "value.qty <= task.meta.stock is false"
    assert "task.meta.stock is missing" in measured(entry, draft_of(GOOD)).reason
    assert measured(entry, unread("{"), task=task_of(stock=2)).reason == "the draft has no value"


@pytest.mark.parametrize(
    ("options", "value", "ok"),
    [
        ({"pattern": r"^\d+$", "field": "code"}, {"code": "123"}, True),
        ({"pattern": r"^\d+$", "field": "code"}, {"code": "12a"}, False),
        ({"pattern": "WIDGET", "flags": "i"}, {"item": "a widget"}, True),
        ({"pattern": "secret", "absent": True}, {"item": "a secret"}, False),
        ({"pattern": "secret", "absent": True}, {"item": "a widget"}, True),
        ({"pattern": "x", "field": "a.b"}, {"a": {"b": "xyz"}}, True),
        ({"pattern": "x", "field": "a.b"}, {"a": "x"}, False),
        ({"pattern": "x", "field": "a.b", "absent": True}, {"a": "x"}, False),
    ],
)
def test_regex_searches_the_text_or_a_field(options: dict[str, Any], value: Any, ok: bool) -> None:
    assert measured({"regex": options}, draft_of(value)).ok is ok


def test_a_pattern_that_explodes_elsewhere_is_linear_here() -> None:
    hostile = "a" * 200_000 + "!"
    assert not measured({"regex": {"pattern": "^(a+)+$"}}, draft_of(hostile)).ok


@pytest.mark.parametrize("pattern", ["(", r"(?=x)y", r"(a)\1"])
def test_a_pattern_that_is_not_rusts_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="no pattern of Rust's regex"):
        compile_signals([{"regex": {"pattern": pattern}}])


def test_agreement_is_the_share_of_further_samples_that_are_the_same() -> None:
    entry = {"agreement": {"k": 4}}
    drafts = [draft_of({"qty": q}, sample=i) for i, q in enumerate([2, 2.0, 3, 2])]
    signal = measured(entry, drafts[0], samples=drafts)
    assert signal.value == pytest.approx(2 / 3)
    assert (signal.ok, signal.required) == (True, False)
    assert compile_signals([entry]).samples == 4
    assert compile_signals(["schema"]).samples == 1


def test_agreement_uses_the_steps_compare_and_counts_unread_samples_as_different() -> None:
    drafts = [draft_of({"item": "Blue"}), draft_of({"item": "blue "}, sample=1), draft_of(None, parsed=False, sample=2)]
    signal = measured({"agreement": {"k": 3, "min": 0.9}}, drafts[0], samples=drafts, compare=compile_compare("fields"))
    assert (signal.value, signal.ok, signal.required) == (0.5, False, True)


def test_agreement_without_its_samples_is_not_ok() -> None:
    drafts = [draft_of({"qty": 1}), draft_of({"qty": 1}, sample=1)]
    signal = measured({"agreement": {"k": 3}}, drafts[0], samples=drafts)
    assert (signal.ok, signal.value, signal.reason) == (False, None, "1 of 2 further samples are there")


def test_a_signal_that_raises_is_not_ok_and_stays_required() -> None:
    broken = draft_of(GOOD)
    object.__setattr__(broken, "answer", None)
    signal = measured({"logprob": {"min_mean": -1.0}}, broken)
    assert (signal.ok, signal.required, signal.value) == (False, True, None)
    assert signal.reason.startswith("raised AttributeError in measure")


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (["schemas"], "no signal 'schemas'; did you mean 'schema'"),
        ([{"length": {"max_char": 3}}], "unknown option 'max_char'; did you mean 'max_chars'"),
        ([{"length": {"min_chars": 9, "max_chars": 3}}], "nothing is at least 9 and at most 3"),
        ([{"arithmetic": {}}], "the option 'check' is missing"),
        ([{"arithmetic": {"check": "value.qty >"}}], "Syntax error"),
        ([{"arithmetic": {"check": "confidence > 1.0"}}], "reads confidence"),
        (["finish", "finish"], "two signals are called 'finish'"),
        ([{"agreement": {"k": 1}}], "greater than or equal to 2"),
        ([{"regex": {"pattern": "a"}}, {"regex": {"pattern": "b"}}], "two signals are called 'regex'"),
        ([{"regex": {"pattern": "a", "flags": "g"}}], "flags"),
    ],
)
def test_a_wrong_entry_says_what_to_change(entries: list[Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        compile_signals(entries)


def test_several_of_a_kind_have_names_of_their_own() -> None:
    has_z = {"pattern": "z", "name": "has_z", "required": False}
    entries = [{"regex": {"pattern": "a", "name": "has_a"}}, {"regex": has_z}]
    found = compile_signals(entries).measure_sync(draft_of("abc"), task_of())
    assert [(s.name, s.ok, s.required) for s in found.values()] == [("has_a", True, True), ("has_z", False, False)]


def test_only_logprob_asks_for_log_probabilities() -> None:
    assert compile_signals(["schema", "logprob"]).needs_logprobs
    assert not compile_signals(["schema", "finish"]).needs_logprobs


def test_signals_survive_their_journey_beside_an_answer() -> None:
    weird = Signal(
        name="w", value={"a": -math.inf, "b": None}, ok=False, reason='"é\n', time_ms=1.25, required=True, proof=True
    )
    signals = {"w": weird, "s": Signal(name="s", value=True)}
    assert signals_from_json(signals_to_json(signals)) == signals


@pytest.mark.parametrize("strange", [
    date(2026, 11, 1), object(), {1}, Colour.RED, UUID(int=7), Point(1),
], ids=lambda value: type(value).__name__)
def test_of_what_is_no_json_the_type_is_kept_beside_an_answer(strange: Any) -> None:
    kept = signals_from_json(signals_to_json({"s": Signal(name="s", value={"strange": strange, "n": 1})}))
    assert kept["s"].value == {"strange": f"<{type(strange).__name__}>", "n": 1}


def test_an_unknown_confidence_is_none_and_minus_infinity_is_a_number() -> None:
    signals = {"s": Signal(name="s", value={"nan": math.nan, "inf": -math.inf, "yes": True, "word": "x", "one": 1})}
    paths = ("s.nan", "s.inf", "s.yes", "s.word", "s.one", "s.none", "s", "t.mean")
    assert [confidence_of(signals, p) for p in paths] == [None, -math.inf, None, None, 1.0, None, None, None]


def test_features_are_numbers_without_content() -> None:
    signals = compile_signals(["schema", "logprob", "agreement"]).measure_sync(draft_of(GOOD), task_of("2x 4711"))
    names = feature_names(StepConfig.model_validate(
        {"id": "s", "draft": {"model": "d"}, "signals": ["schema", "logprob", "agreement"], "policy": "p.yaml"}
    ))
    found = draft_features(draft_of(GOOD), signals, task_of("2x 4711"), names)
    assert tuple(found) == names
    assert all(value is None or (type(value) is float and math.isfinite(value)) for value in found.values())
    assert (found["lp_mean"], found["lp_q0"], found["stopped"], found["agreement.ok"]) == (-0.1, -1.0, 1.0, 0.0)
    assert found["task_digits"] == 0.71429  # 5 of 7, as kept
    assert features_from_json(features_to_json(found.values()), names) == found


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("logprob.mean", None),
        ("logprob.span.min", None),
        ("agreement", None),
        ("logprobs.mean", "did you mean 'logprob'"),
        ("logprob.men", "logprob has no 'men'; did you mean 'mean'"),
        ("logprob", "logprob has no ''"),
        ("schema", "says yes or no"),
    ],
)
def test_a_confidence_that_names_no_number_is_a_problem(path: str, says: str | None) -> None:
    problem = compile_signals(["schema", "logprob", "agreement"]).confidence_problem(path)
    assert problem is None if says is None else says in (problem or "")


def test_check_looks_into_arithmetic_and_misses_schema() -> None:
    signals = compile_signals([{"arithmetic": {"check": "value.qyt > 0.0"}}])
    problems = signals.check(DeclaredFields(value=SCHEMA))
    assert "did you mean 'qty'" in problems[0]
    assert "lacks schema" in problems[1]
