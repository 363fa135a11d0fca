"""A share is written `3%` or `0.03` wherever one is read, on the command line and in YAML, and means the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestrator.cascade.signals.agreement import AgreementOptions
from orchestrator.cli import cli, run_command
from orchestrator.commands.options import Parsed
from orchestrator.config.loader import LoadedPipeline, load_pipeline
from orchestrator.config.quantities import ExactShare, InnerShare, Share, SomeShare, parse_share
from orchestrator.errors import ConfigError
from tests.pipelines import POLICY, write_pipeline

COMMANDS = [
    ("assess", "max_regret"), ("assess", "confidence"), ("calibrate", "max_regret"), ("calibrate", "confidence"),
    ("calibrate", "fit_share"), ("budget set", "soft"),
]
LOOK = {"name": "look", "then": "spot_check"}
Settings = Callable[[str | float], dict[str, Any]]
IN_YAML: list[tuple[Settings, Callable[[LoadedPipeline], float | Decimal | None]]] = [
    (lambda x: {"baseline": x}, lambda loaded: loaded.config.baseline),
    (lambda x: {"drift": {"false_alarm": x}}, lambda loaded: loaded.config.drift.false_alarm),
    (lambda x: {"drift": {"calibration_error": x}}, lambda loaded: loaded.config.drift.calibration_error),
    (lambda x: {"limits": {"escalation": {"share": x}}}, lambda loaded: loaded.config.limits.escalation.share),  # type: ignore[union-attr]
    (lambda x: {"budget": {"per_day": "5 USD", "soft": x}}, lambda loaded: loaded.config.budget.soft),
    (lambda x: {"policy": {**POLICY, "after": [{**LOOK, "sample": x}]}},
     lambda loaded: loaded.steps[0].policy.after[0].sample),
]


def option(command: str, name: str) -> click.Option:
    found: click.Command = cli
    for word in command.split():
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return next(one for one in found.params if isinstance(one, click.Option) and one.name == name)


@pytest.mark.parametrize(("command", "name"), COMMANDS)
def test_every_share_of_the_command_line_takes_both_spellings(command: str, name: str) -> None:
    one = option(command, name)
    assert isinstance(one.type, Parsed)
    read = {one.type.convert(written, None, None) for written in ("3%", "0.03", " 3 % ", ".03", "3e-2")}
    assert {float(value) for value in read} == {0.03}
    with pytest.raises(click.BadParameter, match=r"'80' is not a share: write 80% or 0\.8"):
        one.type.convert("80", None, None)


@pytest.mark.parametrize(("settings", "share"), IN_YAML)
def test_every_share_of_a_file_takes_both_spellings(
    tmp_path: Path, settings: Settings, share: Callable[[LoadedPipeline], float | Decimal | None]
) -> None:
    first, second = (
        share(load_pipeline(write_pipeline(tmp_path / str(nth), **settings(written))))
        for nth, written in enumerate(("3%", 0.03))
    )
    assert first == second
    assert float(first or 0) == 0.03
    with pytest.raises(ConfigError, match=r"80 is not a share: write 80% or 0\.8"):
        load_pipeline(write_pipeline(tmp_path / "wrong", **settings(80)))


def test_the_least_agreement_of_samples_is_a_share_too(tmp_path: Path) -> None:
    assert [AgreementOptions.model_validate({"min": written}).min for written in ("60%", 0.6)] == [0.6, 0.6]


@pytest.mark.parametrize(
    "wrong", ["", "%", "x", "3,5%", "-3%", "101%", "nan", "sNaN%", "1_0%", "1e-9999%", True, None, {}]
)
def test_what_is_no_share_is_answered_with_one(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"like 3%, or a number like 0\.03"):
        parse_share(wrong)


@given(st.integers(0, 100_000))
def test_a_percentage_is_exactly_a_hundredth(thousandths: int) -> None:
    percent = Decimal(thousandths) / 1000
    assert parse_share(f"{percent}%") == percent / 100
    assert float(parse_share(f"{percent}%")) == thousandths / 100_000


@pytest.mark.parametrize(
    ("kind", "not_zero", "not_one"),
    [(Share, False, False), (SomeShare, True, False), (InnerShare, True, True), (ExactShare, True, True)],
)
def test_the_schema_for_editors_takes_what_is_taken(kind: Any, not_zero: bool, not_one: bool) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = jsonschema_rs.validator_for(adapter.json_schema())
    for written, taken in [("3%", True), ("3 %", True), (0.03, True), (0, not not_zero), (1, not not_one), (80, False)]:
        assert schema.is_valid(written) is taken, written
        if taken:
            adapter.validate_python(written)
        else:
            with pytest.raises(ValidationError):
                adapter.validate_python(written)


def test_the_regret_may_be_asked_for_as_a_percentage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next thing that is wrong is told, with the share as it was understood."""
    certified = {"from": "logprob.mean", "certificate": "c.json"}
    path = write_pipeline(tmp_path / "p", step={"confidence": certified})
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": "t", "input": {"text": "x"}, "expected": {"label": "a"}}\n')
    words = ["calibrate", str(path), "--labels", str(labels), "--max-regret", "3%", "--store", "memory:"]
    assert run_command(words) == 2
    first = capsys.readouterr().err
    assert "1 label can't certify 3% regret at 90% confidence" in first
    assert run_command([*words[:-4], "--max-regret", "0.03", *words[-2:]]) == 2
    assert capsys.readouterr().err == first
