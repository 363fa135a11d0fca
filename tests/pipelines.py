"""Small pipelines for the tests of the way of a task, written to a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from ruamel.yaml import YAML

from orchestrator.records import Request

OUTPUT = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["a", "b", "c"]}},
    "required": ["label"],
    "additionalProperties": False,
}
POLICY: dict[str, Any] = {
    "policy": "plain",
    "before": [
        {"name": "stays_home", "when": 'has(task.meta.residency) && task.meta.residency == "local"',
         "forbid": ["remote"]},
    ],
    "after": [
        {"name": "broken", "when": "!signals.schema.ok && attempt < 2", "then": "redraft"},
        {"name": "not_sure", "when": "confidence < threshold", "then": "escalate"},
    ],
    "otherwise": "accept",
}
PRICES: dict[str, Any] = {
    "book": "test-1",
    "prices": [
        {"model": "drafter", "per_million": {"input": "0.10", "output": "0.40"}},
        {"model": "validator", "per_million": {"input": "3", "output": "15"}},
    ],
}


def write_pipeline(
    folder: Path, *, drafter: dict[str, Any] | None = None, validator: dict[str, Any] | None = None,
    policy: dict[str, Any] | None = None, step: dict[str, Any] | None = None, **settings: Any,
) -> Path:
    """A one-step pipeline that labels `task.input.text` with a, b or c; any part may be replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "output.json").write_bytes(orjson.dumps(OUTPUT))
    (folder / "prompt.md").write_text("---\nsystem: Label the text with a, b or c.\n---\n{{ task.input.text }}\n")
    dump(folder / "policy.yaml", policy or POLICY)
    dump(folder / "prices.yaml", PRICES)
    local = {"location": "local", "max_tokens": 32, "retries": 1}
    document: dict[str, Any] = {
        "pipeline": "labels",
        "models": {
            "drafter": {"use": "openai:drafter", "endpoints": ["http://127.0.0.1:9/v1"], **local, **(drafter or {})},
            "validator": {
                "use": "openai:validator", "endpoints": ["http://127.0.0.1:9/v1"], **local, **(validator or {}),
            },
        },
        "steps": [{
            "id": "label", "prompt": "prompt.md", "output": "output.json", "draft": {"model": "drafter"},
            "signals": ["schema", "logprob", "finish"],
            "confidence": {"from": "logprob.mean", "threshold": -0.5}, "policy": "policy.yaml",
            "validate": {"model": "validator", "mode": "redo"}, **(step or {}),
        }],
        "prices": "prices.yaml",
        **settings,
    }
    dump(folder / "pipeline.yaml", document)
    return folder / "pipeline.yaml"


def dump(path: Path, document: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)


def write_tasks(path: Path, count: int, text: Callable[[int], str] = lambda i: f"text {i}") -> Path:
    """`count` tasks, t0 onwards."""
    lines: Sequence[bytes] = [orjson.dumps({"id": f"t{i}", "input": {"text": text(i)}}) for i in range(count)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def user_text(request: Request) -> str:
    """What the last message of a request says."""
    return str(request.messages[-1]["content"])
