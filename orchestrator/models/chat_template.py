"""A model's own chat template, from its folder, rendered as its authors render it.

Sandboxed Jinja with the few functions that published templates call (the contract of transformers'
`apply_chat_template`); the runtime's built-in renderer can't pass `enable_thinking`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orchestrator.errors import ConfigError

Render = Callable[[Sequence[Mapping[str, Any]], bool | None], str]
"""(messages, thinking or None where the template shall decide) -> the prompt, ready for the answer."""


def load(folder: Path) -> Render:
    """The template of `chat_template.jinja`, or of `tokenizer_config.json`. Raises ConfigError where there is none."""
    settings = _tokenizer_config(folder)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise, strftime_now=lambda form: datetime.now().strftime(form))
    try:
        template = environment.from_string(_source(folder, settings))
    except TemplateError as error:
        raise ConfigError(f"the chat template of {str(folder)!r} does not compile: {error}") from error
    tokens = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}

    def render(messages: Sequence[Mapping[str, Any]], thinking: bool | None) -> str:
        switch = {} if thinking is None else {"enable_thinking": thinking}
        return template.render(messages=list(messages), add_generation_prompt=True, **tokens, **switch)

    return render


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _source(folder: Path, settings: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    if not isinstance(found, str):
        raise ConfigError(
            f"{str(folder)!r} has no chat template: `messages` can't be turned into a prompt",
            hint="add chat_template.jinja from the model's own repository",
        )
    return found


def _token(value: Any) -> str:
    return str(value["content"]) if isinstance(value, dict) else str(value or "")


def _tojson(value: Any, indent: int | None = None) -> str:
    """Plain JSON: Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
