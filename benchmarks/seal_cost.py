"""What sealing costs: the accepted path with and without it, and the bytes a task takes, by turns on one core.

    python benchmarks/seal_cost.py [--tasks 2000] [--runs 5]

A scripted model answers at once, so that nothing but the path and its store is measured. Prints tasks a second, the
processor's time of `seals.seal` itself a row, and the store's bytes a task.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator import Pipeline, Task  # noqa: E402 - the checkout's own package
from orchestrator.batch import spare_the_collector  # noqa: E402 - the checkout's own package
from orchestrator.store import seals  # noqa: E402 - the checkout's own package
from orchestrator.testing import ScriptedModel  # noqa: E402 - the checkout's own package
from tests.pipelines import write_pipeline  # noqa: E402

IN_FLIGHT = 128
_seal = seals.seal


class Timed:
    """`seals.seal`, with the processor's time it took."""

    def __init__(self) -> None:
        self.rows, self.seconds = 0, 0.0

    def __call__(self, transaction: Any, name: Any, rows: Sequence[Any]) -> Any:
        started = time.thread_time()
        made = _seal(transaction, name, rows)
        self.seconds += time.thread_time() - started
        self.rows += len(rows)
        return made


def unsealed(transaction: Any, name: Any, rows: Sequence[Any]) -> list[seals.Seal]:
    return [seals.Seal(None, None, None)] * len(rows)  # type: ignore[arg-type]  # as in a store before the seals


async def through(folder: Path, tasks: int, seal: Any) -> tuple[float, float]:
    """Tasks a second, and bytes of the store a task."""
    path = write_pipeline(folder)
    clients = {name: ScriptedModel(lambda _: {"label": "a"}, name=name) for name in ("drafter", "validator")}
    with mock.patch.object(seals, "seal", seal):
        async with Pipeline.load(path, store=f"sqlite:///{folder}/store.db", clients=clients) as pipeline:
            given = [Task(id=f"t{i}", input={"text": f"text {i}"}) for i in range(tasks)]
            started = time.perf_counter()
            async for outcome in pipeline.amap(given, concurrency=IN_FLIGHT):
                assert outcome.status == "accepted", outcome
            rate = tasks / (time.perf_counter() - started)
    return rate, (folder / "store.db").stat().st_size / tasks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    spare_the_collector()
    timed = Timed()
    found: dict[str, list[tuple[float, float]]] = {"sealed": [], "unsealed": []}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(asked.runs + 1):
            for name, seal in (("sealed", timed), ("unsealed", unsealed)):
                made = asyncio.run(through(Path(folder) / f"{name}{run}", asked.tasks, seal))
                if run:  # the first round warms up
                    found[name].append(made)
    for name, figures in found.items():
        rates, sizes = zip(*figures, strict=True)
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        print(f"{name}: {statistics.median(rates):,.0f} tasks/s ({spread}), {statistics.median(sizes):,.0f} bytes/task")
    print(f"seals.seal: {timed.seconds / timed.rows * 1e6:.1f} us a row, {timed.rows:,} rows")


if __name__ == "__main__":
    main()
