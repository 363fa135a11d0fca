"""The canonical form of a request, of which its key is made, and the most it can cost."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.canonical import stable
from orchestrator.config.pipeline import ModelConfig
from orchestrator.config.secrets import written
from orchestrator.models.usage import service_tier
from orchestrator.records import Json, Request, ServiceTier, Usage

TOKENS_OVERHEAD = 64
"""Tokens a chat template may add around the messages, beyond one token a byte of the rendered request."""
FORMAT_OVERHEAD = 640
"""The same where a schema or tools are asked for: providers add instructions of their own for those (Anthropic's
tool instructions are 530 tokens at most), which stand in no request."""
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
_TEXT = frozenset({"text", "refusal"})


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


def upper_bound(request: Request, config: ModelConfig) -> Usage | None:
    """The most tokens a call can be billed for: one of input a byte of the rendered request (text is never longer in
    tokens than in UTF-8 bytes), and the limit on output, thinking included, for each answer asked for. A remote
    tokenizer is not known, so bytes must do.

    None where there is no bound: an image, a recording or a file (by address or not, its tokens are not its bytes),
    or a limit on output that was taken out.
    """
    if any(_is_unbounded(message.get("content")) for message in request.messages):
        return None
    asked = {**config.litellm_params, **config.extra_body, **request.extra}
    limits = [asked.get(key, request.max_tokens) for key in _OUTPUT_LIMITS]
    answers = asked.get("n", 1)
    if not all(isinstance(limit, int) for limit in [*limits, answers]):
        return None
    sent = [request.messages, request.schema, config.litellm_params, config.extra_body, request.extra]
    overhead = FORMAT_OVERHEAD if request.schema or "tools" in asked else TOKENS_OVERHEAD
    return Usage(input=len(stable(sent)) + overhead, output=max(limits) * max(1, answers))


def asked_tier(request: Request, config: ModelConfig) -> ServiceTier | None:
    """The service tier that the request asks for, where that is another than the standard one."""
    return service_tier({**config.litellm_params, **config.extra_body, **request.extra})


def _is_unbounded(content: Json) -> bool:
    """Anything but text."""
    if content is None or isinstance(content, str):
        return False
    return not isinstance(content, list) or any(
        not isinstance(part, Mapping) or part.get("type") not in _TEXT for part in content
    )
