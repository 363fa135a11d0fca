"""What the live tests share: the running server, its configuration, and the pipeline's own requests."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.pipeline import ModelConfig, Serve
from orchestrator.config.prompt import read_prompt
from orchestrator.records import Request

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "order_lines"
PIPELINE = ROOT / "pipelines" / "order_lines"
NAME = "models/drafter"


@dataclass(frozen=True)
class Live:
    """The running server: its address, what it was started from, and where it is remembered."""

    config: ModelConfig
    state_dir: Path

    @property
    def url(self) -> str:
        return self.config.endpoints[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def served(url: str, **changes: Any) -> ModelConfig:
    """The drafter as vLLM serves it: `use:` names its folder from examples/order_lines."""
    serve = Serve(max_model_len=1024, dtype="bfloat16")
    settings = {"use": f"vllm:{NAME}", "location": "local", "endpoints": (url,), "thinking": "off", "serve": serve}
    return ModelConfig(**{**settings, **changes})


def draft_request(line: Mapping[str, Any], **changes: Any) -> Request:
    """What the pipeline asks the drafter for an order line."""
    system = read_prompt(PIPELINE / "prompt.md").system
    messages = [{"role": "system", "content": system}, {"role": "user", "content": line["input"]["text"]}]
    return Request(**{"messages": messages, "max_tokens": 160, "logprobs": True, "thinking": "off", **changes})


def vllm_pipeline(folder: Path, url: str) -> Path:
    """A copy of the order_lines pipeline whose drafter is served: the one-line change, with its endpoint."""
    shutil.copytree(PIPELINE, folder, dirs_exist_ok=True)
    path = folder / "pipeline.yaml"
    text = path.read_text()
    embedded = "use: embedded:../../examples/order_lines/models/drafter"
    assert embedded in text
    text = text.replace(embedded, f"use: vllm:{NAME}\n    endpoints: [{url}]")
    text = re.sub(r"certificate: \S+\}", "threshold: -0.3}", text)  # certified for the embedded drafter, not this one
    path.write_text(text.replace("../../", f"{ROOT}/"))
    return path
