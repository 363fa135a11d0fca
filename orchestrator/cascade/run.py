"""A run: a task on its way through the house. The only mutable record; each stage moves its runs on."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.records import (
    Call,
    Decision,
    Draft,
    Money,
    Outcome,
    Request,
    Signal,
    StepResult,
    Task,
    Verdict,
)

if TYPE_CHECKING:
    from orchestrator.telemetry import Spans


class Stage(StrEnum):
    """Where a run is. The values are the names of the graph's nodes."""

    ADMIT = "admit"
    SCREEN = "screen"
    RECALL = "recall"
    DRAFT = "draft"
    WEIGH = "weigh"
    DECIDE = "decide"
    VALIDATE = "validate"
    SETTLE = "settle"
    DONE = "done"


@dataclass(slots=True)
class Kept:
    """Where an answer's signals go: beside the durable answer they were measured on."""

    tenant: str
    memo_key: str


@dataclass(slots=True)
class StepWork:
    """What one step of a run has so far. Starts afresh with each step."""

    requests: list[Request] = field(default_factory=list)
    drafts: dict[int, Draft] = field(default_factory=dict)
    kept: Kept | None = None
    kept_signals: bytes | None = None
    signals: dict[str, Signal] = field(default_factory=dict)
    features: dict[str, float | None] = field(default_factory=dict)
    decision: Decision | None = None
    verdict: Verdict | None = None
    draft_ok: bool | None = None
    attempt: int = 1
    forbid: frozenset[str] = frozenset()

    @property
    def draft(self) -> Draft | None:
        """The draft of the present attempt: its first sample."""
        return self.drafts.get(0)


@dataclass(slots=True)
class Run:
    """One task under way. `stage` and `step` say which node of the graph takes it next; `done_under` which
    configuration its outcome is of, where that was read back."""

    task: Task
    run_id: str
    task_key: str = ""
    line: int | None = None
    stage: Stage = Stage.ADMIT
    step: int = 0
    work: StepWork = field(default_factory=StepWork)
    results: dict[str, StepResult] = field(default_factory=dict)
    features: dict[str, bytes] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    saved: list[Money] = field(default_factory=list)
    slots: asyncio.Semaphore | None = None
    follow: asyncio.Future[Outcome] | None = None
    resumed: bool = False
    collecting: bool = False
    collect_at: int = 0
    escalated: bool = False
    degraded: bool = False
    recalled: bool = False
    source_run_id: str | None = None
    again_of: tuple[str, ...] = ()
    done_under: str | None = None
    kept: list[tuple[Kept, bytes]] = field(default_factory=list)
    handoff_reason: str | None = None
    checks: list[tuple[str, float]] = field(default_factory=list)
    error: OrchestratorError | None = None
    outcome: Outcome | None = None
    spans: Spans | None = None

    @property
    def collects(self) -> bool:
        """Is it at the step whose drafts a calibration collects: nothing of it is validated or served."""
        return self.collecting and self.step == self.collect_at

    def end_step(self, result: StepResult, steps: int) -> None:
        """Record how the present step ended and move on: to the next step, or to settle."""
        self.results[result.step] = result
        ended = result.status in ("handed_off", "declined", "failed")
        last = ended or self.step + 1 >= steps or self.collects
        self.stage = Stage.SETTLE if last else Stage.SCREEN
        if not last:
            self.step += 1
            self.work = StepWork()

    def view(self) -> dict[str, Any]:
        """What prompts and expressions see of the task, and of the steps before."""
        return {
            "task": {"input": self.task.input, "meta": self.task.meta},
            "steps": {k: {"value": r.value, "status": r.status, "skipped": r.skipped} for k, r in self.results.items()},
        }


def new_id(prefix: str, now: float) -> str:
    """`prefix_` + 11 hex digits of milliseconds + 16 random ones: unique, and in order of time in an index."""
    return f"{prefix}_{int(now * 1000):011x}{secrets.token_hex(8)}"
