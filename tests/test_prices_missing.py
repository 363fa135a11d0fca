"""A model without a price: `check` and `prices check` say what to write, and what they say works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from orchestrator.check import check_pipeline
from orchestrator.cli import run_command
from tests.pipelines import PRICES, dump, write_pipeline


def pipeline(folder: Path, use: str, **prices: Any) -> Path:
    path = write_pipeline(folder / "my work", validator={"use": use})
    dump(path.parent / "prices.yaml", {**PRICES, **prices})
    return path


def unpriced(path: Path) -> str:
    (found,) = [one.message for one in check_pipeline(path).findings if one.message.startswith("no price for")]
    return found


def test_near_names_of_the_book_are_named_with_the_key_that_takes_one(tmp_path: Path) -> None:
    path = pipeline(tmp_path, "openai:validator-2", aliases={"validator-3": "validator"})
    words = unpriced(path)
    assert "no price for 'validator-2': its cost is unknown (did you mean 'validator-3' or 'validator'?" in words
    assert "as the model's `price:`" in words
    named = write_pipeline(path.parent, validator={"use": "openai:validator-2", "price": "validator"})
    assert not [one for one in check_pipeline(named).findings if "no price" in one.message]


def test_the_command_that_is_named_prices_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the figures in place of X and Y; the folder's name has a space."""
    path = pipeline(tmp_path, "openai:frontier-1")
    words = unpriced(path)
    assert "did you mean" not in words
    command = re.search(r"`orchestrator (prices pin .*?)`", words)
    assert command is not None
    assert run_command(["prices", "check", str(path)]) == 1
    assert f"frontier-1: `{command[0].strip('`')}`" in capsys.readouterr().err
    assert run_command([{"X": "3", "Y": "15"}.get(word, word) for word in shlex.split(command[1])]) == 0
    assert run_command(["prices", "check", str(path)]) == 0


def test_litellms_models_are_pinned_without_figures(tmp_path: Path) -> None:
    path = write_pipeline(
        tmp_path / "p", validator={"use": "litellm:anthropic/claude-x", "location": "remote", "endpoints": []}
    )
    assert f"(`orchestrator prices pin anthropic/claude-x --book {path.parent / 'prices.yaml'}`)" in unpriced(path)


def test_without_a_book_the_pipelines_key_is_named_as_well(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    path.write_text(path.read_text().replace("prices: prices.yaml\n", ""))
    told = [one.message for one in check_pipeline(path).findings if one.message.startswith("no price for")]
    assert told == [
        f"no price for {name!r}: its cost is unknown (`orchestrator prices pin {name} --input X --output Y "
        "--book FILE`, and name FILE under `prices:`)" for name in ("drafter", "validator")
    ]


@pytest.mark.parametrize(
    ("command", "name", "says"),
    [
        ("prices check", "prices.yaml", "this is a price book, not a pipeline\nhint: give the pipeline that names it"),
        ("prices check", "policy.yaml", "this is a policy file, not a pipeline\nhint: give the pipeline whose step"),
        ("prices show", "pipeline.yaml", "this is a pipeline, not a price book\nhint: give the file that a pipeline"),
        ("prices show", "policy.yaml", "this is a policy file, not a price book\nhint: give the file that a pipeline"),
    ],
)
def test_a_file_of_another_kind_is_told_for_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, says: str
) -> None:
    path = write_pipeline(tmp_path / "p").parent / name
    assert run_command([*command.split(), str(path)]) == 2
    assert re.sub(r":\d+: ", ": ", capsys.readouterr().err).startswith(f"error: {path}: {says}")


def test_a_pipeline_with_a_stray_key_of_a_book_is_still_a_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_pipeline(tmp_path / "p", book="b")
    assert run_command(["prices", "check", str(path)]) == 2
    assert "unknown key 'book'" in capsys.readouterr().err
