"""The canonical form of a request, of which its key is made, and the most it can cost."""

from __future__ import annotations

from orchestrator.canonical import stable
from orchestrator.records import Request, Usage

TOKENS_OVERHEAD = 64
"""Tokens a chat template may add around the messages, beyond one token a byte of the rendered request."""


def request_key(kind: str, model: str, revision: str | None, request: Request) -> bytes:
    """Stable JSON of all that can change the answer, and nothing that can't (endpoint, time-out, retries)."""
    return stable({
        "kind": kind,
        "model": model,
        "revision": revision,
        "messages": list(request.messages),
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "sample": request.sample,
        "logprobs": request.logprobs,
        "thinking": request.thinking,
        "stop": list(request.stop),
        "extra": dict(request.extra),
    })


def upper_bound(request: Request) -> Usage:
    """No more than one input token a byte of the request (text is never longer in tokens than in UTF-8 bytes),
    and `max_tokens` of output, thinking included. A remote tokenizer is not known, so bytes must do."""
    text = sum(len(str(m.get("content", "")).encode()) + 8 for m in request.messages)
    schema = len(stable(request.schema)) if request.schema else 0
    return Usage(input=text + schema + TOKENS_OVERHEAD, output=request.max_tokens)
