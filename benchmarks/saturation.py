"""Does `orchestrator run` keep a real vLLM busy? Its tasks/s over a bare load generator's requests/s.

    python benchmarks/saturation.py [--tasks 1500] [--runs 5] [--concurrency 128]

The generator sends the byte-identical requests, recorded from the command itself. Server and clients are pinned to
cores of their own; the two clients take turns on the same server, prefix cache off. A rate is requests over the time
from the first request to the last answer; the whole command, its start included, is printed beside it.
Needs vLLM (`bash .ci/vllm.sh`), two cores and examples/order_lines/models/drafter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from socket import socket

from aiohttp import web

import orchestrator
from orchestrator.config.pipeline import ModelConfig, Serve
from orchestrator.models import vllm_command, vllm_server

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "examples" / "order_lines" / "models"
NAME = "drafter"
PIPELINE = """
pipeline: saturation
models:
  drafter:
    use: vllm:{name}
    endpoints: ["{url}"]
    location: local
    thinking: off
    max_tokens: 96
    timeout: 10m
    retries: 0
steps:
  - id: extract
    prompt: {root}/pipelines/order_lines/prompt.md
    output: {root}/pipelines/order_lines/output.json
    draft: {{model: drafter, max_attempts: 1}}
    signals: [schema, logprob]
    confidence: {{from: logprob.mean, threshold: -0.3}}
    policy: policy.yaml
mode: draft_only
"""
POLICY = "policy: accept_all\nafter: []\notherwise: accept\n"


@dataclass(frozen=True)
class Pass:
    """One client's turn: `seconds` from the first request to the last answer, `whole_s` with everything around it."""

    requests: int
    seconds: float
    whole_s: float
    output_tokens: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=128)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the server is taken down
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("saturation needs two cores: one for the server, one for the client")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = _tasks(folder / "tasks.jsonl", args.tasks)
        bodies = asyncio.run(_recorded(folder, tasks, args.concurrency))
        print(f"recorded {len(bodies.read_bytes().splitlines())} requests", flush=True)
        with _server(folder, cores[:-1]) as url:
            os.sched_setaffinity(0, {cores[-1]})
            print(_machine(cores), flush=True)
            _bare(url, bodies, args.concurrency)  # warm-up
            passes = []
            for number in range(args.runs):
                passes.append(_pair(url, tasks, bodies, args.concurrency, ours_first=number % 2 == 1))
                _print_pass(number, *passes[-1])
    _print_result(passes)


def _pair(url: str, tasks: Path, bodies: Path, concurrency: int, *, ours_first: bool) -> tuple[Pass, Pass]:
    """Ours and the bare generator's turn, in changing order: what drifts on the machine meets both."""
    if ours_first:
        ours = _orchestrator(url, tasks, concurrency)
        return ours, _bare(url, bodies, concurrency)
    bare = _bare(url, bodies, concurrency)
    return _orchestrator(url, tasks, concurrency), bare


def _tasks(path: Path, count: int) -> Path:
    """Order lines, each a different one: a number in front keeps any cache out of it."""
    lines = [json.loads(line) for line in (MODELS.parent / "data" / "held_out.jsonl").read_text().splitlines()]
    with path.open("w") as file:
        for i in range(count):
            text = lines[i % len(lines)]["input"]["text"]
            file.write(json.dumps({"id": f"t{i}", "input": {"text": f"no. {10_000 + i} / {text}"}}) + "\n")
    return path


async def _recorded(folder: Path, tasks: Path, concurrency: int) -> Path:
    """The bodies `orchestrator run` sends for these tasks, one a line, taken down by a server that answers at once."""
    bodies: list[bytes] = []
    reply = {
        "id": "r", "object": "chat.completion", "model": NAME,
        "choices": [{
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "{}"},
            "logprobs": {"content": [{"token": "{}", "logprob": -0.1, "bytes": None, "top_logprobs": []}]},
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }

    async def models(_: web.Request) -> web.Response:
        served = {"id": NAME, "object": "model", "owned_by": "", "created": 0}
        return web.json_response({"object": "list", "data": [served]})

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.json_response(reply)

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await asyncio.to_thread(_orchestrator, f"http://127.0.0.1:{port}/v1", tasks, concurrency)
    await runner.cleanup()
    path = folder / "bodies.jsonl"
    path.write_bytes(b"".join(body + b"\n" for body in bodies))
    return path


@contextmanager
def _server(folder: Path, cores: list[int]) -> Iterator[str]:
    """A real vLLM, kept to `cores`."""
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    serve = Serve(max_model_len=1024, dtype="bfloat16", args=("--no-enable-prefix-caching",))
    config = ModelConfig(use=f"vllm:{NAME}", location="local", endpoints=(url,), serve=serve)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # the server inherits it
    try:
        vllm_server.up(config, base=MODELS, state_dir=folder)
    finally:
        os.sched_setaffinity(0, before)
    try:
        yield url
    finally:
        vllm_server.down(config, state_dir=folder)


def _bare(url: str, bodies: Path, concurrency: int) -> Pass:
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "benchmarks" / "load_generator.py"), f"{url}/chat/completions", str(bodies)]
    done = subprocess.run([*command, "--concurrency", str(concurrency)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return Pass(found["requests"], found["seconds"], time.perf_counter() - began, found["output_tokens"])


def _orchestrator(url: str, tasks: Path, concurrency: int) -> Pass:
    """The command itself, on a store of its own; when its calls began and ended stands in the ledger."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "pipeline.yaml").write_text(PIPELINE.format(name=NAME, url=url, root=ROOT))
        command = f"orchestrator run {folder}/pipeline.yaml {tasks} --out {folder}/out.jsonl --yes"
        options = f"--store sqlite:///{folder}/o.db --concurrency {concurrency}"
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *command.split(), *options.split()], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"`{command}` ended with {done.returncode}:\n{done.stderr}")
        whole_s = time.perf_counter() - began
        with closing(sqlite3.connect(folder / "o.db")) as ledger:
            count, seconds, tokens = ledger.execute(
                "SELECT count(*), max(ended_at) - min(started_at), sum(output_tokens) FROM call"
            ).fetchone()
    return Pass(count, seconds, whole_s, tokens)


def _machine(cores: list[int]) -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].partition(":")[2].strip() if names else "unknown processor"
    python = vllm_command.vllm_python()
    distribution = vllm_command.installed(python)
    script = f"import importlib.metadata as m; print(m.version({distribution!r}))"
    vllm = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{processor}, {len(cores)} cores: {len(cores) - 1} for the server, 1 for the client\n"
        f"python {sys.version.split()[0]}, {distribution} {vllm}, draftgate {orchestrator.__version__}, "
        f"langgraph {version('langgraph')}, aiohttp {version('aiohttp')}"
    )


def _print_pass(number: int, ours: Pass, bare: Pass) -> None:
    print(
        f"run {number + 1}: orchestrator run {ours.rate:.1f} tasks/s, bare {bare.rate:.1f} requests/s, "
        f"ratio {ours.rate / bare.rate:.3f}; whole command {ours.whole_s:.1f} s for {ours.seconds:.1f} s of calls; "
        f"tokens {ours.output_tokens} and {bare.output_tokens}", flush=True,
    )


def _print_result(passes: list[tuple[Pass, Pass]]) -> None:
    def spread(values: list[float], digits: int) -> str:
        return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    print(f"orchestrator run  {spread([ours.rate for ours, _ in passes], 1)} tasks/s")
    print(f"bare generator    {spread([bare.rate for _, bare in passes], 1)} requests/s")
    print(f"ratio             {spread([ours.rate / bare.rate for ours, bare in passes], 3)}; first bar 0.90, goal 0.97")


if __name__ == "__main__":
    main()
