"""outcome: what people learned of runs after they ended, one by one or by the file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.commands.options import existing_file, json_option, store_option

if TYPE_CHECKING:
    from orchestrator.commands.feedback_file import FeedbackRow
    from orchestrator.store.engine import Store
    from orchestrator.store.learned import Ended, FeedbackEntry

AT_ONCE = 10_000
"""Rows looked up between two strokes of the bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """`late` of the rows came after the feedback window of their pipeline."""

    recorded: int
    known: int
    late: int
    overruled: tuple[str, ...]

    @property
    def words(self) -> str:
        parts = [f"recorded: {self.recorded:,}"]
        if self.known:
            parts.append(f"{self.known:,} said before, nothing changed")
        if self.late:
            parts.append(f"{self.late:,} after the feedback window of their pipeline: they count all the same")
        return "; ".join(parts)


@click.command(short_help="Record how a run turned out.")
@click.argument("run_id", required=False)
@click.option("--success", "succeeded", is_flag=True, help="It turned out well.")
@click.option("--failure", "failed", is_flag=True, help="It did not.")
@click.option("--reason", default="", help="Why, in words.")
@click.option("--task", "task_id", metavar="ID", help="The run of the task of this id, of --pipeline.")
@click.option("--pipeline", metavar="NAME", default="", help="The pipeline of --task, or of a file's task ids.")
@click.option("--tenant", metavar="T", default="", help="The tenant, likewise.")
@click.option("--file", "file", type=existing_file,
              help="CSV or JSON lines (.jsonl): run_id, or task_id with pipeline and tenant; success; reason; at.")
@store_option
@json_option
def outcome(
    run_id: str | None, succeeded: bool, failed: bool, reason: str, task_id: str | None, pipeline: str, tenant: str,
    file: Path | None, store: str, as_json: bool,
) -> None:
    """Record how a run turned out, once it is known: the strongest evidence of success there is.

    Rows are appended, never changed; the last word counts. A failure also removes the answers that led to it from the
    cache. A file is taken whole or not at all. The same file, or the same word, twice changes nothing.

    \b
    Examples:
      orchestrator outcome r_01J… --failure --reason "customer corrected the quantity"
      orchestrator outcome --task t1 --pipeline order_lines --success
      orchestrator outcome --file feedback.csv
    """
    from orchestrator.commands.feedback_file import FeedbackRow, read_feedback
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json

    if succeeded and failed:
        raise click.UsageError("give --success or --failure, not both")
    success = succeeded if succeeded or failed else None
    one = (run_id is None) != (task_id is None)
    if file is not None and run_id is None and task_id is None and success is None:
        rows = read_feedback(file, now=time.time(), pipeline=pipeline, tenant=tenant)
    elif file is None and one and success is not None:
        if task_id is not None and not pipeline:
            raise click.UsageError("--task needs --pipeline NAME: task ids are a pipeline's own")
        rows = [FeedbackRow(line=0, run_id=run_id or "", task_id=task_id or "", pipeline=pipeline, tenant=tenant,
                            success=success, reason=reason, at=None)]
    else:
        raise click.UsageError("give RUN_ID (or --task) with --success or --failure, or --file FEEDBACK.csv alone")
    taken = with_store(store, lambda opened: _take(opened, rows, file))
    if as_json:
        print_json(taken)
    else:
        click.echo(taken.words, err=True)
    for run in taken.overruled[:10]:
        click.echo(f"run {run}: this was said before and overruled since, which stands; give `at` to say it again",
                   err=True)


async def _take(store: Store, rows: Sequence[FeedbackRow], file: Path | None) -> Recorded:
    """Look up every row's run before the first is written."""
    from orchestrator.progress import bar
    from orchestrator.store.learned import MOST, FeedbackEntry, FeedbackTaken, late

    with bar("looking up runs", -(-len(rows) // AT_ONCE)) as step:
        run_ids = await _runs(store, rows)
        ended: dict[str, Ended] = {}
        for start in range(0, len(rows), AT_ONCE):
            ended.update(await store.ended_runs([one for one in run_ids[start : start + AT_ONCE] if one]))
            step()
    _refuse_unknown(store, [row for row, run_id in zip(rows, run_ids, strict=True) if run_id not in ended], file)
    entries = [
        FeedbackEntry(run_id=run_id, success=row.success, reason=row.reason, at=row.at)
        for row, run_id in zip(rows, run_ids, strict=True)
    ]
    count = late(entries, ended, _windows(store), time.time())
    if file is None:
        return await _take_one(store, entries[0], count)
    taken = FeedbackTaken()
    with bar("recording", -(-len(entries) // MOST)) as step:
        for start in range(0, len(entries), MOST):
            taken += await store.record_feedbacks(entries[start : start + MOST])
            step()
    late_ones = count if taken.recorded else 0
    return Recorded(recorded=taken.recorded, known=taken.known, late=late_ones, overruled=taken.overruled)


async def _take_one(store: Store, entry: FeedbackEntry, late: int) -> Recorded:
    """Said before, and still what counts: nothing changes. Overruled since: a person who says it again means it."""
    taken = await store.record_feedbacks([entry])
    if taken.overruled:
        await store.record_feedback(entry.run_id, success=entry.success, reason=entry.reason)
    known = 0 if taken.overruled else taken.known
    return Recorded(recorded=1 - known, known=known, late=0 if known else late, overruled=())


async def _runs(store: Store, rows: Sequence[FeedbackRow]) -> list[str]:
    """The run id of each row; that of an unknown task is empty."""
    places: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        if row.task_id:
            places.setdefault((row.pipeline, row.tenant), set()).add(row.task_id)
    known = {place: await store.runs_of_tasks(*place, sorted(ids)) for place, ids in places.items()}
    return [row.run_id or known[row.pipeline, row.tenant].get(row.task_id, "") for row in rows]


def _refuse_unknown(store: Store, rows: Sequence[FeedbackRow], file: Path | None) -> None:
    from orchestrator.commands.feedback_file import SHOWN, refuse

    bad = []
    for place, row in enumerate(rows):
        where = f"{file}:{row.line}: " if file is not None else ""
        tenant = f", tenant {row.tenant!r}" if row.tenant else ""
        what = f"run {row.run_id!r}" if row.run_id else f"task {row.task_id!r} of pipeline {row.pipeline!r}{tenant}"
        elsewhere = _elsewhere(store, row) if row.task_id and place < SHOWN else ""
        bad.append(f"{where}the store has no {what} with an outcome{elsewhere}")
    refuse(bad)


def _elsewhere(store: Store, row: FeedbackRow) -> str:
    """Where the task is known under other tenants, or has not ended."""
    from orchestrator.store.learned import tenants_of_task

    with store.read() as connection:
        tenants = tenants_of_task(connection, row.pipeline, store.digest(b"id:" + row.task_id.encode()))
    if row.tenant in tenants:
        return " yet"
    named = [f"--tenant {tenant}" if tenant else "no --tenant" for tenant in tenants]
    return f"; it has the task under another tenant: give {' or '.join(named)}" if named else ""


def _windows(store: Store) -> dict[str, float]:
    """Feedback windows in seconds, by configuration."""
    from orchestrator.finance.configured import read_configs

    with store.read() as connection:
        return {config.config_id: config.feedback_window_s for config in read_configs(connection, None)}
