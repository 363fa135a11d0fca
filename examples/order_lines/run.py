"""A file of order lines through the pipeline, from Python: what `orchestrator run` does, then the cost report.

    python -m examples.order_lines.run [FOLDER]                in the root of the checkout, offline

FOLDER (out/order_lines if left out) takes the outcomes and the ledger; the same command again does only what is left.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from orchestrator.batch import RunOptions, run_file
from orchestrator.finance.render import render
from orchestrator.finance.report import build_report
from orchestrator.store.engine import Store

ROOT = Path(__file__).resolve().parents[2]


def main(folder: str = "out/order_lines") -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    store = f"sqlite:///{out / 'orchestrator.db'}"
    summary = run_file(RunOptions(
        pipeline=ROOT / "pipelines" / "order_lines" / "pipeline.yaml",
        tasks=ROOT / "examples" / "order_lines" / "data" / "example.csv",
        out=out / "done.jsonl", store=store, yes=True,
    ))
    print((out / "done.jsonl").read_text(encoding="utf-8"))
    print(f"{summary.tasks} tasks, {summary.escalated} escalated, {summary.resumed} done before\n")
    asyncio.run(print_report(store))


async def print_report(url: str) -> None:
    store = await Store.open(url)
    try:
        print(render(build_report(store), "table"))
    finally:
        await store.aclose()


if __name__ == "__main__":
    main(*sys.argv[1:])
