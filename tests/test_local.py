"""Local means local: whole runs under an environment that would have a careless program call home.

Each runs in a process of its own under `tests/watch.py`, which notes every connection and every name looked up.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.check import check_pipeline
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks
from tests.watch import Contact, outside, watched

MODELS = ("drafter", "validator")
ROOT = Path(__file__).parent.parent
EXPORTERS = {
    "OTEL_SDK_DISABLED": "false", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://203.0.113.9:4318/v1/traces", "LANGSMITH_OTEL_ENABLED": "true",
    "LANGFUSE_HOST": "http://203.0.113.11", "LANGFUSE_PUBLIC_KEY": "pk-leak", "LANGFUSE_SECRET_KEY": "sk-leak",
    "POSTHOG_HOST": "http://203.0.113.12", "POSTHOG_API_KEY": "phc_leak", "SENTRY_DSN": "http://k@203.0.113.13/1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "False", "LITELLM_TELEMETRY": "True", "LITELLM_CALLBACKS": "langsmith",
    "DO_NOT_TRACK": "0", "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://203.0.113.14", "VLLM_NO_USAGE_STATS": "0",
}
HALF_ESCALATED: dict[str, Any] = {**POLICY, "after": [
    {"name": "odd", "when": 'task.input.text.endsWith("1")', "then": "escalate"},
    {"name": "look", "sample": 1.0, "then": "spot_check"},
]}
CLOSED = {"type": "object", "properties": {"meta": {
    "type": "object", "properties": {"residency": {"type": "string"}}, "additionalProperties": False,
}}}
SDK = """
import asyncio, sys
from typing import Any, TypedDict
from langgraph.graph import END, START, StateGraph
from orchestrator import Pipeline, Task

path, store = sys.argv[1:]
given = [{"id": f"m{i}", "input": {"text": f"text {i}"}} for i in range(12)]

class State(TypedDict, total=False):
    ticket: dict[str, Any]
    reply: Any

async def main() -> None:
    async with Pipeline.load(path, store=store) as pipeline:
        await pipeline.arun(Task(id="t1", input={"text": "one 1"}))
        assert len([o async for o in pipeline.amap(given)]) == 12
        said = await pipeline.graph.ainvoke({"tasks": [Task(id="g1", input={"text": "g 1"})]})
        assert said["outcomes"][0].status in ("approved", "redone"), said

with Pipeline.load(path, store=store) as pipeline:
    pipeline.run(Task(id="s1", input={"text": "sync 1"}))
asyncio.run(main())
"""


def local_pipeline(folder: Path, url: str, **settings: Any) -> Path:
    model = {"use": "vllm:tiny", "endpoints": [url], "price": "drafter"}
    return write_pipeline(folder / "p", drafter=model, validator=model, policy=HALF_ESCALATED, residency="local",
                          **settings)


async def contacts_of(folder: Path, argv: list[str]) -> list[Contact]:
    log = folder / "contacts"
    return await asyncio.to_thread(watched, argv, log=log, env=EXPORTERS, timeout_s=400)


async def test_the_sdk_contacts_nobody_but_the_local_models(tmp_path: Path) -> None:
    (tmp_path / "sdk.py").write_text(SDK)
    async with Loopback() as server:
        path = local_pipeline(tmp_path, server.url, cache={"ttl": "1h"})
        contacts = await contacts_of(tmp_path, [str(tmp_path / "sdk.py"), str(path), f"sqlite:///{tmp_path}/s.db"])
    assert len(server.seen) >= 15
    assert {one.port for one in contacts if one.event == "socket.connect"} == {server.port}
    assert outside(contacts) == []


async def test_a_file_run_contacts_nobody_but_the_local_models(tmp_path: Path) -> None:
    tasks = write_tasks(tmp_path / "tasks.jsonl", 30)
    async with Loopback() as server:
        path = local_pipeline(tmp_path, server.url)
        contacts = await contacts_of(tmp_path, [
            "orchestrator/__main__.py", "run", str(path), str(tasks), "--out", str(tmp_path / "out.jsonl"),
            "--store", f"sqlite:///{tmp_path}/s.db", "--yes",
        ])
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 30
    assert {one.port for one in contacts if one.event == "socket.connect"} == {server.port}
    assert outside(contacts) == []


@pytest.mark.parametrize("words", [["check", "--residency"], ["report"], ["prices", "check"]], ids=" ".join)
async def test_looking_at_a_local_pipeline_contacts_nobody(tmp_path: Path, words: list[str]) -> None:
    async with Loopback() as server:
        path = local_pipeline(tmp_path, server.url)
        async with Pipeline.load(path, store=f"sqlite:///{tmp_path}/s.db") as pipeline:
            await pipeline.arun(Task(id="t", input={"text": "x"}))
        rest = ["--store", f"sqlite:///{tmp_path}/s.db"] if words == ["report"] else [str(path)]
        contacts = await contacts_of(tmp_path, ["orchestrator/__main__.py", *words, *rest])
    assert contacts == []


async def test_a_task_that_stays_home_never_reaches_the_remote_validator(tmp_path: Path) -> None:
    """Every draft is unsure: without the field the validator is asked, with it a person is."""
    async with Loopback(models=MODELS) as home, Loopback(models=MODELS) as away:
        path = per_task(tmp_path, home.url, away.url)
        async with Pipeline.load(path, store="memory:") as pipeline:
            stays = [o async for o in pipeline.amap([
                Task(id=f"h{i}", input={"text": f"SECRET {i}"}, meta={"residency": "local"}) for i in range(8)
            ])]
            asked_of_strangers = len(away.seen)
            goes = await pipeline.arun(Task(id="free", input={"text": "open"}))
    assert [o.status for o in stays] == ["handed_off"] * 8
    assert asked_of_strangers == 0
    assert goes.status in ("approved", "redone")
    assert len(away.seen) == 1
    assert b"SECRET" not in json.dumps([seen.body for seen in away.seen]).encode()
    assert len(home.seen) == 9


async def test_a_spot_check_and_a_baseline_stay_home_too(tmp_path: Path) -> None:
    policy = {**POLICY, "after": [{"name": "look", "sample": 1.0, "then": "spot_check"}]}
    async with Loopback(models=MODELS) as home, Loopback(models=MODELS) as away:
        path = write_pipeline(
            tmp_path / "p", drafter={"endpoints": [home.url]}, policy=policy, baseline=1.0,
            validator={"endpoints": [away.url], "location": "remote"},
        )
        async with Pipeline.load(path, store="memory:") as pipeline:
            stays = await pipeline.arun(Task(id="h", input={"text": "x"}, meta={"residency": "local"}))
    assert stays.status == "accepted"
    assert away.seen == []


async def test_a_misspelt_residency_field_is_shown_by_check_to_protect_nothing(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as home, Loopback(models=MODELS) as away:
        path = per_task(tmp_path, home.url, away.url)
        async with Pipeline.load(path, store="memory:") as pipeline:
            await pipeline.arun(Task(id="m", input={"text": "x"}, meta={"residancy": "local"}))
        assert len(away.seen) == 1
    shown = {finding.where: finding for finding in check_pipeline(path, residency=True).findings}
    near = next(finding for where, finding in shown.items() if "residancy" in where or "residanc" in where)
    assert near.level == "warning"
    assert "may go to validator" in near.message
    assert "additionalProperties" in near.message
    kept = next(finding for where, finding in shown.items() if "{'residency': 'local'}" in where)
    assert "forbids remote" in kept.message


async def test_a_closed_schema_refuses_the_misspelt_field_before_anything_is_sent(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as home, Loopback(models=MODELS) as away:
        path = per_task(tmp_path, home.url, away.url, task="task.json")
        async with Pipeline.load(path, store="memory:") as pipeline:
            [refused] = [o async for o in pipeline.amap([{"input": {"text": "x"}, "meta": {"residancy": "local"}}])]
    assert "residancy" in (refused.error or "")
    assert (home.seen, away.seen) == ([], [])


def per_task(folder: Path, home: str, away: str, **settings: Any) -> Path:
    """high_volume.yaml over a local drafter that is never sure and a validator declared remote."""
    (folder / "p").mkdir(exist_ok=True)
    if "task" in settings:
        (folder / "p" / "task.json").write_text(json.dumps(CLOSED))
    return write_pipeline(
        folder / "p", drafter={"endpoints": [home]}, validator={"endpoints": [away], "location": "remote"},
        step={"policy": str(ROOT / "policies" / "high_volume.yaml"),
              "confidence": {"from": "logprob.mean", "threshold": 0.5}},
        **settings,
    )
