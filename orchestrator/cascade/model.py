"""A model as the way of a task knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying

from orchestrator.config.pipeline import ModelConfig
from orchestrator.models.limits import EndpointPool

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
