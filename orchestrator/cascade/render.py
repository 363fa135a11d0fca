"""A step's prompt, rendered: Jinja in a sandbox, a missing variable is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.errors import TaskError

_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False, trim_blocks=True, lstrip_blocks=True
)
_GLOBALS = dict(_ENVIRONMENT.globals)
_MARKS = ("{{", "{%", "{#")


class Renderer:
    """Turns a task into chat messages. Without a prompt the task brings its own `messages` in its input."""

    def __init__(self, prompt: str | None, system: str | None) -> None:
        self._prompt = _ENVIRONMENT.from_string(prompt) if prompt is not None else None
        self._system = _ENVIRONMENT.from_string(system) if system else None
        self._constant = None if system is None or any(mark in system for mark in _MARKS) else system.rstrip("\n")

    def messages(self, view: Mapping[str, Any]) -> list[dict[str, Any]]:
        """OpenAI-shaped messages. Raises TaskError where the task lacks what the prompt names."""
        if self._prompt is None:
            return self._own(view)
        names = {**view, "input": view["task"]["input"], "meta": view["task"]["meta"]}
        try:
            user = {"role": "user", "content": _rendered(self._prompt, names)}
            if self._system is None:
                return [user]
            system = self._constant if self._constant is not None else _rendered(self._system, names)
            return [{"role": "system", "content": system}, user]
        except TemplateError as error:
            raise TaskError(f"the prompt can't be rendered for this task: {error}") from error

    def _own(self, view: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = view["task"]["input"].get("messages")
        if not isinstance(found, list) or not all(isinstance(m, dict) and "role" in m for m in found) or not found:
            raise TaskError(
                f"task.input.messages is {type(found).__name__}: a step without `prompt:` needs a list of chat messages"
            )
        return [dict(m) for m in found]


def _rendered(template: Template, names: Mapping[str, Any]) -> str:
    """What `template.render` gives. That one goes through a ChainMap of the globals name by name, each time anew."""
    return "".join(template.root_render_func(template.new_context({**_GLOBALS, **names}, shared=True)))
