"""What the runs left, joined by task: outcomes from the OUT files, drafts from the ledger, sums from the report."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.intents.place import Place
from orchestrator.config.loader import load_pipeline
from orchestrator.finance.records import Line, ReportQuery
from orchestrator.finance.report import build_report
from orchestrator.intervals import Interval, clopper_pearson
from orchestrator.quality.history.recorded import RecordedDraft, read_recorded
from orchestrator.store.engine import Store

MODES = ("draft_only", "validate_only", "cascade")
Outcome = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One test task, by each way of answering it: a line of OUT.jsonl each; `cascade` only where it was measured."""

    id: str
    part: str
    draft: Outcome
    validation: Outcome
    cascade: Outcome | None
    recorded: RecordedDraft

    @property
    def draft_ok(self) -> bool:
        return bool(self.draft["success"])

    @property
    def validator_ok(self) -> bool:
        return bool(self.validation["success"])

    @property
    def regretted(self) -> bool:
        """The cascade served its draft, which was wrong, and the validator is right."""
        served = self.cascade is not None and self.cascade["status"] == "accepted" and not self.cascade["success"]
        return served and self.validator_ok


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of answering the measured half; the money is in `line`, the report's own."""

    mode: str
    line: Line
    regretted: int

    @property
    def regret_interval(self) -> Interval:
        return clopper_pearson(self.regretted, self.line.runs)

    @property
    def cost(self) -> float:
        """USD of all calls."""
        (spend,) = self.line.spend
        assert spend.total is not None, "both models have a price"
        return float(spend.total.amount)

    @property
    def per_success(self) -> tuple[float, float, float]:
        """USD, with the 95% interval. Raises SystemExit where there is none to print."""
        (spend,) = self.line.spend
        found = spend.per_success
        if found.value is None or found.low is None or found.high is None:
            raise SystemExit(f"{self.mode}: no cost per success: {found.note}")
        return float(found.value), float(found.low), float(found.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    tasks: tuple[Answered, ...]
    ways: Mapping[str, Way]
    certificate: Mapping[str, Any]

    def of_part(self, part: str) -> list[Answered]:
        return [one for one in self.tasks if one.part == part]


def read(place: Place) -> Results:
    """Everything, after all runs ended."""
    drafts, lines = asyncio.run(_ledgers(place))
    outcomes = {mode: _outcomes(place, mode) for mode in MODES}
    tasks = tuple(
        Answered(
            id=task["id"], part=task["meta"]["part"], draft=(draft := outcomes["draft_only"][task["id"]]),
            validation=outcomes["validate_only"][task["id"]], cascade=outcomes["cascade"].get(task["id"]),
            recorded=drafts[draft["run_id"]],
        )
        for task in _lines(place.tasks("all").read_text(encoding="utf-8"))
    )
    return Results(
        tasks=tasks, ways=_ways(lines, [one for one in tasks if one.part == "measure"]),
        certificate=json.loads(place.certificate.read_text(encoding="utf-8")),
    )


def write_records(place: Place, results: Results) -> None:
    """records.jsonl: a line a test task, costs in USD, the features by the ledger's names for them."""
    lines = (
        {
            "id": one.id, "part": one.part, "score": one.recorded.confidence, "draft_ok": one.draft_ok,
            "validator_ok": one.validator_ok, "draft_cost": one.draft["cost_usd"],
            "validator_cost": one.validation["cost_usd"], "features": dict(one.recorded.features),
        }
        for one in results.tasks
    )
    (place.folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _ways(lines: Mapping[str, Line], measured: Sequence[Answered]) -> dict[str, Way]:
    regretted = {
        "draft_only": sum(one.validator_ok and not one.draft_ok for one in measured),
        "validate_only": 0,
        "cascade": sum(one.regretted for one in measured),
    }
    for mode, line in lines.items():
        if line.runs != len(measured):
            raise SystemExit(f"{mode}: {line.runs} of {len(measured)} tasks ended: go on with --resume")
    return {mode: Way(mode=mode, line=lines[mode], regretted=regretted[mode]) for mode in MODES}


async def _ledgers(place: Place) -> tuple[dict[str, RecordedDraft], dict[str, Line]]:
    """The draft-only run's drafts by run id, with the numbers kept of each; each run's report on the measured half."""
    loaded = load_pipeline(place.pipeline, env={**os.environ, **place.environment})
    drafts: dict[str, RecordedDraft] = {}
    lines: dict[str, Line] = {}
    for mode in MODES:
        store = await Store.open(place.store(mode))
        try:
            report = await asyncio.to_thread(build_report, store, ReportQuery(by=("part",)))
            lines[mode] = next(line for line in report.lines if line.group["part"] == "measure")
            if mode == "draft_only":
                drafts = {one.run_id: one for one in await read_recorded(store, loaded, "classify", matching=False)}
        finally:
            await store.aclose()
    return drafts, lines


def _outcomes(place: Place, mode: str) -> dict[str, Outcome]:
    return {one["id"]: one for one in _lines(place.outcomes(mode).read_text(encoding="utf-8"))}


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
