"""The canonical form of a request, of which its key is made, and the most it can cost."""

from __future__ import annotations

from orchestrator.canonical import stable
from orchestrator.config.pipeline import ModelConfig
from orchestrator.config.secrets import written
from orchestrator.records import Request, Usage

TOKENS_OVERHEAD = 64
"""Tokens a chat template may add around the messages, beyond one token a byte of the rendered request."""


_ADDRESSING = frozenset({"api_key", "api_base", "base_url", "timeout", "organization"})


def model_identity(name: str, revision: str | None, config: ModelConfig) -> bytes:
    """What of a model can change its answers: not its endpoints, time-outs, limits or keys."""
    passed = {k: v for k, v in written(config.litellm_params).items() if k not in _ADDRESSING}
    return stable({
        "kind": config.kind, "model": name, "revision": revision, "extra_body": written(config.extra_body),
        "litellm_params": passed, "structured": config.structured,
    })


def request_key(identity: bytes, request: Request) -> bytes:
    """Stable JSON of all that can change the answer, and nothing that can't."""
    return identity + stable({
        "messages": request.messages,
        "schema": request.schema,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "sample": request.sample,
        "logprobs": request.logprobs,
        "thinking": request.thinking,
        "stop": request.stop,
        "extra": request.extra,
    })


def upper_bound(request: Request) -> Usage:
    """No more than one input token a byte of the request (text is never longer in tokens than in UTF-8 bytes),
    and `max_tokens` of output, thinking included. A remote tokenizer is not known, so bytes must do."""
    text = sum(len(str(m.get("content", "")).encode()) + 8 for m in request.messages)
    schema = len(stable(request.schema)) if request.schema else 0
    return Usage(input=text + schema + TOKENS_OVERHEAD, output=request.max_tokens)
