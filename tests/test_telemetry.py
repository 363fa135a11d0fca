"""Telemetry: off unless configured, by OpenTelemetry's names, without content, and never out of a local pipeline."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Pipeline, Task
from orchestrator.check.residency import reachable_addresses
from orchestrator.config.loader import load_pipeline
from orchestrator.config.telemetry import SWITCH, TelemetryConfig, addresses, wanted
from orchestrator.errors import ModelError, ResidencyError
from orchestrator.telemetry import Telemetry
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline

A, SECRET = '{"label": "a"}', "the customer's own words"


def models(draft: Any = A) -> dict[str, ScriptedModel]:
    said = {"drafter": draft, "validator": A}
    return {name: ScriptedModel(lambda _, answer=answer: answer, name=name) for name, answer in said.items()}


class Seen:
    """A run of one task, with what the SDK's own exporters kept in memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch,
                 processor: type[SimpleSpanProcessor] = SimpleSpanProcessor, **settings: Any) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(processor(self.exporter))
        made = Telemetry(tracers, MeterProvider(metric_readers=[self.reader]), pipeline="labels", version="1",
                         tags=("desk",), owned=False)
        monkeypatch.setattr("orchestrator.telemetry.telemetry_of", lambda *_, **__: made)
        self.path = write_pipeline(folder, telemetry={"endpoint": "http://127.0.0.1:9"}, tags=["desk"], **settings)

    async def run(self, folder: Path, clients: dict[str, ScriptedModel]) -> dict[str, ReadableSpan]:
        async with Pipeline.load(self.path, store=f"sqlite:///{folder / 's.db'}", clients=clients) as pipeline:
            await pipeline.arun(Task(id="t", input={"text": SECRET}, meta={"desk": "north", "name": SECRET}))
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def measured(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {m.name: list(m.data.data_points) for r in data.resource_metrics for s in r.scope_metrics
                for m in s.metrics}


async def test_a_run_is_a_tree_of_spans_by_the_names_of_the_conventions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(tmp_path, monkeypatch)
    spans = await seen.run(tmp_path, models())
    run, step, call = (spans[name] for name in ("invoke_workflow labels", "step label", "chat drafter"))
    assert call.parent is not None
    assert step.context is not None
    assert call.parent.span_id == step.context.span_id
    assert step.parent is not None
    assert run.context is not None
    assert step.parent.span_id == run.context.span_id
    assert call.attributes is not None
    told = dict(call.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.workflow.name"] == "labels"
    assert told["gen_ai.request.model"] == "drafter"
    assert told["gen_ai.request.max_tokens"] == 32
    assert told["gen_ai.response.finish_reasons"] == ("stop",)
    assert told["gen_ai.usage.cost.currency"] == "USD"
    assert isinstance(told["gen_ai.usage.cost.amount"], str)  # exact: no float near money
    assert run.attributes is not None
    assert run.attributes["gen_ai.evaluation.score.label"] == "unknown"


async def test_nothing_that_was_said_leaves_and_tags_only_where_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(tmp_path, monkeypatch)
    failing = {**models(), "drafter": ScriptedModel([ModelError(SECRET)], name="drafter")}
    spans = await seen.run(tmp_path, failing)
    told = "".join(span.to_json() for span in spans.values()) + str(seen.measured())
    assert SECRET not in told
    assert spans["invoke_workflow labels"].attributes is not None
    assert spans["invoke_workflow labels"].attributes["draftgate.tag.desk"] == "north"
    failed = spans["chat drafter"]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ModelError"


async def test_metrics_add_up_to_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(tmp_path, monkeypatch)
    async with Pipeline.load(seen.path, store=f"sqlite:///{tmp_path / 's.db'}", clients=models()) as pipeline:
        outcomes = [await pipeline.arun(Task(id=f"t{i}", input={"text": str(i)})) for i in range(3)]
    points = seen.measured()
    calls = [call for outcome in outcomes for call in outcome.calls]
    tokens = sum(call.usage.total for call in calls if call.usage)
    assert sum(point.value for point in points["draftgate.cost"]) == sum(c.cost.nano for c in calls if c.cost)
    assert sum(point.count for point in points["gen_ai.client.operation.duration"]) == len(calls)
    assert sum(point.sum for point in points["gen_ai.client.token.usage"]) == tokens
    assert sum(point.value for point in points["draftgate.outcomes"]) == 3


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """An OTLP/HTTP receiver on loopback, and the last body of each signal."""
    seen: dict[str, bytes] = {}

    async def take(request: web.Request) -> web.Response:
        seen[request.path] = await request.read()
        return web.Response(body=b"", content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


async def test_a_collector_on_loopback_receives_spans_and_metrics_by_the_time_the_pipeline_is_closed(
    tmp_path: Path,
) -> None:
    async with collector() as (url, seen):
        path = write_pipeline(tmp_path, telemetry={"endpoint": url}, residency="local")
        async with Pipeline.load(path, store=f"sqlite:///{tmp_path / 's.db'}", clients=models()) as pipeline:
            await pipeline.arun(Task(id="t", input={"text": SECRET}))
    traces = ExportTraceServiceRequest.FromString(seen["/v1/traces"])
    names = {span.name for r in traces.resource_spans for s in r.scope_spans for span in s.spans}
    assert names == {"invoke_workflow labels", "step label", "chat drafter"}
    metrics = ExportMetricsServiceRequest.FromString(seen["/v1/metrics"])
    assert "draftgate.cost" in {m.name for r in metrics.resource_metrics for s in r.scope_metrics for m in s.metrics}
    assert SECRET.encode() not in seen["/v1/traces"] + seen["/v1/metrics"]


async def test_a_span_processor_that_raises_costs_no_settlement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("the processor is broken")

    seen = Seen(tmp_path, monkeypatch, processor=Broken)
    with suppress(RuntimeError):
        await seen.run(tmp_path, models())
    with sqlite3.connect(tmp_path / "s.db") as ledger:
        states = ledger.execute("SELECT state FROM call").fetchall()
    ledger.close()
    assert {state for (state,) in states} == {"settled"}


async def test_a_collector_that_is_gone_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    path = write_pipeline(tmp_path, telemetry={"endpoint": "http://127.0.0.1:9"})
    async with Pipeline.load(path, store=f"sqlite:///{tmp_path / 's.db'}", clients=models()) as pipeline:
        assert (await pipeline.arun(Task(id="t", input={"text": "x"}))).status == "accepted"


@pytest.mark.parametrize(("telemetry", "said"), [
    ({"endpoint": "http://collector.example:4318"}, "collector.example"), ({"exporter": "global"}, "surrounding"),
    ({"endpoint": "http://8.8.8.8:4318"}, "8.8.8.8"),
])
def test_a_local_pipeline_refuses_an_exporter_that_may_be_remote(
    tmp_path: Path, telemetry: dict[str, Any], said: str
) -> None:
    with pytest.raises(ResidencyError, match=said):
        load_pipeline(write_pipeline(tmp_path, telemetry=telemetry, residency="local"))


def test_the_environment_can_neither_switch_on_by_accident_nor_lead_a_local_pipeline_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.example:4318")
    path = write_pipeline(tmp_path, residency="local")
    assert wanted(load_pipeline(path).config.telemetry) is None
    monkeypatch.setenv(SWITCH, "on")
    with pytest.raises(ResidencyError, match=r"collector\.example"):
        load_pipeline(path)


def test_the_check_lists_where_telemetry_goes(tmp_path: Path) -> None:
    loaded = load_pipeline(write_pipeline(tmp_path, telemetry={"endpoint": "http://collector.example:4318"}))
    found = [one for one in reachable_addresses(loaded, {}) if one.model == "telemetry"]
    assert {(one.location, one.address) for one in found} == {("remote", "http://collector.example:4318")}


def test_a_signal_of_its_own_has_its_own_address() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1/", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:2/t"}
    assert addresses(TelemetryConfig(), environment) == ("http://b:2/t", "http://a:1/v1/metrics")
    assert addresses(TelemetryConfig(metrics=False, endpoint="http://c:3"), environment) == ("http://c:3/v1/traces",)


def test_without_telemetry_none_of_it_is_imported(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    program = (
        "import sys; from orchestrator import Pipeline, Task; from orchestrator.testing import ScriptedModel\n"
        "models = {n: ScriptedModel(['{\"label\": \"a\"}'], name=n) for n in ('drafter', 'validator')}\n"
        "with Pipeline.load('pipeline.yaml', store='sqlite:///s.db', clients=models) as p:\n"
        "    p.run(Task(id='t', input={'text': 'x'}))\n"
        "sys.exit('orchestrator.telemetry' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    asked = [sys.executable, "-c", program]
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
