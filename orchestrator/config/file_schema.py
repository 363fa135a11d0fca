"""The JSON Schema of each kind of file that a person writes."""

from __future__ import annotations

from typing import Any

from orchestrator.config.pipeline import PipelineConfig, Strict
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook

FILES: dict[str, type[Strict]] = {"pipeline": PipelineConfig, "policy": PolicyConfig, "prices": PriceBook}


def file_schema(kind: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of `pipeline`, `policy` or `prices` files."""
    schema = FILES[kind].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
