"""Chat templates as published models write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError

from orchestrator.errors import ConfigError
from orchestrator.models import chat_template

QWEN = (
    "{%- for message in messages %}\n"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "    {{- '<|im_start|>assistant\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think>\\n\\n</think>\\n\\n' }}\n"
    "    {%- endif %}\n"
    "{%- endif %}"
)
HI = [{"role": "user", "content": "hi"}]


def folder(path: Path, template: str | None = None, **settings: Any) -> Path:
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize(
    ("thinking", "end"),
    [(None, "assistant\n"), (True, "assistant\n"), (False, "assistant\n<think>\n\n</think>\n\n")],
)
def test_thinking_off_is_the_templates_own_switch(tmp_path: Path, thinking: bool | None, end: str) -> None:
    render = chat_template.load(folder(tmp_path, QWEN))
    assert render(HI, thinking) == f"<|im_start|>user\nhi<|im_end|>\n<|im_start|>{end}"


def test_the_template_may_stand_in_the_tokenizer_settings_by_name(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ messages[0].content }}"}]
    assert chat_template.load(folder(tmp_path, chat_template=named))(HI, None) == "hi"


def test_special_tokens_are_given_as_text_or_as_an_object(tmp_path: Path) -> None:
    made = folder(tmp_path, "{{ bos_token }}{{ eos_token }}", bos_token="<s>", eos_token={"content": "</s>"})
    assert chat_template.load(made)(HI, None) == "<s></s>"


def test_json_is_written_plainly_and_not_for_html(tmp_path: Path) -> None:
    render = chat_template.load(folder(tmp_path, "{{ messages[0] | tojson }}"))
    assert render([{"content": "<é&'>"}], None) == '{"content": "<é&\'>"}'


def test_a_template_can_refuse_messages(tmp_path: Path) -> None:
    render = chat_template.load(folder(tmp_path, "{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(TemplateError, match="roles must alternate"):
        render(HI, None)


def test_a_template_runs_in_a_sandbox(tmp_path: Path) -> None:
    render = chat_template.load(folder(tmp_path, "{{ messages.__class__.__mro__ }}{{ messages.append(1) }}"))
    with pytest.raises(SecurityError):
        render(HI, None)


@pytest.mark.parametrize(("template", "said"), [(None, "no chat template"), ("{% if %}", "does not compile")])
def test_a_folder_without_a_template_that_compiles_is_a_config_error(
    tmp_path: Path, template: str | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        chat_template.load(folder(tmp_path, template))
