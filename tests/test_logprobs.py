"""Token log-probabilities: an exact summary that survives JSON, and the tokens that carry the answer's values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.models.logprobs import FLOOR, summarise, value_span

LOGPROB = st.floats(min_value=-50.0, max_value=0.0)


def chosen(text: str, tokens: list[str]) -> list[str]:
    return [tokens[i] for i in value_span(text, tokens)]


@given(probs=st.lists(LOGPROB, min_size=1, max_size=80))
def test_the_summary_is_exact(probs: list[float]) -> None:
    found = summarise(["t"] * len(probs), probs, [p - 1.0 for p in probs])
    assert found.n == len(probs)
    assert found.total == math.fsum(probs)
    assert found.mean == math.fsum(probs) / len(probs)
    assert found.q0 == min(probs)
    assert found.q50 == pytest.approx(median(probs))
    assert found.q0 <= found.q10 <= found.q25 <= found.q50 <= max(probs)
    assert found.margin_mean == pytest.approx(1.0)


def test_quantiles_interpolate_as_numpy_does() -> None:
    found = summarise(["t"] * 5, [-4.0, 0.0, -1.0, -3.0, -2.0])
    assert (found.q0, found.q10, found.q25, found.q50) == (-4.0, pytest.approx(-3.6), -3.0, -2.0)
    assert found.margin_mean is None


@pytest.mark.parametrize("odd", [-math.inf, math.nan, -1e300])
def test_what_is_no_finite_log_probability_counts_as_the_floor(odd: float) -> None:
    found = summarise(["a", "b", "c"], [odd, -1.0, -1.0], [-math.inf, -2.0, None])
    assert (found.q0, found.total) == (FLOOR, FLOOR - 2.0)
    assert json.loads(json.dumps(vars_of(found), allow_nan=False))["q0"] == FLOOR


def vars_of(found: object) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__slots__}  # type: ignore[attr-defined]


def test_a_token_without_a_rival_has_no_margin() -> None:
    assert summarise(["a", "b", "c"], [-0.1, 0.0, 0.0], [-1.1, FLOOR, None]).margin_mean == pytest.approx(1.0)
    assert summarise(["a"], [0.0], [-math.inf]).margin_min is None


def test_a_rounding_error_above_zero_is_zero() -> None:
    assert summarise(["a"], [1e-9]).total == 0.0


def test_the_margin_is_negative_where_a_less_likely_token_was_drawn() -> None:
    found = summarise(["a", "b"], [-0.1, -3.0], [-2.1, -0.5])
    assert found.margin_min == -2.5
    assert found.margin_mean == pytest.approx(fmean([2.0, -2.5]))


@pytest.mark.parametrize("probs", [[], [-1.0, -2.0]])
def test_lists_of_different_lengths_are_an_error(probs: list[float]) -> None:
    with pytest.raises(ValueError, match="one for each token"):
        summarise(["a"], probs)


def test_the_value_span_leaves_out_keys_braces_and_punctuation() -> None:
    text = '{"qty": 2, "item": "wid get", "price": -3.5e2, "ok": true, "no": null, "l": [1, {"k": ""}]}'
    tokens = [
        '{"', "qty", '":', " ", "2", ",", ' "', "item", '":', ' "', "wid", " get", '",', ' "price":', " -3", ".5e2",
        ', "', 'ok": ', "true", ', "no":', " null", ', "l": [', "1", ', {"', "k", '": ', '""', "}]}",
    ]
    assert "".join(tokens) == text
    assert chosen(text, tokens) == ["2", "wid", " get", " -3", ".5e2", "true", " null", "1", '""']


def test_a_token_that_holds_key_and_value_counts_as_value() -> None:
    assert chosen('{"a":1}', ['{"a":1', "}"]) == ['{"a":1']


def test_escaped_quotes_and_colons_do_not_end_a_value() -> None:
    text = r'{"a": "say \"x\": y", "b": "{"}'
    tokens = ['{"a": "', r"say \"x", r"\": y", '", "b": "', "{", '"}']
    assert chosen(text, tokens) == [r"say \"x", r"\": y", "{"]


@pytest.mark.parametrize("text", ["not JSON at all", '{"cut": "of', "{}", "[]", ""])
def test_the_span_is_the_whole_answer_where_there_are_no_values(text: str) -> None:
    tokens = [text[i : i + 3] for i in range(0, len(text), 3)]
    assert value_span(text, tokens) == list(range(len(tokens)))


def test_thinking_and_end_marks_are_outside_the_answer() -> None:
    tokens = ["<think>", "so 2", "</think>", "\n", '{"a":', " 2", "}", "<|im_end|>"]
    assert chosen('{"a": 2}', tokens) == [" 2"]
    assert chosen("plain", ["<think>", "hm", "</think>", "pl", "ain", "</s>"]) == ["pl", "ain"]


def test_tokens_that_split_a_character_are_followed_by_their_bytes() -> None:
    text = '{"a": "né", "b": 1}'
    raw = text.encode()
    at = raw.index(b"\xc3")
    tokens = [raw[: at - 1], raw[at - 1 : at + 1], raw[at + 1 : at + 2], raw[at + 2 : -2], raw[-2:-1], raw[-1:]]
    assert b"".join(tokens) == raw
    assert value_span(text, tokens) == [1, 2, 4]


def test_split_characters_that_the_server_replaced_are_placed_by_their_neighbours() -> None:
    text = '{"a": "né", "b": 1}'
    tokens = ['{"a": "', "n", "�", "�", '", "b": ', "1", "}", "<|im_end|>"]
    assert value_span(text, tokens) == [1, 2, 3, 5]


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=30),
    ascii_only=st.booleans(),
)
def test_the_span_is_the_bytes_of_the_scalars_however_the_answer_is_cut(
    value: object, cuts: list[int], ascii_only: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    raw = text.encode()
    single = value_span(text, [bytes([byte]) for byte in raw])
    scalars = "".join(_scalars(value, ascii_only))
    assert bytes(raw[i] for i in single) == (scalars.encode() or raw)

    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    wanted = [i for i, (a, b) in enumerate(pairwise(edges)) if any(a <= at < b for at in single)]
    assert value_span(text, [raw[a:b] for a, b in pairwise(edges)]) == wanted


def _scalars(value: Any, ascii_only: bool) -> Iterator[str]:
    if isinstance(value, str):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1] or '""'
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _scalars(one, ascii_only)
    else:
        yield json.dumps(value)
