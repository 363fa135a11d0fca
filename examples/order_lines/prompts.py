"""Messages exactly as the pipeline renders them: its own prompt file, the package's own validator messages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from orchestrator.cascade.prompts import (  # noqa: E402  (the repository root has to be on the path first)
    JUDGE_INSTRUCTIONS,
    REPAIR_INSTRUCTIONS,
    validator_messages,
)

PROMPT = ROOT / "pipelines" / "order_lines" / "prompt.md"
INSTRUCTIONS = {"judge": JUDGE_INSTRUCTIONS, "repair": REPAIR_INSTRUCTIONS}

_, _front, _body = PROMPT.read_text(encoding="utf-8").split("---\n", 2)
SYSTEM: str = yaml.safe_load(_front)["system"]
_template = jinja2.Template(_body)

Messages = list[dict[str, Any]]


def draft_messages(text: str) -> Messages:
    """What the drafter is sent, and the validator in `redo`."""
    user = _template.render(task={"input": {"text": text}})
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": user}]


def check_messages(text: str, draft: Any, mode: str, secret: bytes) -> Messages:
    """What the validator is sent in `judge` and `repair`."""
    return validator_messages(draft_messages(text), draft, INSTRUCTIONS[mode], secret)
