"""What the orchestrator adds to a call: tasks a second on one pinned core, against an instant server on another.

    python benchmarks/overhead.py [--tasks 3000] [--runs 3] [--peer PYTHON]

Prints the machine, the versions, and for each figure its median, its spread and its ratio to a reference of the same
run: the bare aiohttp client, and cascadeflow where a Python that has it is named by --peer. What one task alone takes
longer is told apart from what the disk takes: the same with the store in memory, and a bare `fdatasync` beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator import Pipeline, Task  # noqa: E402 - the checkout's own package
from orchestrator.batch import spare_the_collector  # noqa: E402 - the checkout's own package
from tests.pipelines import write_pipeline  # noqa: E402

IN_FLIGHT = 64
COMMIT = b"\0" * 36_000
"""About what a commit of a task alone adds to SQLite's log."""
CASCADEFLOW = "cascadeflow, one accepted draft"
ALONE, IN_MEMORY = "arun, one at a time", "the same, store in memory"
BARE_ALONE, TO_DISK = "bare aiohttp, one at a time", "bare write and fdatasync"
PEER = Path(__file__).with_name("peer_cascadeflow.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peer", help="a Python with cascadeflow installed")
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    spare_the_collector()  # as `orchestrator run` does
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {len(cores)} cores, Python {platform.python_version()}")
    print("versions: " + ", ".join(f"{p} {version(p)}" for p in ("langgraph", "openai", "aiohttp", "sqlmodel")))
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(Path(folder), cores[-1])
        os.sched_setaffinity(0, {cores[0]})
        try:
            figures = asyncio.run(measure(url, Path(folder), asked.tasks, asked.runs, asked.peer))
        finally:
            server.terminate()
            server.wait()
    show(figures)


def start_server(folder: Path, core: int) -> tuple[subprocess.Popen[bytes], str]:
    """The loopback server in instant mode, pinned to `core`."""
    port = folder / "port"
    server = subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, "-m", "tests.loopback", "--port-file", str(port), "--instant",
         "--models", "drafter,validator", "--seconds", "7200"], cwd=ROOT,
    )
    while not port.exists() or not port.read_text().strip():
        time.sleep(0.02)
    return server, f"http://127.0.0.1:{port.read_text().strip()}/v1"


async def measure(url: str, folder: Path, tasks: int, runs: int, python: str | None) -> dict[str, list[float]]:
    """Per second, by figure, in turns: whatever else the machine does meanwhile falls on all of them."""
    figures: dict[str, list[float]] = {}
    few = max(200, tasks // 10)
    for run in range(runs + 1):
        work: dict[str, Callable[[], Awaitable[float]]] = {
            "bare aiohttp": partial(bare, url, tasks),
            "accepted path, amap": partial(accepted, url, folder / f"a{run}", tasks),
            "cached path, amap": partial(cached, url, folder / f"c{run}", tasks * 2),
            ALONE: partial(single, url, folder / f"s{run}", few),
            IN_MEMORY: partial(single, url, folder / f"m{run}", few, store="memory:"),
            BARE_ALONE: partial(bare, url, few, 1),
            TO_DISK: partial(to_disk, folder / f"d{run}", few),
        }
        if python:
            work[CASCADEFLOW] = partial(asyncio.to_thread, peer, python, url, tasks)
        for name, figure in work.items():
            rate = await figure()
            if run:  # the first round warms up
                figures.setdefault(name, []).append(rate)
    return figures


async def bare(url: str, tasks: int, in_flight: int = IN_FLIGHT) -> float:
    """Requests a second of the plainest client: aiohttp and json."""
    body = json.dumps({"model": "drafter", "messages": [{"role": "user", "content": "text"}], "logprobs": True,
                       "top_logprobs": 2, "max_tokens": 32}).encode()
    left = iter(range(tasks))

    async def worker(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{url}/chat/completions", data=body,
                                    headers={"Content-Type": "application/json"}) as response:
                json.loads(await response.read())

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(worker(session) for _ in range(in_flight)))
        return tasks / (time.perf_counter() - started)


async def to_disk(file: Path, times: int) -> float:
    """What the disk of the store does of what a commit asks of it, one at a time."""
    with file.open("wb", buffering=0) as log:
        started = time.perf_counter()
        for _ in range(times):
            log.write(COMMIT)
            os.fdatasync(log.fileno())
        return times / (time.perf_counter() - started)


def loaded(url: str, folder: Path, *, cache: bool, store: str | None = None) -> Pipeline:
    model = {"endpoints": [url]}
    extra = {"cache": {"ttl": "1d"}} if cache else {}
    path = write_pipeline(folder, drafter=model, validator=model,
                          step={"confidence": {"from": "logprob.mean", "threshold": -1e9}}, **extra)
    return Pipeline.load(path, store=store or f"sqlite:///{folder}/store.db")


async def accepted(url: str, folder: Path, tasks: int) -> float:
    """Cache miss, draft, signals, policy, durable intent, answer and outcome."""
    async with loaded(url, folder, cache=False) as pipeline:
        return await through(pipeline, [Task(id=f"t{i}", input={"text": f"text {i}"}) for i in range(tasks)])


async def cached(url: str, folder: Path, tasks: int) -> float:
    """The same path where every answer is durable already: other ids, the same texts."""
    async with loaded(url, folder, cache=True) as pipeline:
        texts = [f"text {i % 500}" for i in range(tasks)]
        await through(pipeline, [Task(id=f"w{i}", input={"text": t}) for i, t in enumerate(texts[:500])])
        return await through(pipeline, [Task(id=f"t{i}", input={"text": t}) for i, t in enumerate(texts)])


async def through(pipeline: Pipeline, tasks: list[Task]) -> float:
    started = time.perf_counter()
    done = 0
    async for outcome in pipeline.amap(tasks, concurrency=2 * IN_FLIGHT):
        assert outcome.status == "accepted", outcome
        done += 1
    assert done == len(tasks)
    return len(tasks) / (time.perf_counter() - started)


async def single(url: str, folder: Path, tasks: int, store: str | None = None) -> float:
    async with loaded(url, folder, cache=False, store=store) as pipeline:
        await pipeline.arun(Task(id="warm", input={"text": "warm"}))
        started = time.perf_counter()
        for i in range(tasks):
            await pipeline.arun(Task(id=f"t{i}", input={"text": f"text {i}"}))
        return tasks / (time.perf_counter() - started)


def peer(python: str, url: str, tasks: int) -> float:
    done = subprocess.run([python, str(PEER), url, str(tasks)], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def show(figures: dict[str, list[float]]) -> None:
    bare_rate = statistics.median(figures["bare aiohttp"])
    print(f"\n{'figure':40} {'per second':>12} {'spread':>18} {'of bare':>8}")
    for name, rates in figures.items():
        median = statistics.median(rates)
        print(f"{name:40} {median:12,.0f} {min(rates):8,.0f} - {max(rates):7,.0f} {median / bare_rate:8.2f}")
    alone, in_memory, bare_alone, disk = (
        1000 / statistics.median(figures[name]) for name in (ALONE, IN_MEMORY, BARE_ALONE, TO_DISK)
    )
    print(f"\nadded latency of one arun over the bare client: {alone - bare_alone:.2f} ms")
    print(f"with the store in memory: {in_memory - bare_alone:.2f} ms; the disk takes {disk:.2f} ms a commit")
    if CASCADEFLOW in figures:
        accepted_rate = statistics.median(figures["accepted path, amap"])
        print(f"accepted path over cascadeflow: {accepted_rate / statistics.median(figures[CASCADEFLOW]):.1f} x")


if __name__ == "__main__":
    main()
