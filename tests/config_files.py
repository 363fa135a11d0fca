"""A small pipeline in a folder, for tests that bend one line of it."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.config.pipeline import ModelConfig
from orchestrator.testing import ScriptedModel

PIPELINE = """\
pipeline: small
task: task.json
models:
  drafter:
    use: vllm:tiny
    location: local
  validator:
    use: litellm:openai/gpt-x
    litellm_params: {api_key: "${TEST_KEY}"}
    location: remote
steps:
  - id: extract
    prompt: prompt.md
    output: output.json
    draft: {model: drafter}
    signals: [schema, logprob]
    confidence: {from: logprob.mean, threshold: -0.05}
    policy: policy.yaml
    validate: {model: validator}
prices: prices.yaml
"""
POLICY = """\
policy: plain
before:
  - {name: stays_home, when: 'has(task.meta.residency) && task.meta.residency == "local"', forbid: [remote]}
after:
  - {name: broken, when: '!signals.schema.ok && attempt < 2', then: redraft}
  - {name: not_sure, when: 'confidence < threshold', then: escalate}
otherwise: accept
"""
PRICES = """\
book: test
prices:
  - {model: openai/gpt-x, per_million: {input: 1.25, output: 10}}  # a comment
"""
TASK = """\
{"type": "object", "required": ["input"], "properties": {
  "input": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
  "meta": {"type": "object", "properties": {"residency": {"type": "string"}}}}}
"""
OUTPUT = '{"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}'
PROMPT = "---\nsystem: Answer in JSON.\n---\n{{ task.input.text }}\n"
ENV = {"TEST_KEY": "sk-very-secret"}


def write_pipeline(folder: Path, *, bend: tuple[str, str] | None = None, add: str = "") -> Path:
    """Write the pipeline, with `bend[0]` replaced by `bend[1]` and `add` at its end."""
    text = PIPELINE
    if bend is not None:
        assert bend[0] in text, bend
        text = text.replace(*bend)
    files = {
        "pipeline.yaml": text + add, "policy.yaml": POLICY, "prices.yaml": PRICES, "task.json": TASK,
        "output.json": OUTPUT, "prompt.md": PROMPT,
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder / "pipeline.yaml"


def line_of(path: Path, text: str) -> int:
    """The number of the first line of `path` that holds `text`."""
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def scripted_drafter(config: ModelConfig) -> ScriptedModel:
    """For `use: python:tests.config_files:scripted_drafter`: right on all but texts that say so."""
    return ScriptedModel(lambda request: {"total": 2.0 if "wrong" in str(request.messages) else 1.0}, name="drafter")


def write_scripted(folder: Path, *, confidence: str = "{from: logprob.mean, threshold: -0.05}") -> Path:
    """The same pipeline with a drafter in this process and no validator."""
    path = write_pipeline(folder, bend=("vllm:tiny", "python:tests.config_files:scripted_drafter"))
    text = path.read_text().replace("{from: logprob.mean, threshold: -0.05}", confidence)
    text = text.replace("    validate: {model: validator}\n", "")
    text = text[: text.index("  validator:")] + text[text.index("steps:") :]
    path.write_text(text + "allow_imports: [tests.config_files]\ntags: [desk]\n")
    (folder / "prices.yaml").write_text("book: t\nprices:\n  - {model: drafter, per_million: {input: 1, output: 2}}\n")
    return path


def write_tasks(path: Path, count: int) -> Path:
    tasks = [{"id": f"t{i}", "input": {"text": f"line {i}"}, "expected": {"total": 1}} for i in range(count)]
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return path
