"""A prompt file: Jinja text of the user's message, and front matter with the system text.

Only parsed here, to find what it names before anything is spent; `cascade/render.py` renders it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from orchestrator.config.checked import nearest, validated
from orchestrator.config.document import read_text
from orchestrator.config.yaml12 import parse_yaml
from orchestrator.errors import ConfigError

VARIABLES = ("input", "meta", "steps", "task")
"""What a prompt may name. `input` and `meta` are short for `task.input` and `task.meta`."""

_FENCE = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_ENVIRONMENT = SandboxedEnvironment(autoescape=False)


class FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    system: str | None = None


@dataclass(frozen=True, slots=True)
class PromptFile:
    """`text` is the Jinja source of the user's message, `system` that of the system message.

    `reads` are the dotted names both mention, each a tuple of keys: `("task", "input", "text")`.
    """

    text: str
    system: str | None
    reads: frozenset[tuple[str, ...]]


def read_prompt(path: Path) -> PromptFile:
    """Raises ConfigError on a syntax error, an unknown variable, an include, or front matter with unknown keys."""
    source = read_text(path)
    found = _FENCE.match(source)
    if found is None and source.startswith(("---\n", "---\r\n")):
        raise ConfigError("front matter starts and does not end: close it with a line of ---", file=str(path), line=1)
    system = validated(FrontMatter, parse_yaml(found[1], path, first_line=2)).system if found else None
    text = source[found.end() :] if found else source
    line = source[: found.end()].count("\n") if found else 0
    reads = _reads(text, path, line) | (_reads(system, path, 1) if system else frozenset())
    return PromptFile(text, system, reads)


def _reads(source: str, path: Path, lines_before: int) -> frozenset[tuple[str, ...]]:
    try:
        tree = _ENVIRONMENT.parse(source)
        unknown = meta.find_undeclared_variables(tree) - {*VARIABLES, *_ENVIRONMENT.globals}
    except TemplateSyntaxError as error:
        message = f"the template is wrong: {error.message}"
        raise ConfigError(message, file=str(path), line=error.lineno + lines_before) from None
    for part in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        message = "a prompt is one file: include, import and extends are not available"
        raise ConfigError(message, file=str(path), line=part.lineno + lines_before)
    for name in sorted(unknown):
        line = next(n.lineno for n in tree.find_all(nodes.Name) if n.name == name) + lines_before
        raise ConfigError(
            f"the prompt names {name!r}{nearest(name, VARIABLES)}", file=str(path), line=line, key=name,
            hint=f"a prompt sees {', '.join(VARIABLES)}",
        )
    return frozenset(_dotted(tree.find_all((nodes.Name, nodes.Getattr, nodes.Getitem))))


def _dotted(found: Iterable[nodes.Node]) -> Iterable[tuple[str, ...]]:
    for node in found:
        keys: list[str] = []
        at: nodes.Node = node
        while isinstance(at, nodes.Getattr | nodes.Getitem):
            key = at.attr if isinstance(at, nodes.Getattr) else getattr(at.arg, "value", None)
            keys.append(key if isinstance(key, str) else "*")
            at = at.node
        if isinstance(at, nodes.Name) and at.name in VARIABLES:
            yield (at.name, *reversed(keys))
