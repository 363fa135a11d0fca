"""What a file run looks at before its first task: that every model answers, which tasks are done, and what the others
may cost at most."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.cascade.admit import check_task, filled, key_of
from orchestrator.errors import InputError, Outage, UnpricedCall
from orchestrator.finance.phrases import counted
from orchestrator.records import Money
from orchestrator.store.spending import done_among
from orchestrator.task_file import Line, Size, read

if TYPE_CHECKING:
    from orchestrator.batch import RunOptions
    from orchestrator.batch_summary import RunSummary
    from orchestrator.cascade.runtime import Runtime


LOOKED_UP = 500
"""Tasks that the store is asked for at once: which are done."""


async def reachable(rt: Runtime) -> None:
    """Every model with an address must answer before the first task is taken."""
    used = {m.alias: m for s in rt.steps for m in (s.drafter, s.validator) if m is not None}
    for model in used.values():
        if model.config.kind not in ("vllm", "openai"):
            continue
        found = await model.client.probe()
        if not any(probe.ok for probe in found):
            words = "; ".join(f"{p.endpoint}: {p.detail}" for p in found)
            raise Outage(
                f"model {model.alias!r} can't be reached: {words}",
                hint="start it (`orchestrator drafter up PIPELINE`), or correct `endpoints:`", sent=False,
            )


async def remaining(options: RunOptions, rt: Runtime, whole: Size) -> Size:
    """The size of what is not done yet. Where nothing at the file's beginning is done, that is taken as all of it: a
    new file is not read twice."""
    left, any_done = Size(lines=0, size_bytes=0), False
    lines = read(options.tasks, task_bytes=rt.config.limits.task_bytes, schema=rt.loaded.task_schema)
    taken = islice(lines, options.limit)
    while group := list(islice(taken, LOOKED_UP)):
        sizes = _sizes(group, rt)
        done = await asyncio.to_thread(_done, sizes, rt)
        if not done and not any_done:
            return whole
        any_done = True
        for size in (size for key, size in sizes.items() if key not in done):
            left = Size(
                lines=left.lines + 1, size_bytes=left.size_bytes + size, longest=max(left.longest, size)
            )
    return left


def _sizes(lines: Iterable[Line], rt: Runtime) -> dict[tuple[str, str], int]:
    """The bytes of each task as it is sent, by its tenant and key; lines that will be rejected are left out."""
    sizes: dict[tuple[str, str], int] = {}
    for line in lines:
        try:
            task = filled(line.task, rt.loaded.task_schema) if line.task is not None else None
            body = check_task(task, rt) if task is not None else b""
        except InputError:
            continue
        if task is not None:
            sizes[task.tenant, rt.store.digest(key_of(task, line.number, body) or b"")] = len(body)
    return sizes


def _done(tasks: Iterable[tuple[str, str]], rt: Runtime) -> set[tuple[str, str]]:
    """Those that this run will find done, and leave so."""
    keys: dict[str, list[str]] = {}
    for tenant, key in tasks:
        keys.setdefault(tenant, []).append(key)
    with rt.store.read() as connection:
        return {
            (tenant, key) for tenant, some in keys.items()
            for key in done_among(connection, rt.config.pipeline, tenant, some, answered=rt.again is not None)
        }


def ask(options: RunOptions, summary: RunSummary, lines: int, rt: Runtime) -> None:
    """Say what it will cost if it goes on as before, and what it can cost at most, all `lines` or those that are left
    of them; ask where the most is above the limit.
    Raises InputError where the answer is no, and UnpricedCall where --strict-prices refuses."""
    worst, typical = summary.worst_case, summary.typical
    assert worst is not None
    if worst.unpriced and options.strict_prices:
        raise UnpricedCall(f"no price for {', '.join(worst.unpriced)} (--strict-prices)")
    some = f" of the {counted(summary.remaining, 'task')} left" if summary.remaining < lines else ""
    words = f"worst case{some}: " + (" + ".join(str(c) for c in worst.costs) or "unknown")
    if worst.unpriced:
        words += f", without {', '.join(worst.unpriced)}, which the price book does not hold"
    if options.progress is not None:
        if typical:
            options.progress.note(typical)
        options.progress.note(words + " (every task drafted as often as allowed, and escalated)")
    if typical:
        words = f"{typical}; {words}"
    for limit, asked, told in _limits(options, rt):
        above = any(cost.currency == limit.currency and cost.nano > limit.nano for cost in worst.costs)
        if above and not options.yes:
            question = f"{words}. The worst case is above {asked}, which stops the run there. Go on?"
            if options.confirm is None or not options.confirm(question):
                words = f"not started: the worst case is above {told}"
                raise InputError(words, hint="give --yes to start all the same")
            return


def _limits(options: RunOptions, rt: Runtime) -> Iterator[tuple[Money, str, str]]:
    """What would stop the run, as a question names it, and a refusal."""
    if options.max_cost is not None:
        named = f"--max-cost {options.max_cost}"
        yield options.max_cost, named, named
    if (limit := _tightest(rt)) is not None:
        yield limit, f"the limit of {limit}", f"the budget of {limit}"


def _tightest(rt: Runtime) -> Money | None:
    """The smallest limit of the pipeline's file on what all tasks together may cost."""
    return min((limit for _, limit in rt.config.budget.spans()), key=lambda limit: limit.nano, default=None)
