"""A month with a little of everything, for tests of formats: three pipelines, two currencies, each kind of trouble."""

from __future__ import annotations

import random
from pathlib import Path

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.charged import build_breakdown
from orchestrator.finance.export.frozen import settled
from orchestrator.finance.period import parse_period
from orchestrator.finance.records import Report, ReportQuery
from orchestrator.finance.report import build_report
from tests.ledger import Ledger

DAY = 86400.0
NOV_2026 = 1793491200.0  # 2026-11-01T00:00:00Z
NOW = NOV_2026 + 31 * DAY
DRAFTER, VALIDATOR, ODD = "qwen3-30b-a3b", "claude-opus-4-8", "brand-new-model"


def busy_month(ledger: Ledger) -> None:
    """Costs are integers of billionths drawn by a seeded generator: the same in every run."""
    draw = random.Random(7)
    for i, (name, currency) in enumerate([("order_lines", "USD"), ("support_tickets", "USD"), ("=invoices", "EUR")]):
        ledger.config(name, config_id=name, tags=("team",), success={"feedback_window": "7d"})
        for n in range(120):
            _run(ledger, draw, name, currency, f"{i}-{n}", NOV_2026 + (n % 30) * DAY + draw.random() * DAY, i)
    ledger.call("0-1", None, pipeline="order_lines", model=ODD, bound=None, ended_at=NOV_2026 + 3 * DAY)
    ledger.call("0-2", None, pipeline="order_lines", model=VALIDATOR, state="unsettled", bound=90_000_000,
                input_tokens=None, provenance="unsettled", ended_at=NOV_2026 + 4 * DAY)
    ledger.call("0-3", 7_000_001, pipeline="order_lines", model=VALIDATOR, role="repair", provenance="estimated",
                output_tokens=31, provider="litellm", ended_at=NOV_2026 + 5 * DAY)


def _run(
    ledger: Ledger, draw: random.Random, name: str, currency: str, run_id: str, at: float, pipeline: int
) -> None:
    kind = draw.random()
    shared = {"pipeline": name, "config_id": name, "ended_at": at, "tags": {"team": "=desk()" if kind < 0.5 else "b"}}
    if kind < 0.35:
        ledger.run(run_id, propensity=0.25, **shared)  # type: ignore[arg-type]
        if draw.random() < 0.25:
            ledger.spot_check(run_id, right=draw.random() < 0.9, propensity=0.25)
    elif kind < 0.65:
        right = draw.random() < 0.9
        ledger.run(run_id, success=right, source="label", **shared)  # type: ignore[arg-type]
    elif kind < 0.95:
        ledger.run(run_id, status="repaired", success=True, source="validator", escalated=True, **shared)  # type: ignore[arg-type]
        ledger.call(run_id, draw.randrange(9_000_000, 40_000_000) * (pipeline + 1), role="repair", pipeline=name,
                    model=VALIDATOR, provider="litellm", currency=currency, output_tokens=draw.randrange(30, 90),
                    bound=200_000_000, provenance="priced", ended_at=at, account="frontier")
    else:
        ledger.run(run_id, status="handed_off", success=False, source="status", **shared)  # type: ignore[arg-type]
    ledger.call(run_id, draw.randrange(100_000, 300_000), pipeline=name, model=DRAFTER, provider="vllm",
                currency=currency, input_tokens=draw.randrange(200, 900), output_tokens=draw.randrange(20, 60),
                cache_read_tokens=draw.randrange(0, 200), bound=2_000_000, provenance="priced", ended_at=at)


def busy_report(folder: Path, *, by: tuple[str, ...] = ("pipeline",)) -> tuple[Report, Breakdown]:
    """That month's report and breakdown, as every format gets them."""
    ledger = Ledger.on_disk(folder)
    try:
        busy_month(ledger)
        report = build_report(ledger, ReportQuery(period=parse_period(month="2026-11"), by=by), now=NOW)
        return settled(report, build_breakdown(ledger, report))
    finally:
        ledger.close()
