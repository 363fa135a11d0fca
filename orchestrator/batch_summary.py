"""What a file run did, counted outcome by outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.cascade.again import reason_of
from orchestrator.cascade.run import Run
from orchestrator.cascade.settle import sum_money
from orchestrator.cascade.spent import Spent
from orchestrator.records import Call, Outcome
from orchestrator.worst_case import WorstCase


@dataclass(slots=True, kw_only=True)
class RunSummary:
    """What a file run did. `tasks`, `by_status`, `known_by` and `succeeded_by` (by what says so: the sources of
    docs/outcomes.md; "validator" is its own word) are of all its tasks, `resumed` of which were done before,
    `otherwise` of these under another configuration: `changed` says by name in what, and for how many. `undone` are
    those without an answer through no fault of their own, by reason.

    The rest is of this run: `again` tasks were done again, `left_open` were begun and not ended when the sum of
    `--max-cost` was spent; `checked` spot checks were answered, `checked_right` of which found the draft right, and
    `checks_waiting` tells of others; costs per currency, of which `spent_afterwards` on spot checks and baselines;
    `unpriced_calls` that used tokens without a price, and `unsettled_calls` that may be billed although no usable
    answer came. `worst_case` and `typical` are of the `remaining` tasks, those that were not done before."""

    tasks: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    known_by: Counter[str] = field(default_factory=Counter)
    succeeded_by: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    otherwise: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    undone: Counter[str] = field(default_factory=Counter)
    again: int = 0
    left_open: int = 0
    written: int = 0
    skipped: int = 0
    rejected: int = 0
    escalated: int = 0
    checked: int = 0
    checked_right: int = 0
    checks_waiting: str = ""
    spent: dict[str, int] = field(default_factory=dict)
    spent_afterwards: dict[str, int] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    unpriced_calls: int = 0
    unsettled_calls: int = 0
    remaining: int = 0
    worst_case: WorstCase | None = None
    typical: str = ""
    out: Path | None = None
    rejected_file: Path | None = None
    stopped: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 where all tasks are done, 1 where some failed, were rejected, or the run was stopped."""
        return 1 if self.by_status["failed"] or self.rejected or self.stopped else 0

    @property
    def known(self) -> int:
        """Tasks whose success is known, if only by the validator's own word."""
        return self.known_by.total()

    @property
    def succeeded(self) -> int:
        return self.succeeded_by.total()

    def count(self, run: Run, outcome: Outcome, changed: Collection[str] = ()) -> None:
        """One more task is done; `changed` since it was, where it was done before."""
        self.tasks += 1
        self.by_status[outcome.status] += 1
        self.resumed += outcome.resumed
        self.otherwise += bool(changed)
        self.changed.update(changed)
        self.escalated += run.escalated
        if (reason := reason_of(outcome)) is not None:
            self.undone[reason] += 1
        if outcome.success is not None:
            self.known_by[outcome.success_source] += 1
            self.succeeded_by[outcome.success_source] += outcome.success
        if outcome.resumed:
            return
        self.again += bool(outcome.again_of)
        self._count_calls(outcome.calls)
        for money in sum_money(run.saved)[0]:
            self.saved[money.currency] = self.saved.get(money.currency, 0) + money.nano

    def count_left(self, run: Run) -> None:
        """One that was begun and did not end: what it cost is spent."""
        self.left_open += 1
        self._count_calls(run.calls)

    def _count_calls(self, calls: Iterable[Call]) -> None:
        spent = Spent()
        spent.add(calls)
        self.add(spent)

    def add(self, more: Spent) -> None:
        """What was spent besides the outcomes."""
        for currency, nano in more.nano.items():
            self.spent[currency] = self.spent.get(currency, 0) + nano
        self.unpriced_calls += more.unpriced
        self.unsettled_calls += more.unsettled
