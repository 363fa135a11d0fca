"""Published costs per success, reproduced from the ledger. `python -m benchmarks.bellwether DATA`

3,128 real attempts of public models on checkable tasks go through the store as calls and outcomes, one pipeline a
published file; then `build_report` says what each file's successes cost: total spend, failures included, over
successes. Every published aggregate that has a success is compared (171); the others say infinite, and so must we.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

from orchestrator.finance.records import Line, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.records import Money, Usage
from orchestrator.store.engine import Store
from orchestrator.store.entries import CallIntent, CallSettlement, ConfigEntry, OutcomeEntry, RunClaim

CLOSE = 1e-6
"""Relative: the publishers summed floats, and rounded some."""


async def record(store: Store, file: str, attempts: list[dict[str, Any]]) -> None:
    """One file's attempts: a run for each instance and run, a call for each attempt."""
    await store.record_config(ConfigEntry(
        config_id=file, pipeline=file, version="1", owner="", cost_center="", mode="cascade", body_json="{}",
        created_at=1.0,
    ))
    runs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in attempts:
        runs[f"{file}|{one['instance']}|{one['run']}"].append(one)
    await store.claim([
        RunClaim(run_id=run, pipeline=file, tenant="", task_key=run, task_digest="", config_id=file) for run in runs
    ])
    await asyncio.gather(*(
        _call(store, file, run, i, one) for run, several in runs.items() for i, one in enumerate(several)
    ))
    await store.finish([
        OutcomeEntry(
            run_id=run, pipeline=file, tenant="", config_id=file, status="accepted", ended_at=3.0,
            success=any(one["passed"] for one in several), success_source="label",
        )
        for run, several in runs.items()
    ])


async def _call(store: Store, file: str, run: str, i: int, one: dict[str, Any]) -> None:
    call = f"{run}|{i}"
    await store.intend(CallIntent(
        call_id=call, run_id=run, pipeline=file, step="s", role="draft", attempt=i + 1, sample=0, model=one["model"],
        provider=one["provider"], endpoint="", request_key=call,
    ))
    nano = int((one["cost_usd"] * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    await store.settle(CallSettlement(
        call_id=call, state="settled", ended_at=2.0, usage=Usage(input=one["in"], output=one["out"]),
        cost=Money(nano=nano), provenance="provider",
    ))


def quotient(line: Line) -> Decimal | None:
    """All that was spent over the known successes; None where there are none."""
    if not line.successes:
        return None
    total = line.spend[0].total
    nano = Fraction(total.nano if total else 0) / line.successes
    return Decimal(round(nano * 1000)).scaleb(-12)


async def compare(folder: Path, data: Path) -> int:
    attempts: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for text in (data / "attempts.jsonl").read_text().splitlines():
        one = json.loads(text, parse_float=Decimal)
        attempts[one["file"]].append(one)
    published = [json.loads(text) for text in (data / "reported_aggregates.jsonl").read_text().splitlines()]
    store = await Store.open(f"sqlite:///{folder}/store.db")
    for file, several in attempts.items():
        await record(store, file, several)
    report = await asyncio.to_thread(build_report, store, ReportQuery(by=("pipeline",)))
    await store.aclose()
    lines = {line.group["pipeline"]: line for line in report.lines}
    same = compared = infinite = withheld = 0
    for one in published:
        said, line = one["aggregate"], lines[one["file"]]
        found = quotient(line)
        if (line.runs, line.successes) != (said["n_instances"], said["n_successes"]):
            print(f"{one['file']}: {line.successes} of {line.runs} succeeded, published {said['n_successes']}")
        elif found is None:
            infinite += said["effective_tcot_infinite"]
        else:
            compared += 1
            withheld += line.spend[0].per_success.value is None
            close = abs(float(found) - said["effective_tcot"]) <= CLOSE * abs(said["effective_tcot"])
            same += close
            if not close:
                print(f"{one['file']}: {found} a success, published {said['effective_tcot']}")
    calls = sum(line.calls for line in report.lines)
    print(f"{calls:,} attempts in the ledger, {len(published)} published aggregates")
    print(f"total spend over successes: {same} of {compared} comparable ones reproduced")
    print(f"without a success: {infinite} of {len(published) - compared} are infinite there, and not given here")
    print(f"of the {compared}, the report withholds {withheld}: too few successes for an interval")
    return 0 if same == compared and infinite == len(published) - compared else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with attempts.jsonl and reported_aggregates.jsonl")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(compare(Path(folder), asked.data))


if __name__ == "__main__":
    sys.exit(main())
