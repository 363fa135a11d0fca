"""What a file run holds in memory as it goes on, and what a task takes in the store.

    python benchmarks/memory.py [--tasks 100000] [--kept-tasks 2000]

Runs `orchestrator.batch.run_file`, in a process of its own, over a generated JSONL against an instant server on
another core. Prints the process's resident memory at 10%, 50% and 100% of the tasks and its slope over the second
half (the reference: what holding each task's line would take), then the bytes a task takes in the store with content
kept, and not kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overhead import ROOT, start_server

sys.path.insert(0, str(ROOT))

from tests.pipelines import write_pipeline, write_tasks

EVERY_S = 1.0
PAGE = os.sysconf("SC_PAGE_SIZE")
RUN = """
import sys
from pathlib import Path
from orchestrator.batch import RunOptions, run_file

pipeline, tasks, folder, concurrency = sys.argv[1:]
done = run_file(RunOptions(pipeline=Path(pipeline), tasks=Path(tasks), out=Path(folder) / "out.jsonl", yes=True,
                           store=f"sqlite:///{folder}/store.db", concurrency=int(concurrency)))
assert not done.stopped and done.by_status["accepted"] == done.tasks == done.written, done
print(f"{done.tasks / done.seconds:.0f}")
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """`done` tasks, counted in the outcome file, and the resident memory at that moment."""

    done: int
    rss_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--kept-tasks", type=int, default=2000, help="tasks for the bytes in the store")
    parser.add_argument("--concurrency", type=int, default=128)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {len(cores)} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(Path(folder), cores[-1])
        try:
            held(url, Path(folder), asked.tasks, asked.concurrency, cores[0])
            for keep in ("30d", "none"):
                stored(url, Path(folder), keep, asked.kept_tasks, asked.concurrency, cores[0])
        finally:
            server.terminate()
            server.wait()


def held(url: str, folder: Path, tasks: int, concurrency: int, core: int) -> None:
    work = laid_out(url, folder / "held", tasks)
    samples, rate = run(work, concurrency, core)
    line = (work / "out.jsonl").stat().st_size / tasks
    print(f"\n{tasks:,} tasks at {rate:,.0f} tasks/s, store {stored_bytes(work) / 1e6:,.0f} MB, "
          f"outcome file {line:,.0f} bytes a task")
    for share in (0.1, 0.5, 1.0):
        nearest = min(samples, key=lambda s: abs(s.done - share * tasks))
        print(f"resident at {nearest.done / tasks:4.0%} {nearest.rss_mb:8.1f} MB")
    print(f"largest          {max(s.rss_mb for s in samples):8.1f} MB")
    slope = growth([s for s in samples if s.done >= tasks / 2])
    print(f"slope, second half: {slope:.1f} bytes a task ({slope / line:.3f} of holding each outcome's line)")


def stored(url: str, folder: Path, keep: str, tasks: int, concurrency: int, core: int) -> None:
    work = laid_out(url, folder / f"kept-{keep}", tasks, content={"keep": keep})
    empty = laid_out(url, folder / f"empty-{keep}", 1, content={"keep": keep})
    run(work, concurrency, core)
    run(empty, concurrency, core)
    each = (stored_bytes(work) - stored_bytes(empty)) / (tasks - 1)
    print(f"store, content kept {keep:5}: {each:8,.0f} bytes a task")


def laid_out(url: str, folder: Path, tasks: int, **settings: Any) -> Path:
    """A folder with a pipeline whose drafts are all accepted, and its tasks."""
    model = {"endpoints": [url]}
    write_pipeline(folder, drafter=model, validator=model,
                   step={"confidence": {"from": "logprob.mean", "threshold": -1e9}}, **settings)
    write_tasks(folder / "tasks.jsonl", tasks)
    return folder


def run(folder: Path, concurrency: int, core: int) -> tuple[list[Sample], float]:
    """Samples of the run's memory while it runs on `core`, and its tasks a second."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), sys.executable, "-c", RUN, str(folder / "pipeline.yaml"),
         str(folder / "tasks.jsonl"), str(folder), str(concurrency)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )
    samples: list[Sample] = []
    lines = Lines(folder / "out.jsonl")
    while process.poll() is None:
        time.sleep(EVERY_S)
        if (rss := resident_mb(process.pid)) is not None and (done := lines.count()):
            samples.append(Sample(done, rss))
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}")
    return samples, float(said.splitlines()[-1])


class Lines:
    """Counts the lines of a growing file, reading each byte once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._lines = path, 0, 0

    def count(self) -> int:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._at)
                while part := file.read(1 << 20):
                    self._lines += part.count(b"\n")
                    self._at += len(part)
        return self._lines


def resident_mb(pid: int) -> float | None:
    """Linux: the second field of statm is the resident pages. None once the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * PAGE / 1e6 or None


def growth(samples: list[Sample]) -> float:
    """Bytes a task, by least squares."""
    if len(samples) < 2 or samples[0].done == samples[-1].done:
        return float("nan")
    fit = statistics.linear_regression([s.done for s in samples], [s.rss_mb * 1e6 for s in samples])
    return fit.slope


def stored_bytes(folder: Path) -> int:
    """The database once its log is written back: pages in use."""
    with sqlite3.connect(folder / "store.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages, free, size = (database.execute(f"PRAGMA {p}").fetchone()[0]
                             for p in ("page_count", "freelist_count", "page_size"))
    database.close()
    return int((pages - free) * size)


if __name__ == "__main__":
    main()
