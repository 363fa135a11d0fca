"""What the README and the docs show is run: Python and YAML blocks, command lines, links."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli import cli
from orchestrator.config.checked import validated
from orchestrator.config.document import Document
from orchestrator.config.loader import load_pipeline
from orchestrator.config.pipeline import ModelConfig, PipelineConfig, StepConfig
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook
from orchestrator.config.yaml12 import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOST_NOT_RUN = 3

_FENCE = re.compile(
    r"(?P<mark><!-- not run: (?P<why>[^\n]+?) -->\n\s*)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`(orchestrator [^`]+)`")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text[: found.start("text")].count("\n") + 1
        yield Block(page, line, found["kind"], found["text"], found["why"])


BLOCKS = [block for page in PAGES for block in blocks(page)]


def of_kind(*kinds: str) -> list[Any]:
    chosen = [block for block in BLOCKS if block.kind in kinds and block.not_run is None]
    return [pytest.param(block, id=block.place) for block in chosen]


def test_few_blocks_are_left_unrun() -> None:
    unrun = [block.place for block in BLOCKS if block.not_run is not None]
    assert len(unrun) <= MOST_NOT_RUN, unrun


# -- Python ------------------------------------------------------------------------------------------------------------


def with_python() -> list[Any]:
    pages = dict.fromkeys(block.page for block in BLOCKS if block.kind == "python" and block.not_run is None)
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.mark.parametrize("page", with_python())
def test_python_blocks_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    for name in ("pipelines", "policies", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = tmp_path / "page.py"
    script.write_text(_as_script(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(script)], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}, timeout=900,
    )
    assert done.returncode == 0, f"{page}\n{done.stderr}"


def _as_script(page: Path) -> str:
    """The page's Python blocks at their own line numbers, so that a traceback names the line of the page."""
    script = ""
    for block in blocks(page):
        if block.kind == "python" and block.not_run is None:
            script += "\n" * (block.line - 1 - script.count("\n")) + block.text
    return script


# -- YAML --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_a_yaml_block_is_what_its_file_may_hold(block: Block, tmp_path: Path) -> None:
    document = parse_yaml(block.text, block.page, first_line=block.line)
    keys = set(document.data) if isinstance(document.data, dict) else set()
    if not keys:
        pytest.fail(f"{block.place}: not a map of keys, so it can't be told what it is part of")
    for model, whole in ((PipelineConfig, "pipeline"), (PolicyConfig, "policy"), (PriceBook, "book")):
        if whole in keys:
            validated(model, document)
            return
    if keys <= _keys(PipelineConfig):
        load_pipeline(_overlaid(document.data, tmp_path), env={"ANTHROPIC_API_KEY": "not-a-key"})
    elif keys <= _keys(PolicyConfig):
        validated(PolicyConfig, Document(block.page, {"policy": "shown", **document.data}, document.lines))
    elif keys <= _keys(StepConfig):
        validated(PipelineConfig, _within(block, step=document.data))
    elif keys <= _keys(ModelConfig):
        validated(PipelineConfig, _within(block, model=document.data))
    else:
        pytest.fail(f"{block.place}: {sorted(keys)} are keys of no file")


def _keys(model: type[Any]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _order_lines() -> dict[str, Any]:
    data: dict[str, Any] = read_yaml(ROOT / "pipelines/order_lines/pipeline.yaml").data
    return json.loads(json.dumps(data))  # type: ignore[no-any-return]  # a copy that may be changed


def _overlaid(data: dict[str, Any], folder: Path) -> Path:
    """The order_lines pipeline with the block's keys in place of its own, and `residency: local` only where it fits."""
    for name in ("pipelines", "policies"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "examples").symlink_to(ROOT / "examples")
    whole = _order_lines()
    models = {**whole["models"], **data.get("models", {})}
    whole = {**whole, **data, "models": models}
    if "residency" not in data and any(model["location"] == "remote" for model in models.values()):
        del whole["residency"]
    path = folder / "pipelines/order_lines/pipeline.yaml"
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


def _within(block: Block, *, step: dict[str, Any] | None = None, model: dict[str, Any] | None = None) -> Document:
    whole = _order_lines()
    whole["steps"][0].update(step or {})
    whole["models"]["drafter"].update(model or {})
    return parse_yaml(json.dumps(whole), block.page)


# -- command lines -----------------------------------------------------------------------------------------------------


def command_lines() -> Iterator[tuple[str, str]]:
    for block in BLOCKS:
        for line in block.text.replace("\\\n", " ").splitlines():
            if re.match(r"(\$ )?(orchestrator|make) ", line):
                yield block.place, line.removeprefix("$ ")
    for page in PAGES:
        for found in _INLINE.finditer(_FENCE.sub("", page.read_text(encoding="utf-8"))):
            yield str(page.relative_to(ROOT)), found[1]


LINES = list(dict.fromkeys(command_lines()))


@pytest.mark.parametrize(("place", "line"), LINES, ids=[f"{place}: {line[:60]}" for place, line in LINES])
def test_a_command_line_is_one_the_program_takes(place: str, line: str) -> None:
    program, *arguments = [word for word in shlex.split(line, comments=True) if word not in ("[…]", "…", "...")]
    for end in ("|", ">", "&&", "&"):
        arguments = arguments[: arguments.index(end)] if end in arguments else arguments
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments) <= set(targets), place
        return
    command: click.Command = cli
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        assert name in command.commands, f"{place}: {line!r}: there is no command {name!r}"
        command = command.commands[name]
    context = click.Context(command)
    try:
        _, left, _ = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError as error:
        pytest.fail(f"{place}: {line!r}: {error.format_message()}")
    assert not left, f"{place}: {line!r}: {left} are too many arguments"


def test_the_readme_names_every_command() -> None:
    told = {line.split()[1] for place, line in LINES if place.startswith("README") and line.startswith("orchestrator ")}
    assert set(cli.commands) <= told


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    missing = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_tests_and_files_named_on_a_page_exist(page: Path) -> None:
    named = re.findall(r"`((?:orchestrator|tests|pipelines|policies|examples)/[\w./-]+\.\w+)(?:::(\w+))?`",
                       _FENCE.sub("", page.read_text(encoding="utf-8")))
    for file, test in named:
        path = ROOT / file
        assert path.exists(), f"{page.name}: {file}"
        found = not test or re.search(rf"^(async )?def {test}\(", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert found, f"{page.name}: {file} has no {test}"
