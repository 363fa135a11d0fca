"""A file of tasks through the pipeline: bounded, resumable, with the worst-case bill first and no line lost.

**The same command resumes**: OUT holds what was yielded, the store what was done; only the rest is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.batch_changes import Changes
from orchestrator.batch_start import ask, reachable, remaining
from orchestrator.batch_summary import RunSummary as RunSummary
from orchestrator.cascade.again import Reason, wanted
from orchestrator.cascade.later import left_waiting
from orchestrator.cascade.purse import Purse
from orchestrator.cascade.run import Run, new_id
from orchestrator.errors import Cancelled, ConfigChanged, CostReached, DuplicateTask, EscalationPaused
from orchestrator.outcome_file import OutcomeFile, RejectedFile, append_private, handed_off_line
from orchestrator.pipeline import DEFAULT_STORE, Pipeline
from orchestrator.records import Mode, Money, Task
from orchestrator.task_file import measure, read
from orchestrator.worst_case import typical, worst_case

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
        left = await remaining(options, rt, size)
        summary.remaining, summary.worst_case = left.lines, worst_case(left, rt)
        summary.typical = typical(left.lines, await rt.store.spent_so_far(rt.config.pipeline, rt.mode))
        ask(options, summary, size.lines, rt)
        if options.max_cost is not None:
            rt.calls.purse = rt.apart.purse = Purse(options.max_cost)
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
        rt.outages.tell = options.progress.note
    ids, changes = _Ids(), Changes(rt)
    runs = _runs(options, rt, summary, rejects, ids)
    async with contextlib.aclosing(pipeline.flow(runs, concurrency=options.concurrency)) as done:
        async for run in done:
            if run.outcome is None:
                _stop_where(options, summary, rt.calls.purse)
                _refused(run, summary, rejects, ids)
            else:
                summary.count(run, run.outcome, await changes.since(run.done_under))
                if out.write(run.outcome):
                    summary.written += 1
                    if handed is not None and run.outcome.status == "handed_off":
                        handed.write(handed_off_line(run.task, run.outcome))
                else:
                    summary.skipped += 1
            _stop_where(options, summary, rt.calls.purse)
            if options.progress is not None:
                options.progress.show(summary)
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


def _stop_where(options: RunOptions, summary: RunSummary, purse: Purse | None) -> None:
    failed = summary.by_status["failed"]
    if summary.stopped:
        return
    if options.max_failures is not None and failed >= options.max_failures:
        summary.stopped = f"{failed} tasks failed (--max-failures {options.max_failures})"
    elif purse is not None:
        summary.stopped = purse.refusal


async def _wait_for_checks(options: RunOptions, rt: Runtime, summary: RunSummary) -> None:
    """Spot checks and baselines are made off the answers' path, some after the last one: they are spent, too."""
    if options.progress is not None and rt.background:
        options.progress.note("waiting for the last spot checks and baselines")
    await rt.quiet()
    summary.spent_afterwards = rt.afterwards.nano
    summary.add(rt.afterwards)
    summary.checked, summary.checked_right = rt.looked.total(), rt.looked[True]
    summary.checks_waiting = await left_waiting(rt)
    _stop_where(options, summary, rt.calls.purse)


def _refused(run: Run, summary: RunSummary, rejects: RejectedFile, ids: _Ids) -> None:
    """A task without an outcome: its line is rejected, or the whole run stops; or that left it open, and those that
    waited for it."""
    error = run.error or Cancelled("not run")
    if isinstance(error, ConfigChanged):
        raise error
    if isinstance(error, EscalationPaused):
        summary.stopped = str(error)
        return
    if isinstance(error, CostReached) or (summary.stopped and isinstance(error, Cancelled)):
        summary.count_left(run)
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
