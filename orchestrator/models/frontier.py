"""A frontier model, by LiteLLM: one request each time, its retries, fallbacks, callbacks, cache and price look-ups off.

LiteLLM is imported with the first call, and silenced for the whole process then: callbacks that were registered
before are removed, because prompts would leave through them. Its connections are its own, so a model declared
`location: local` is not served through it (catalog.py refuses). It passes off a stream cut short as complete, and its
own count of tokens as the provider's: so answers are not streamed through it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ConfigError
from orchestrator.models import chat, faults
from orchestrator.models.client import Probe
from orchestrator.records import Answer, Location, Request

_NO_FETCH = ("MODEL_COST_MAP", "ANTHROPIC_BETA_HEADERS", "AUTOROUTER_PRESETS", "POLICY_TEMPLATES", "BLOG_POSTS")
_CALLBACKS = (
    "callbacks", "input_callback", "success_callback", "failure_callback", "service_callback",
    "_async_input_callback", "_async_success_callback", "_async_failure_callback",
)
_OURS = frozenset({
    "fallbacks", "context_window_fallback_dict", "num_retries", "max_retries", "retry_policy", "retry_strategy",
    "model_list", "stream", "n", "caching", "cache", "messages", "model", "timeout", "callbacks",
})
_SECRET = ("key", "token", "secret", "password", "credential")


class FrontierModel:
    """ModelClient over `litellm.acompletion`. `target` is LiteLLM's name of the model, `provider/name`.

    `litellm_params` are passed through, save those that would make one call into several (ConfigError).
    """

    def __init__(self, target: str, *, config: ModelConfig) -> None:
        taken = sorted(_OURS & config.litellm_params.keys())
        if taken:
            raise ConfigError(
                f"`litellm_params` may not hold {taken[0]!r}: every attempt is a call of its own in the ledger, so "
                "retries, fallbacks and streams are set on the model itself", key=f"litellm_params.{taken[0]}",
            )
        if config.stream:
            raise ConfigError("`stream: true` is for vllm: and openai: models: leave it out", key="stream")
        self.name = target
        self.revision: str | None = config.revision
        self.location: Location = config.location
        self._config = config
        self._provider = target.partition("/")[0]
        base = config.litellm_params.get("api_base") or config.litellm_params.get("base_url")
        self._bases = config.endpoints or ((str(base),) if base else ())
        self.addresses = self._bases or (f"{self._provider} (its own address, by LiteLLM)",)
        secret = {**config.litellm_params, "api_key": config.api_key or config.litellm_params.get("api_key")}
        self._secrets = [str(v) for k, v in secret.items() if v and any(s in k.lower() for s in _SECRET)]

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.addresses

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        """One request, one answer; see ModelClient. Raises the same ModelErrors as ServedModel.complete."""
        started = time.perf_counter()
        arguments = self.arguments(request, call_id=call_id, endpoint=endpoint, timeout_s=timeout_s)
        size = len(chat.encoded([arguments["messages"], arguments.get("response_format")], self.name))
        reply, headers = await self._send(arguments, endpoint, timeout_s)
        if isinstance(found := headers.get("llm_provider-request-id"), str):
            reply["id"] = found  # Anthropic's: LiteLLM puts an id of its own in the reply
        return chat.read(
            reply, request_bytes=size, endpoint=endpoint, asked=self.name,
            latency_ms=(time.perf_counter() - started) * 1000,
        )

    def arguments(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> dict[str, Any]:
        """What `litellm.acompletion` is called with.

        `drop_params` lets LiteLLM leave out what a provider lacks (seed, log-probabilities, temperature, effort);
        a signal that misses its measurement then is not ok, and the draft escalates.
        """
        found = chat.body(request, model=self.name, structured=self._config.structured)
        level = request.thinking or self._config.thinking
        if level is not None:
            found["reasoning_effort"] = "none" if level == "off" else level
        found |= {"drop_params": True, "api_key": self._config.api_key}
        found = chat.merge(chat.merge(found, self._config.litellm_params), self._config.extra_body)
        found = chat.merge(found, request.extra)
        found["extra_headers"] = {**found.get("extra_headers", {}), "X-Client-Request-Id": call_id}
        if self._bases:
            found["api_base"] = endpoint
        return {
            **found, "timeout": timeout_s, "num_retries": 0, "max_retries": 0, "caching": False, "no-log": True,
        }

    async def _send(
        self, arguments: dict[str, Any], endpoint: str, timeout_s: float
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        litellm = await asyncio.to_thread(load)  # seconds the first time: the loop goes on meanwhile
        outer = sys.exception()
        try:
            async with asyncio.timeout(timeout_s):
                response = await litellm.acompletion(**arguments)
            hidden = getattr(response, "_hidden_params", None) or {}
            return _with_traffic_type(response.model_dump(), hidden), hidden.get("additional_headers") or {}
        except Exception as error:  # LiteLLM's errors share no base: faults tells them apart
            raise faults.from_sdk(error, endpoint, secrets=self._secrets, outer=outer) from error

    async def probe(self) -> tuple[Probe, ...]:
        """Nothing is asked: providers have no common way to answer without spending."""
        detail = "not asked: a frontier model can't be probed without spending"
        protocol = f"litellm:{self._provider}"
        return tuple(Probe(endpoint=one, ok=True, protocol=protocol, detail=detail) for one in self.endpoints)

    async def aclose(self) -> None:
        """LiteLLM keeps one pool of connections for the whole process and closes it at exit."""


def _with_traffic_type(reply: dict[str, Any], hidden: Mapping[str, Any]) -> dict[str, Any]:
    """Gemini's tier: LiteLLM takes it out of the usage, where Google tells it."""
    told = (hidden.get("provider_specific_fields") or {}).get("traffic_type")
    return reply if told is None else {**reply, "usage": {**(reply.get("usage") or {}), "trafficType": told}}


@cache
def load() -> Any:
    """LiteLLM, imported once and kept quiet: bundled tables instead of fetched ones, no telemetry, no callbacks."""
    for name in _NO_FETCH:
        os.environ[f"LITELLM_LOCAL_{name}"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydantic's, of LiteLLM's own types: nothing a user can change
        import litellm

        litellm.ModelResponse()  # builds those types, which would otherwise warn with the first answer
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in _CALLBACKS:
        if isinstance(getattr(litellm, name, None), list):
            setattr(litellm, name, [])
    return litellm
