"""What it takes to look back over a large ledger: `simulate`, the first look of the drift monitor, `calibrate --ledger`
and `explain`, each as a process of its own, over two ledgers of one pipeline.

    python benchmarks/ledger_scale.py [--runs 100000,1000000] [--keep FOLDER] [--only simulate,look,calibrate,explain]

A real pipeline with scripted models writes the first LIVED runs (a fifth escalated, 2% of the accepted drafts spot-
checked); SQL copies them, an hour later each time and with confidences of their own. The reference is one read of the
rows that all of these are about: SELECT count(*), sum(confidence) over `outcome` and `step`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from report_scale import Used, run

COUNTED = ("run", "call", "spot_check")
FILL = """
import sys
from pathlib import Path
from benchmarks.ledger_lived import fill
fill(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
"""
SCAN = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(
    "SELECT count(*), sum(s.confidence) FROM outcome o JOIN step s ON s.run_id = o.run_id").fetchone())
"""
LOOK = """
import asyncio, sys, time
from pathlib import Path
from orchestrator.cascade import lapse
from orchestrator.pipeline import Pipeline
from orchestrator.testing import ScriptedModel

async def looks():
    later = lambda: time.time() + 3.2e7  # the copies of the first runs end hours after these
    nobody = {name: ScriptedModel(lambda request: None, name=name) for name in ("drafter", "validator")}
    async with Pipeline.load(Path(sys.argv[1]), store=sys.argv[2], clients=nobody, clock=later) as pipeline:
        rt = await pipeline.runtime()
        for which in ("first", "second"):
            wall, cpu = time.perf_counter(), time.process_time()
            await lapse.look(rt, rt.steps[0], draft_ok=False)
            print(f"{which} look {time.perf_counter() - wall:.2f} s wall {time.process_time() - cpu:.2f} s CPU",
                  file=sys.stderr)  # the other processes' words are thrown away
        seen = rt.watch.seen["label"]
        tasks = sum(one.tasks for one in seen.stretches) + sum(one.counts.tasks for one in seen.counted.values())
        print(f"{tasks:,} tasks in {len(seen.stretches):,} stretches; revoked: {rt.revoked}", file=sys.stderr)

asyncio.run(looks())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="100000,1000000", help="sizes of the ledgers")
    parser.add_argument("--keep", type=Path, help="keep the ledgers here, and use them again")
    parser.add_argument("--only", default="simulate,look,calibrate,explain")
    parser.add_argument("--repeat", type=int, default=1, help="times each is run; the quickest counts")
    asked = parser.parse_args()
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, "
          f"SQLite {sqlite3.sqlite_version}; {' '.join(sys.argv[1:])}")
    with tempfile.TemporaryDirectory(prefix="ledger-scale-") as folder:
        sizes = [int(size) for size in asked.runs.split(",")]
        found = [measure(asked.keep or Path(folder), size, asked.only.split(","), asked.repeat) for size in sizes]
    for name in found[0]:
        ratio = found[-1][name].cpu_s / found[0][name].cpu_s
        print(f"{name}: {ratio:.1f} x the CPU time for {sizes[-1] / sizes[0]:.0f} x the runs")


def measure(folder: Path, runs: int, only: list[str], repeat: int) -> dict[str, Used]:
    began = time.perf_counter()
    place, pipeline = ledger(folder, runs)
    with sqlite3.connect(place) as connection:
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in COUNTED}
        (run_id,) = connection.execute("SELECT run_id FROM outcome WHERE escalated LIMIT 1 OFFSET 7").fetchone()
    print(f"\n{counts['run']:,} runs, {counts['call']:,} calls, {counts['spot_check']:,} spot checks, "
          f"{place.stat().st_size / 1e6:,.0f} MB, made in {time.perf_counter() - began:.0f} s")
    found = {}
    for name, command in commands(place, pipeline, run_id).items():
        if name.split()[0] in (*only, "scan"):
            found[name] = min((run(command) for _ in range(repeat)), key=lambda used: used.cpu_s)
            print(f"{found[name]}  {name}", flush=True)
    return found


def commands(place: Path, pipeline: Path, run_id: str) -> dict[str, list[str]]:
    store, cli = f"sqlite:///{place}", [sys.executable, "-m", "orchestrator"]
    simulate = [*cli, "simulate", str(pipeline), "--store", store]
    scratch = pipeline.parent.with_name("calibrated")  # `calibrate` writes a certificate
    shutil.copytree(pipeline.parent, scratch, dirs_exist_ok=True)
    return {
        "scan (reference)": [sys.executable, "-c", SCAN, str(place)],
        "simulate": [*simulate, "--threshold", "-0.3"],
        "look at drift, twice": [sys.executable, "-c", LOOK, str(pipeline), store],
        "calibrate --ledger": [*cli, "calibrate", str(scratch / pipeline.name), "--ledger", "--max-regret", "0.1",
                               "--store", store],
        "explain": [*cli, "explain", run_id, "--store", store],
    }


def ledger(folder: Path, runs: int) -> tuple[Path, Path]:
    """The database with so many runs, and the pipeline they are of."""
    place, pipeline = folder / f"ledger-{runs}.db", folder / "pipeline"
    if not place.exists():
        run([sys.executable, "-c", FILL, str(place), str(pipeline), str(runs)])  # apart: what it holds is no one else's
    return place, pipeline / "pipeline.yaml"


if __name__ == "__main__":
    main()
