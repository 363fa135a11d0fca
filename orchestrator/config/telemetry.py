"""`telemetry:` of a pipeline: whether spans and metrics are sent, and where to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from orchestrator.config.strict import Strict

SWITCH = "ORCHESTRATOR_TELEMETRY"
"""`on` in the environment sends telemetry of pipelines without `telemetry:`, to where the OTEL_* variables say."""
DEFAULT_ENDPOINT = "http://localhost:4318"


class TelemetryConfig(Strict):
    """`exporter: otlp` sends to `endpoint`, or to where OTEL_EXPORTER_OTLP_ENDPOINT says; `global` hands everything to
    the providers that the surrounding program has set up."""

    exporter: Literal["otlp", "global"] = "otlp"
    endpoint: str | None = None
    spans: bool = True
    metrics: bool = True


def wanted(config: TelemetryConfig | None, environment: Mapping[str, str] = os.environ) -> TelemetryConfig | None:
    """What is in force: the pipeline's own, else the environment's if it is switched on."""
    if config is not None:
        return config
    return TelemetryConfig() if environment.get(SWITCH, "").lower() in ("on", "1", "true") else None


def addresses(config: TelemetryConfig, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Where spans and metrics go. Empty for `global`: only the surrounding program knows."""
    if config.exporter == "global":
        return ()
    kinds = [kind for kind, on in (("TRACES", config.spans), ("METRICS", config.metrics)) if on]
    return tuple(dict.fromkeys(_address(config, kind, environment) for kind in kinds))


def _address(config: TelemetryConfig, kind: str, environment: Mapping[str, str]) -> str:
    """As the OTLP exporter has it: a signal's own variable is a whole address, the others get its path."""
    path = f"/v1/{kind.lower()}"
    if config.endpoint is not None:
        return config.endpoint.rstrip("/") + path
    own = environment.get(f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT")
    return own or (environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/") + path
