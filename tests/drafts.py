"""Drafts and tasks to measure and decide on."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.records import Answer, Draft, Task, TokenLogprobs, Usage

SURE = TokenLogprobs(
    n=30, mean=-0.1, total=-3.0, q0=-1.0, q10=-0.4, q25=-0.2, q50=-0.05, margin_mean=3.0, margin_min=0.2
)


def draft_of(
    value: Any, *, text: str | None = None, parsed: bool = True, sample: int = 0, finish_reason: str = "stop",
    logprobs: TokenLogprobs | None = SURE, span: TokenLogprobs | None = None, tokens: int = 30,
) -> Draft:
    """A draft of `value`: a text itself, anything else as JSON."""
    written = text if text is not None else value if isinstance(value, str) else json.dumps(value)
    answer = Answer(
        text=written, finish_reason=finish_reason, usage=Usage(output=tokens), model="tiny", logprobs=logprobs,
        value_logprobs=span,
    )
    return Draft(value=value, text=written, parsed=parsed, answer=answer, sample=sample)


def unread(text: str) -> Draft:
    """A draft whose text was no JSON."""
    return draft_of(None, text=text, parsed=False)


def task_of(text: str = "", **meta: Any) -> Task:
    return Task(input={"text": text}, meta=meta)
