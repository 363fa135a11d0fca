"""Spans and metrics of runs and calls, by OpenTelemetry's names for generative AI. Off unless configured.

run (the workflow) -> step -> call. **No content leaves**: no prompt, answer, value or error text; tags only where the
pipeline lists them. Money is exact: a decimal string on spans, integer billionths in metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator.config.telemetry import TelemetryConfig, addresses
from orchestrator.errors import ConfigError
from orchestrator.records import AFTERWARDS, Outcome, Request, Usage
from orchestrator.store.entries import CallIntent, CallSettlement

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

SCOPE = "draftgate"
OPERATION = "chat"


@dataclass(slots=True)
class Spans:
    """The open spans of one run: of itself, and of its steps so far."""

    run: Span
    steps: dict[str, Span] = field(default_factory=dict)


class Telemetry:
    """Of one pipeline. `tags` are the keys of `meta` that may be shown."""

    def __init__(
        self, tracers: TracerProvider | None, meters: MeterProvider | None, *, pipeline: str, version: str,
        tags: tuple[str, ...] = (), owned: bool = True,
    ) -> None:
        """`owned`: the providers are this pipeline's own and end with it."""
        self._tracers, self._meters, self._owned = tracers, meters, owned
        self._tracer = tracers.get_tracer(SCOPE) if tracers is not None else None
        self._names = {"gen_ai.workflow.name": pipeline, "draftgate.pipeline.version": version}
        self._tags = tags
        if meters is not None:
            meter = meters.get_meter(SCOPE)
            self._tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a call.")
            self._duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "Duration of a call.")
            self._cost = meter.create_counter("draftgate.cost", "{billionth}", "Cost in billionths of a currency unit.")
            self._outcomes = meter.create_counter("draftgate.outcomes", "{outcome}", "Runs that ended.")

    def called(
        self, spans: Spans | None, meta: Mapping[str, Any], intent: CallIntent, request: Request,
        settled: CallSettlement,
    ) -> Spans | None:
        """A call that ended, however. Returns the run's spans, begun here with its first call."""
        if self._meters is not None:
            self._measure(intent, settled)
        if self._tracer is None:
            return None
        start = _nanoseconds(settled.ended_at - (settled.latency_ms or 0.0) / 1000)
        if spans is None and intent.role not in AFTERWARDS:
            shown = {f"draftgate.tag.{key}": _plain(meta[key]) for key in self._tags if key in meta}
            begun = {**self._names, "gen_ai.operation.name": "invoke_workflow", "draftgate.run_id": intent.run_id}
            name = f"invoke_workflow {self._names['gen_ai.workflow.name']}"
            spans = Spans(self._tracer.start_span(name, start_time=start, attributes={**begun, **shown}))
        within = None if spans is None else self._within(spans, intent.step, start)
        call = self._tracer.start_span(
            f"{OPERATION} {intent.model}", context=within, kind=_client(),
            start_time=start, attributes=self._names | of_call(intent, request, settled),
        )
        if settled.error is not None:
            _fail(call)
        call.end(_nanoseconds(settled.ended_at))
        return spans

    def ended(self, spans: Spans | None, outcome: Outcome, at: float) -> None:
        """A run whose outcome is durable. `spans` None: it made no call, or its calls were another process's."""
        success = {True: "success", False: "failure", None: "unknown"}[outcome.success]
        if self._meters is not None:
            self._outcomes.add(1, {**self._names, "draftgate.status": outcome.status, "draftgate.success": success,
                                   "draftgate.success.source": outcome.success_source})
        if spans is None:
            return
        end = _nanoseconds(at)
        for name, span in spans.steps.items():
            if (result := outcome.steps.get(name)) is not None:
                span.set_attribute("draftgate.status", result.status)
            span.end(end)
        spans.run.set_attributes({
            "draftgate.status": outcome.status, "gen_ai.evaluation.name": "success",
            "gen_ai.evaluation.score.label": success, "draftgate.success.source": outcome.success_source,
        })
        if outcome.decision is not None:
            spans.run.set_attribute("draftgate.rule", outcome.decision.rule)
        if outcome.error is not None:
            spans.run.set_attribute("error.type", _error_type(outcome.error))
            _fail(spans.run)
        spans.run.end(end)

    def close(self) -> None:
        """Send what is left. May take as long as the exporter's time limit."""
        providers: tuple[Any, ...] = (self._tracers, self._meters) if self._owned else ()
        for provider in providers:
            if provider is not None:
                provider.shutdown()

    def _within(self, spans: Spans, step: str, start: int) -> Any:
        from opentelemetry.trace import set_span_in_context

        assert self._tracer is not None
        if step not in spans.steps:
            spans.steps[step] = self._tracer.start_span(
                f"step {step}", context=set_span_in_context(spans.run), start_time=start,
                attributes={**self._names, "gen_ai.prompt.name": step},
            )
        return set_span_in_context(spans.steps[step])

    def _measure(self, intent: CallIntent, settled: CallSettlement) -> None:
        of = {**self._names, "gen_ai.operation.name": OPERATION, "gen_ai.provider.name": intent.provider,
              "gen_ai.request.model": intent.model, "draftgate.role": intent.role}
        if settled.latency_ms is not None:
            failed = {} if settled.error is None else {"error.type": _error_type(settled.error)}
            self._duration.record(settled.latency_ms / 1000, of | failed)
        if settled.usage is not None:
            self._tokens.record(settled.usage.prompt, {**of, "gen_ai.token.type": "input"})
            self._tokens.record(settled.usage.total - settled.usage.prompt, {**of, "gen_ai.token.type": "output"})
        if settled.cost is not None:
            self._cost.add(settled.cost.nano, {**of, "gen_ai.usage.cost.currency": settled.cost.currency,
                                               "gen_ai.usage.cost.source": settled.provenance})


def of_call(intent: CallIntent, request: Request, settled: CallSettlement) -> dict[str, Any]:
    """The attributes of a call's span; what is not known is not there."""
    found = {
        "gen_ai.operation.name": OPERATION, "gen_ai.provider.name": intent.provider,
        "gen_ai.request.model": intent.model, "gen_ai.response.model": settled.model_answered,
        "gen_ai.response.id": settled.response_id, "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.response.finish_reasons": [settled.finish_reason] if settled.finish_reason else None,
        "gen_ai.request.temperature": request.temperature, "gen_ai.request.reasoning.level": request.thinking,
        "draftgate.call_id": intent.call_id, "draftgate.run_id": intent.run_id, "draftgate.step": intent.step,
        "draftgate.role": intent.role, "draftgate.attempt": intent.attempt,
        "gen_ai.usage.cost.source": settled.provenance,
        "error.type": _error_type(settled.error) if settled.error else None,
        **_of_usage(settled.usage), **_of_endpoint(intent.endpoint),
    }
    if settled.cost is not None:
        found["gen_ai.usage.cost.amount"] = f"{settled.cost.amount.normalize():f}"
        found["gen_ai.usage.cost.currency"] = settled.cost.currency
    return {name: value for name, value in found.items() if value is not None}


def _of_usage(usage: Usage | None) -> dict[str, Any]:
    """The conventions count cached tokens into the input, and reasoning into the output."""
    if usage is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.total - usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_write.input_tokens": usage.cache_write + usage.cache_write_1h,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
    }


def _of_endpoint(endpoint: str) -> dict[str, Any]:
    try:
        parts = urlsplit(endpoint)
        return {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:
        return {}


def telemetry_of(
    config: TelemetryConfig, *, pipeline: str, version: str, tags: tuple[str, ...], direct: bool = False
) -> Telemetry:
    """As the pipeline wants it; `direct`: past any proxy, and following no redirect. Raises ConfigError where the
    packages are not installed."""
    try:
        from opentelemetry import metrics, trace
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError("`telemetry:` needs OpenTelemetry, which is not installed",
                          hint="pip install 'draftgate[telemetry]'") from error
    named: dict[str, Any] = {"pipeline": pipeline, "version": version, "tags": tags}
    if config.exporter == "global":
        return Telemetry(trace.get_tracer_provider() if config.spans else None,
                         metrics.get_meter_provider() if config.metrics else None, owned=False, **named)
    resource = Resource.create({"service.name": SCOPE})
    to = {url.rsplit("/", 1)[-1]: url for url in addresses(config)}
    tracers, meters = None, None
    if config.spans:
        tracers = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=to.get("traces"), session=_session(direct))
        tracers.add_span_processor(BatchSpanProcessor(exporter))
    if config.metrics:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=to.get("metrics"), session=_session(direct)))
        meters = MeterProvider(metric_readers=[reader], resource=resource)
    return Telemetry(tracers, meters, **named)


def _session(direct: bool) -> Any:
    """None: the exporter's own, by the environment."""
    if not direct:
        return None
    import requests

    session = requests.Session()
    session.trust_env, session.max_redirects = False, 0
    return session


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)


def _plain(value: Any) -> str | bool | int | float:
    return value if isinstance(value, str | bool | int | float) else str(value)


def _error_type(said: str) -> str:
    """The kind of an error; what it says may hold content."""
    return said.partition(":")[0]


def _client() -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind.CLIENT


def _fail(span: Span) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR))
