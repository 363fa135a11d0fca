"""A month's report over many calls: its wall time, CPU and memory, beside a scan of the calls in the same run.

    python benchmarks/report_scale.py [--calls 10000000] [--ledger FILE] [--ingest 4000]

Fills a ledger in a temporary folder, or at FILE, where it stays and serves again (ledger_fill.py). Then runs
`orchestrator report --month` over it as a process of its own, `--runs` times; the reference is
`SELECT count(*), sum(cost_nano) FROM call`, which reads each call once. Then writes `--ingest` runs, twice and four
times as many through the store's own writer, for what a run costs as the ledger grows: in CPU time, since other work
on the machine is no cost of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.store.engine import Store  # noqa: E402 - the checkout's own package
from tests.stores import claim, config, ended, intent, settlement  # noqa: E402

GROUP = 64
FILL = """
import sys
from pathlib import Path
from benchmarks.ledger_fill import fill
fill(Path(sys.argv[1]), int(sys.argv[2]))
"""
SCAN = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*), sum(cost_nano) FROM call").fetchone())
"""


@dataclass(frozen=True, slots=True)
class Used:
    """By one process."""

    wall_s: float
    cpu_s: float
    rss_mb: float

    def __str__(self) -> str:
        return f"{self.wall_s:7.2f} s wall  {self.cpu_s:7.2f} s CPU  {self.rss_mb:6.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--ledger", type=Path, help="keep the ledger here")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ingest", type=int, default=4000, help="runs written through the store; 0: none")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, "
          f"SQLite {sqlite3.sqlite_version}")
    with tempfile.TemporaryDirectory(prefix="report-scale-") as folder:
        measure(asked.ledger or Path(folder) / "ledger.db", asked.calls, asked.runs)
    if asked.ingest:
        asyncio.run(ingest(asked.ingest))


def measure(place: Path, calls: int, runs: int) -> None:
    began = time.perf_counter()
    if not place.exists():
        run([sys.executable, "-c", FILL, str(place), str(calls)])  # apart: what it holds in memory is not the report's
    with sqlite3.connect(place) as connection:
        found = connection.execute("SELECT sum(calls) FROM call_line").fetchone()[0]
    print(f"filled: {found:,} calls in {time.perf_counter() - began:.0f} s, {place.stat().st_size / 1e9:.2f} GB, "
          f"{place.stat().st_size / found:.0f} bytes a call with its run")
    with sqlite3.connect(place) as connection:
        for name in ("run", "call_line", "run_cell", "cost_cell"):
            print(f"  {name}: {connection.execute(f'SELECT count(*) FROM {name}').fetchone()[0]:,} rows")
    command = [sys.executable, "-m", "orchestrator", "report", "--store", f"sqlite:///{place}", "--month", "2026-10"]
    asks = {"report --month": [], "report --month --tz Asia/Kathmandu --by pipeline,team":
            ["--tz", "Asia/Kathmandu", "--by", "pipeline,team"]}
    for _ in range(runs):
        scan = run([sys.executable, "-c", SCAN, str(place)])
        print(f"{scan}  scan of the calls (reference)")
        for name, more in asks.items():
            used = run([*command, *more])
            print(f"{used}  {name}, {used.wall_s / scan.wall_s:.2f} x the scan")


def run(command: list[str]) -> Used:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Used(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


async def ingest(runs: int) -> None:
    """Runs of two calls each, claimed to finished, in groups."""
    with tempfile.TemporaryDirectory(prefix="report-scale-") as folder:
        store = await Store.open(f"sqlite:///{folder}/ledger.db")
        await store.record_config(config())
        first = 0
        for times in (1, 2, 4):
            began, busy = time.perf_counter(), time.process_time()
            for start in range(first, first + runs * times, GROUP):
                await write(store, [f"r{i}" for i in range(start, min(start + GROUP, first + runs * times))])
            took, busy = time.perf_counter() - began, time.process_time() - busy
            first += runs * times
            print(f"ingest: {runs * times:,} runs more in {took:.1f} s, {busy:.1f} s CPU: "
                  f"{busy / (runs * times) * 1e6:.0f} us CPU a run of two calls; {first:,} runs in the ledger")
        await store.aclose()


async def write(store: Store, run_ids: list[str]) -> None:
    now = time.time()
    await store.claim([claim(run_id, content=None) for run_id in run_ids])
    for role in ("draft", "judge"):
        await asyncio.gather(*(store.intend(intent(f"{role} of {r}", r, role=role)) for r in run_ids))
        await asyncio.gather(*(store.settle(settlement(f"{role} of {r}", ended_at=now)) for r in run_ids))
    await store.finish([ended(run_id, ended_at=now, contents=()) for run_id in run_ids])


if __name__ == "__main__":
    main()
