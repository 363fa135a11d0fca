"""Canonical JSON."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.canonical import canonical, canonical_nfc

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_is_json_of_an_equal_value(value: object) -> None:
    assert json.loads(canonical(value)) == value


@given(JSON)
def test_canonical_json_of_canonical_json_is_itself(value: object) -> None:
    once = canonical(value)
    assert canonical(json.loads(once)) == once


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_is_nothing(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_whole_floats_are_the_integers_they_equal() -> None:
    assert canonical([7.0, -0.0, 1e20, 0.5]) == b"[7,0,100000000000000000000,0.5]"


def test_true_is_not_one() -> None:
    assert canonical(True) != canonical(1)


def test_mappings_and_tuples_are_objects_and_arrays() -> None:
    assert canonical(MappingProxyType({"b": (1, 2), "a": None})) == b'{"a":null,"b":[1,2]}'


def test_requests_that_differ_in_a_byte_differ_and_answers_in_another_normal_form_do_not() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert canonical(composed) != canonical(decomposed)
    assert canonical_nfc({composed: composed}) == canonical_nfc({decomposed: decomposed})


def test_a_lone_surrogate_has_bytes() -> None:
    assert canonical("\ud800") == b'"\\ud800"'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"x": value})


@pytest.mark.parametrize("value", [{1: "a"}, {"a": object()}, {"a": {1, 2}}, b"bytes"])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)
