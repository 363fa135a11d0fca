"""How long `orchestrator verify` takes on a healthy ledger, and how much memory: by the length of the ledger.

    python benchmarks/verify_speed.py [--runs 5000 30000]

Each run has one priced call under two budgets; both are sealed. Runs end over 30 days. Verification runs in a process
of its own (on Linux, for its peak of memory).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from orchestrator.config.budget import Who, bucket  # noqa: E402 - the checkout's own package
from orchestrator.config.prices import PriceEntry  # noqa: E402
from orchestrator.records import Usage  # noqa: E402
from orchestrator.store.engine import Store  # noqa: E402
from orchestrator.store.entries import BudgetLine, Covered, PriceRecord  # noqa: E402
from tests.stores import Clock, claim, config, ended, intent, settlement, usd  # noqa: E402

START, DAYS, AT_ONCE = 1_793_491_200.0, 30, 500
ENTRY = PriceEntry.model_validate({"model": "m", "per_million": {"input": "3", "output": "15"}})
PRICE = PriceRecord(version=ENTRY.version_id, model="m", body_json=ENTRY.body_json, created_at=START)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[5_000, 30_000])
    parser.add_argument("--only", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        asyncio.run(check(asked.only))
        return
    for runs in asked.runs:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/store.db"
            asyncio.run(fill(url, runs))
            subprocess.run([sys.executable, __file__, "--only", url], check=True)


async def fill(url: str, runs: int) -> None:
    clock = Clock(START)
    store = await Store.open(url, clock=clock, lease_s=1e9)
    await store.record_config(config())
    await store.set_budget(Who("all"), [("month", usd(10**18), None)])
    for first in range(0, runs, AT_ONCE):
        clock.now = START + DAYS * 86_400 * first / runs
        await asyncio.gather(*(_run(store, i, clock.now) for i in range(first, min(first + AT_ONCE, runs))))
    await store.count_runs()
    await store.aclose()


async def _run(store: Store, i: int, now: float) -> None:
    name, day, usage = f"r{i}", bucket("day", now), Usage(input=300 + i % 97, output=20 + i % 13)
    covered = Covered(since=day.since, until=day.until, pipeline="p")
    of_file = BudgetLine(scope=day.scope("p"), limit=usd(10**18), covered=covered)
    await store.claim([claim(name)])
    await store.intend(intent(name, name, bound=usd(10**9), budgets=(of_file,)))
    await store.settle(settlement(
        name, ended_at=now, usage=usage, cost=ENTRY.cost(usage), costs=ENTRY.costs(usage), price_version=PRICE.version,
    ), PRICE)
    await store.finish([ended(name, ended_at=now, success=i % 9 > 0, success_source="label")])


async def check(url: str) -> None:
    from orchestrator.finance.period import Period
    from orchestrator.finance.verify.ledger import verify

    store = await Store.open(url)
    begun = time.process_time()
    done = await asyncio.to_thread(verify, store, Period())
    seconds = time.process_time() - begun
    await store.aclose()
    print(f"{done.sealed:,} sealed rows: {seconds:.1f} s of one core, {_peak_mb():.0f} MB at most, "
          f"findings: {done.findings.count}", flush=True)
    if not done.clean:
        sys.exit(str(done.findings.kept[0]))


def _peak_mb() -> float:
    """Of this process alone: `getrusage` counts what the one that started it held."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
