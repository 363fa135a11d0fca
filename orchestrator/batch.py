"""A file of tasks through the pipeline: bounded, resumable, with the worst-case bill first and no line lost.

**The same command resumes**: OUT holds what was yielded, the store what was done; only the rest is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.batch_start import ask, reachable
from orchestrator.cascade.again import Reason, reason_of, wanted
from orchestrator.cascade.run import Run, new_id
from orchestrator.cascade.settle import sum_money
from orchestrator.cascade.spent import Spent
from orchestrator.errors import Cancelled, ConfigChanged, DuplicateTask, EscalationPaused
from orchestrator.outcome_file import OutcomeFile, RejectedFile, append_private, handed_off_line
from orchestrator.pipeline import DEFAULT_STORE, Pipeline
from orchestrator.records import Mode, Money, Outcome, Task
from orchestrator.task_file import measure, read
from orchestrator.worst_case import WorstCase, typical, worst_case

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime
    from orchestrator.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `orchestrator run` was asked to do. `again`: what ended for these reasons is done again. `confirm` is asked
    where the worst case exceeds the budget."""

    pipeline: Path
    tasks: Path
    out: Path | None = None
    store: str = DEFAULT_STORE
    concurrency: int = 64
    limit: int | None = None
    handed_off: Path | None = None
    max_failures: int | None = None
    max_cost: Money | None = None
    strict_prices: bool = False
    resume_with_changes: bool = False
    again: tuple[Reason, ...] = ()
    yes: bool = False
    mode: Mode | None = None
    confirm: Callable[[str], bool] | None = None
    progress: Progress | None = None


@dataclass(slots=True, kw_only=True)
class RunSummary:
    """What a file run did. `tasks`, `by_status`, `succeeded` and `known` are of all its tasks, `resumed` of which were
    done before; `undone` are those without an answer through no fault of their own, by reason. The rest is of this run:
    `again` tasks were done again; costs per currency, of which `spent_afterwards` on spot checks and baselines;
    `unpriced_calls` that used tokens without a price, and `unsettled_calls` that may be billed although no usable
    answer came."""

    tasks: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    undone: Counter[str] = field(default_factory=Counter)
    again: int = 0
    written: int = 0
    skipped: int = 0
    rejected: int = 0
    escalated: int = 0
    succeeded: int = 0
    known: int = 0
    spent: dict[str, int] = field(default_factory=dict)
    spent_afterwards: dict[str, int] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    unpriced_calls: int = 0
    unsettled_calls: int = 0
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


def run_file(options: RunOptions) -> RunSummary:
    """Run the file. Raises InputError (exit 2) on wrong input, Outage (exit 3) where an endpoint can't be reached."""
    spare_the_collector()
    return asyncio.run(arun_file(options))


def spare_the_collector() -> None:
    """For a process that does nothing but run tasks: set what is loaded apart from Python's garbage collector, and
    have it look less often. A fifth of the time of a cached answer is spent there otherwise. A service may do the
    same once it has started; a library does not do it unasked."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def arun_file(options: RunOptions) -> RunSummary:
    """`run_file` inside an event loop."""
    started = time.perf_counter()
    size = measure(options.tasks, options.limit)
    pipeline = Pipeline.load(options.pipeline, store=options.store, mode=options.mode, in_file=True)
    summary = RunSummary(out=options.out)
    async with pipeline:
        rt = await pipeline.runtime()
        rt.strict_config, rt.again = not options.resume_with_changes, wanted(options.again)
        await reachable(rt)
        summary.worst_case = worst_case(size, rt)
        summary.typical = typical(size.lines, await rt.store.spent_so_far(rt.config.pipeline))
        ask(options, summary.worst_case, summary.typical, rt)
        await pipeline.take_up_spot_checks()
        with contextlib.ExitStack() as files:
            await _run(options, pipeline, rt, summary, files, size.lines)
        await _wait_for_checks(options, rt, summary)
    summary.seconds = time.perf_counter() - started
    return summary


async def _run(
    options: RunOptions, pipeline: Pipeline, rt: Runtime, summary: RunSummary, files: contextlib.ExitStack, total: int
) -> None:
    out = files.enter_context(OutcomeFile(options.out, beside=options.handed_off))
    await out.belongs_to(rt.store)
    rejects = files.enter_context(RejectedFile(options.out))
    handed = files.enter_context(append_private(options.handed_off)) if options.handed_off else None
    if options.progress is not None:
        options.progress.start(total)
    ids = _Ids()
    runs = _runs(options, rt, summary, rejects, ids)
    async with contextlib.aclosing(pipeline.flow(runs, concurrency=options.concurrency)) as done:
        async for run in done:
            if run.outcome is None:
                _refused(run, summary, rejects, ids)
            else:
                _count(run, run.outcome, summary)
                if out.write(run.outcome):
                    summary.written += 1
                    if handed is not None and run.outcome.status == "handed_off":
                        handed.write(handed_off_line(run.task, run.outcome))
                else:
                    summary.skipped += 1
            _stop_where(options, summary, rt.afterwards)
            if options.progress is not None:
                options.progress.show(summary, rt.notices)
    if options.progress is not None:
        options.progress.finish(summary)
    summary.rejected_file = rejects.path if summary.rejected else None


def _runs(
    options: RunOptions, rt: Runtime, summary: RunSummary, rejects: RejectedFile, ids: _Ids
) -> Iterator[Run]:
    """Lines of the task file as runs, until something says stop."""
    taken = 0
    for line in read(options.tasks, task_bytes=rt.config.limits.task_bytes, schema=rt.loaded.task_schema):
        if summary.stopped or (options.limit is not None and taken >= options.limit):
            return
        taken += 1
        if line.task is None:
            assert line.error is not None
            summary.rejected += 1
            rejects.write(line.number, line.error, line.text)
            continue
        ids.note(line.task, line.number)
        yield Run(task=line.task, run_id=new_id("r", rt.clock()), line=line.number)


def _stop_where(options: RunOptions, summary: RunSummary, afterwards: Spent) -> None:
    if summary.stopped:
        return
    failed = summary.by_status["failed"]
    if options.max_failures is not None and failed >= options.max_failures:
        summary.stopped = f"{failed} tasks failed (--max-failures {options.max_failures})"
    most = options.max_cost
    if most is not None:
        spent = summary.spent.get(most.currency, 0) + afterwards.nano.get(most.currency, 0)
        summary.stopped = f"{most} are spent (--max-cost)" if spent >= most.nano else ""


async def _wait_for_checks(options: RunOptions, rt: Runtime, summary: RunSummary) -> None:
    """Spot checks and baselines are made off the answers' path, some after the last one: they are spent, too."""
    if options.progress is not None and rt.background:
        options.progress.note("waiting for the last spot checks and baselines")
    await rt.quiet()
    later = rt.afterwards
    summary.spent_afterwards = later.nano
    for currency, nano in later.nano.items():
        summary.spent[currency] = summary.spent.get(currency, 0) + nano
    summary.unpriced_calls += later.unpriced
    summary.unsettled_calls += later.unsettled


def _refused(run: Run, summary: RunSummary, rejects: RejectedFile, ids: _Ids) -> None:
    """A task that never became a run: the line is rejected, or the whole run stops."""
    error = run.error or Cancelled("not run")
    if isinstance(error, ConfigChanged):
        raise error
    if isinstance(error, EscalationPaused):
        summary.stopped = str(error)
        return
    if isinstance(error, DuplicateTask) and (first := ids.first(run.task)) not in (None, run.line):
        words = f"lines {first} and {run.line} of the file have the same id, {run.task.id!r}, with other content"
        error = DuplicateTask(words)
    summary.rejected += 1
    rejects.write(run.line or 0, error, f"id {run.task.id!r}")


class _Ids:
    """The line that each task's id stood on first, for the latest ids only: all of them would grow with the file."""

    MOST = 20_000

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[str, str | None], int] = OrderedDict()

    def note(self, task: Task, line: int) -> None:
        if task.id is not None:
            self._lines.setdefault((task.tenant, task.id), line)
        if len(self._lines) > self.MOST:
            self._lines.popitem(last=False)

    def first(self, task: Task) -> int | None:
        return self._lines.get((task.tenant, task.id))


def _count(run: Run, outcome: Outcome, summary: RunSummary) -> None:
    summary.tasks += 1
    summary.by_status[outcome.status] += 1
    summary.resumed += outcome.resumed
    summary.escalated += run.escalated
    if (reason := reason_of(outcome)) is not None:
        summary.undone[reason] += 1
    if outcome.success is not None:
        summary.known += 1
        summary.succeeded += outcome.success
    if outcome.resumed:
        return
    summary.again += bool(outcome.again_of)
    for money in outcome.costs:
        summary.spent[money.currency] = summary.spent.get(money.currency, 0) + money.nano
    for money in sum_money(run.saved)[0]:
        summary.saved[money.currency] = summary.saved.get(money.currency, 0) + money.nano
    unknown = Counter(call.state for call in outcome.calls if call.cost is None)
    summary.unpriced_calls += unknown["settled"]
    summary.unsettled_calls += unknown["unsettled"]
