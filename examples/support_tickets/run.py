"""Support tickets in two steps: a classifier of our own sorts them, and an order's line becomes JSON.

    python -m examples.support_tickets.run                     in the root of the checkout, offline
    python -m examples.support_tickets.run sqlite:///FILE      keeps the ledger, for `orchestrator explain`
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from orchestrator import Outcome, Pipeline
from orchestrator.finance.render import render
from orchestrator.finance.report import build_report

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "pipelines" / "support_tickets" / "pipeline.yaml"
TICKETS = Path(__file__).with_name("tickets.jsonl")


def main(store: str = "memory:") -> None:
    asyncio.run(sort_tickets(store))


async def sort_tickets(store: str) -> None:
    tickets = [json.loads(line) for line in TICKETS.open(encoding="utf-8")]
    async with Pipeline.load(PIPELINE, store=store) as pipeline:
        outcomes = [outcome async for outcome in pipeline.amap(tickets, concurrency=16)]
        for outcome in sorted(outcomes, key=lambda one: one.id or ""):
            show(outcome)
        summarise(outcomes)
        print(render(build_report(await pipeline.astore()), "table"))


def show(outcome: Outcome) -> None:
    """Each step decides for itself: its rule and the explanation are part of the outcome."""
    print(f"{outcome.id}: {outcome.status}, {json.dumps(outcome.value, ensure_ascii=False)}")
    for step in outcome.steps.values():
        if step.skipped:
            print(f"    {step.step}: skipped")
        elif step.decision is not None:
            print(f"    {step.step}: {step.status} by {step.decision.rule!r}: {step.decision.explanation}")


def summarise(outcomes: list[Outcome]) -> None:
    handed_off = sum(outcome.status == "handed_off" for outcome in outcomes)
    extracts = [outcome.steps["extract"] for outcome in outcomes if "extract" in outcome.steps]
    extracted = sum(not step.skipped for step in extracts)
    right = sum(outcome.success is True for outcome in outcomes)
    print(f"\n{len(outcomes)} tickets: {handed_off} handed to a person, {extracted} order lines, {right} right\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
