"""How long a command waits before it does anything: `import orchestrator`, and `orchestrator --help`.

    python benchmarks/startup.py [--runs 15]

Each in a new process, in turns with the reference of the same run: `python -c pass`. Prints the median, its spread,
the ratio to the reference, and the slowest modules of the import (python -X importtime).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = "python -c pass"
COMMANDS = {
    REFERENCE: ["-c", "pass"],
    "import orchestrator": ["-c", "import orchestrator"],
    "orchestrator --help": ["-m", "orchestrator", "--help"],
    "orchestrator run --help": ["-m", "orchestrator", "run", "--help"],
}
SLOWEST = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15)
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {len(cores)} cores, Python {platform.python_version()}")
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(asked.runs + 1):
        for name, arguments in COMMANDS.items():
            seconds = timed(arguments)
            if run:  # the first round warms the page cache and writes byte code
                times[name].append(seconds)
    reference = statistics.median(times[REFERENCE])
    print(f"\n{'command':26} {'median s':>9} {'spread':>16} {'of reference':>13} {'added s':>8}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:26} {median:9.3f} {min(taken):7.3f} - {max(taken):6.3f} {median / reference:13.1f} "
              f"{median - reference:8.3f}")
    for name in ("import orchestrator", "orchestrator --help"):
        print(f"\nslowest in {name}, ms with what they import:")
        for spent_ms, module in slowest(COMMANDS[name]):
            print(f"{spent_ms:8.1f}  {module}")


def timed(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def slowest(arguments: list[str]) -> list[tuple[float, str]]:
    """The modules that take longest with what they import, as -X importtime tells."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    spent: list[tuple[float, str]] = []
    for line in done.stderr.splitlines():
        _, _, told = line.partition("import time:")
        parts = told.split("|")
        if len(parts) == 3 and parts[1].strip().isdigit():
            spent.append((int(parts[1]) / 1000, parts[2].strip()))
    return sorted(spent, reverse=True)[:SLOWEST]


if __name__ == "__main__":
    main()
