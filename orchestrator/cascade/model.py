"""A model as the way of a task knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying

from orchestrator.canonical import stable
from orchestrator.config.pipeline import ModelConfig
from orchestrator.errors import ContextOverflow
from orchestrator.models.limits import EndpointPool
from orchestrator.records import Json, Request

if TYPE_CHECKING:
    from orchestrator.models.client import ModelClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of the pipeline: its settings, the client that speaks to it, and its endpoints' limits."""

    alias: str
    config: ModelConfig
    client: ModelClient
    pool: EndpointPool
    retrying: AsyncRetrying
    identity: bytes
    """Stable JSON of what, besides the request, can change an answer (`keys.model_identity`)."""

    def request(
        self, messages: Sequence[Mapping[str, Json]], schema: Mapping[str, Json] | None, sample: int = 0, *,
        logprobs: bool = False,
    ) -> Request:
        """As the model's settings ask: sample 0 at its own temperature, later ones warmer and with their own seeds."""
        config = self.config
        return Request(
            messages=messages, schema=schema if config.structured else None, max_tokens=config.max_tokens,
            temperature=config.temperature if sample == 0 else max(config.temperature, config.redraft_temperature),
            seed=config.seed + sample, sample=sample, logprobs=logprobs, thinking=config.thinking,
        )

    def check_size(self, request: Request) -> None:
        """Raises ContextOverflow, before anything is sent, for messages longer than `max_input_bytes`."""
        limit = self.config.max_input_bytes
        if limit is not None and (size := len(stable(request.messages))) > limit:
            raise ContextOverflow(
                f"the messages to {self.alias!r} have {size:,} bytes, and its `max_input_bytes` is {limit:,}",
                hint="shorten the input, or raise `max_input_bytes:`", sent=False,
            )
