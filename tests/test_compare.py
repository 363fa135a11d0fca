"""Are two answers the same?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cascade.compare import compile_compare
from orchestrator.errors import ConfigError

EXACT = compile_compare("exact")
FIELDS = compile_compare("fields")
NAN = float("nan")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"qty": 7, "x": 1}, {"x": 1, "qty": 7.0}, True),
        ({"qty": 7}, {"qty": "7"}, False),
        ({"qty": 1}, {"qty": True}, False),
        ("caf\u00e9", "cafe\u0301", True),
        ("Blue", "blue", False),
        ("blue ", "blue", False),
        ([1, 2], [2, 1], False),
        ({"a": None}, {}, False),
        (None, None, True),
        (0.1 + 0.2, 0.3, False),
        ({"a": NAN}, {"a": NAN}, False),
    ],
)
def test_exact_is_equality_of_canonical_json(a: Any, b: Any, same: bool) -> None:
    assert EXACT.same(a, b) is same
    assert EXACT.score(a, b) == float(same)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"item": " Blue Widget"}, {"item": "blue widget "}, True),
        ({"item": "STRASSE"}, {"item": "straße"}, True),
        ({"total": 0.1 + 0.2}, {"total": 0.3}, True),
        ({"total": 3.5}, {"total": 3.51}, False),
        ({"total": 10**400}, {"total": 1.0}, False),
        ({"paid": True}, {"paid": 1}, False),
        ({"tags": ["A", "b"]}, {"tags": ["a", "B"]}, True),
        ({"tags": ["a", "b"]}, {"tags": ["b", "a"]}, False),
        ({"to": {"city": "Oslo"}}, {"to": {"city": "OSLO"}}, True),
        ({"to": {"city": "Oslo"}}, {"to": {"city": "Oslo", "zip": None}}, False),
        ({"a": None}, {}, False),
        ({}, {}, True),
        ("Yes", " yes", True),
        ({"a": 1}, [1], False),
        (NAN, NAN, False),
    ],
)
def test_fields_forgives_case_space_and_rounding(a: Any, b: Any, same: bool) -> None:
    assert FIELDS.same(a, b) is same
    assert FIELDS.same(b, a) is same


def test_the_score_of_fields_is_the_share_of_equal_ones() -> None:
    assert FIELDS.score({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "d": 3}) == 0.25


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own, importable as `own_compare`."""
    (tmp_path / "own_compare.py").write_text(
        "def prefix(a, b):\n    return a[:3] == b[:3]\n\n"
        "def half(a, b):\n    return 0.5\n\n"
        "def words(a, b):\n    return 'yes'\n\n"
        "def broken(a, b):\n    raise KeyError(a)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_compare"


def test_a_callable_may_return_a_bool_or_a_score(judge: str) -> None:
    assert compile_compare(f"{judge}:prefix", ["own_compare"]).same("abcd", "abce")
    assert compile_compare(f"{judge}:half", ["own_compare"]).score(1, 1) == 0.5
    assert not compile_compare(f"{judge}:half", ["own_compare"]).same(1, 1)


@pytest.mark.parametrize("name", ["words", "broken"])
def test_a_callable_that_says_nothing_of_sameness_counts_as_different_and_is_logged(
    judge: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert compile_compare(f"{judge}:{name}", ["own_compare"]).score("secret", "secret") == 0.0
    assert f"own_compare:{name}" in caplog.text
    assert "secret" not in caplog.text


def test_changed_source_is_a_changed_fingerprint(judge: str) -> None:
    one = compile_compare(f"{judge}:prefix", ["own_compare"])
    other = compile_compare(f"{judge}:half", ["own_compare"])
    assert one.fingerprint.split("@")[1] != other.fingerprint.split("@")[1]


@pytest.mark.parametrize(
    ("spec", "allow", "says"),
    [
        ("fuzzy", [], "'fuzzy' is unknown|fuzzy` is unknown"),
        ("os:system", [], "may not be imported"),
        ("os:system", ["osx", "o"], "may not be imported"),
        ("own_compare:none", ["own_compare"], "has no 'none'"),
        ("own_compare:__dict__", ["own_compare"], "not an import path"),
        ("no_such_module_here:f", ["no_such_module_here"], "can't be imported"),
        ("json:decoder", ["json"], "not a function"),
    ],
)
def test_a_spec_that_can_not_be_used_says_why(judge: str, spec: str, allow: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        compile_compare(spec, allow)


def test_an_allowed_package_allows_its_modules() -> None:
    assert compile_compare("json.decoder:scanstring", ["json"]).spec == "json.decoder:scanstring"
