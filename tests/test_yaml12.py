"""YAML is read by the 1.2 core schema, and what is wrong or dangerous is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.yaml12 import parse_yaml
from orchestrator.errors import ConfigError

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_categories=["Cc", "Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5), max_leaves=20,
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: [1, 2", 1, "not YAML"),
        ("a: 1\nb: {c: 2\nd: 3", 3, "not YAML"),
        ("a: 1\nb: \x01", 2, "not YAML"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", 2, "tag"),
        ("a: !include other.yaml", 1, "'!include' is not allowed"),
        ("a: 1\nb: 2\na: 3", 3, "'a' stands twice, first in line 1"),
        ("a: {b: {c: 1, c: 2}}", 1, "'c' stands twice"),
        (BOMB, 5, "more than 50,000 values"),
        ("a: &a x\nb: [" + "*a, " * 101 + "*a]", 2, "more than 100 aliases"),
        ("a: &a [1, *a]", 1, "has no anchor before it"),
        ("[" * 5000, 1, "nested deeper"),
        ("a: .nan", 1, "not a finite number"),
        ("a: 1e999", 1, "not a finite number"),
        ("---\na: 1\n---\nb: 2", 3, "a second document"),
        ("? [a]\n: 1", 1, "a plain word"),
        ("# nothing", None, "empty"),
        ("", None, "empty"),
    ],
)
def test_bad_yaml_is_named_with_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(ConfigError) as found:
        parse_yaml(text, Path("bad.yaml"))
    assert words in str(found.value)
    assert found.value.line == line
    assert str(found.value).startswith("bad.yaml:")


def test_yaml_is_version_1_2_whatever_a_directive_says() -> None:
    text = "%YAML 1.1\n---\n[off, yes, 0x10, 0o17, 017, 1_000, 2026-01-01, ~, 3.50, 'no', true]"
    data = parse_yaml(text, Path("x.yaml")).data
    assert data == ["off", "yes", 16, 15, 17, "1_000", "2026-01-01", None, 3.5, "no", True]


def test_an_alias_repeats_its_anchor() -> None:
    assert parse_yaml("a: &x {b: [1, 2]}\nc: *x", Path("x.yaml")).data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=5))
def test_json_is_yaml_and_means_the_same(value: dict[str, Any]) -> None:
    assert parse_yaml(json.dumps(value, ensure_ascii=False), Path("x.yaml")).data == value


@given(st.text(st.sampled_from("ab:-?[]{}&*!|>'\"#%@ \n\t01.~,\\"), max_size=60))
def test_whatever_is_written_is_read_or_refused_with_its_file(text: str) -> None:
    refusal: ConfigError | None = None
    try:
        parse_yaml(text, Path("x.yaml"))
    except ConfigError as error:
        refusal = error
    assert refusal is None or refusal.file == "x.yaml"


def test_a_line_is_known_for_every_key_and_item() -> None:
    found = parse_yaml("a:\n  - b: 1\n    c: 2\n  - 3\n", Path("x.yaml"), first_line=10)
    assert found.line(("a", 0, "c")) == 12
    assert found.line(("a", 1)) == 13
    assert found.line(("a", 0, "missing")) == 11
