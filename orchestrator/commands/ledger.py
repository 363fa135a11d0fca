"""report, outcome, handoffs, explain, forget: what the ledger holds, and what people add to it."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import any_path, existing_file, json_option, store_option
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.finance.render import Format
    from orchestrator.store.engine import Store

TABLE_WIDTH = 160
"""Of a report that goes to a file or a pipe."""

verdict_option = click.option("--success/--failure", default=None, help="How it turned out.")
reason_option = click.option("--reason", default="", help="Why, in words.")


@click.command(short_help="What each successful outcome cost.")
@click.option("--month", metavar="YYYY-MM", help="One month.")
@click.option("--from", "since", metavar="D", help="From this day or time on (ISO 8601).")
@click.option("--to", "until", metavar="D", help="Up to this day or time, which is outside.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of the period, like Europe/Berlin.")
@click.option("--by", default="pipeline", show_default=True, metavar="A,B",
              help="Group by pipeline, version, owner, cost_center, mode, tenant or an allow-listed tag.")
@click.option("--pipeline", metavar="NAME", help="This pipeline only.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("-o", "--output", type=any_path, help="Write to this file instead of stdout.")
@store_option
@json_option
def report(
    month: str | None, since: str | None, until: str | None, tz: str, by: str, pipeline: str | None, format_: Format,
    output: Path | None, store: str, as_json: bool,
) -> None:
    """What each successful outcome cost, and how much of that is measured.

    Opens with what counts as a success and how it is known; unpriced and unsettled calls stand at the top. Periods
    are half-open.

    \b
    Examples:
      orchestrator report --month 2026-11
      orchestrator report --from 2026-11-01 --to 2026-11-08 --by pipeline,cost_center --format csv -o week.csv
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.finance.period import parse_period
    from orchestrator.finance.records import ReportQuery
    from orchestrator.finance.render import render
    from orchestrator.finance.report import build_report

    columns = tuple(name for part in by.split(",") if (name := part.strip()))
    period = parse_period(month=month, since=since, until=until, tz=tz)
    query = ReportQuery(pipeline=pipeline, by=columns, period=period)
    made = with_store(store, lambda opened: asyncio.to_thread(build_report, opened, query))
    to_terminal = output is None and sys.stdout.isatty()
    width = click.get_current_context().terminal_width or _columns() if to_terminal else TABLE_WIDTH
    text = render(made, "json" if as_json else format_, width=width)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        click.echo(f"written to {output}", err=True)


@click.command(short_help="Record how a run turned out.")
@click.argument("run_id", required=False)
@verdict_option
@reason_option
@click.option("--file", "file", type=existing_file, help="A CSV file with the columns run_id, success, reason.")
@store_option
def outcome(run_id: str | None, success: bool | None, reason: str, file: Path | None, store: str) -> None:
    """Record how a run turned out, once it is known: the strongest evidence of success there is.

    Rows are appended, never changed. A failure also removes the answers that led to it from the cache.

    \b
    Examples:
      orchestrator outcome r_01J… --failure --reason "customer corrected the quantity"
      orchestrator outcome --file feedback.csv
    """
    from orchestrator.commands.feedback_file import Feedback, read_feedback
    from orchestrator.commands.opened import with_store

    if file is not None and run_id is None and success is None:
        rows = read_feedback(file)
    elif file is None and run_id is not None and success is not None:
        rows = [Feedback(run_id, success, reason)]
    else:
        raise click.UsageError("give RUN_ID with --success or --failure, or --file FEEDBACK.csv alone")

    async def record(opened: Store) -> None:
        for row in rows:  # all are looked up before the first is written: the file is taken whole or not at all
            if await opened.stored_outcome(row.run_id) is None:
                raise InputError(f"the store has no run {row.run_id!r} with an outcome", hint="nothing was recorded")
        for row in rows:
            await opened.record_feedback(row.run_id, success=row.success, reason=row.reason)

    with_store(store, record)
    click.echo(f"recorded: {len(rows)}", err=True)


@click.group(short_help="Tasks given to a person: list, resolve.")
def handoffs() -> None:
    """Tasks that were given to a person."""


@handoffs.command("list")
@click.option("--pipeline", metavar="NAME", help="Of this pipeline only.")
@click.option("--all", "everything", is_flag=True, help="Resolved ones too.")
@store_option
@json_option
def list_handoffs(pipeline: str | None, everything: bool, store: str, as_json: bool) -> None:
    """Show what waits for a person, oldest first.

    \b
    Example:
      orchestrator handoffs list --pipeline order_lines --json
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json, print_table

    found = with_store(store, lambda opened: opened.handoffs(pipeline=pipeline, open_only=not everything))
    if as_json:
        print_json(found)
        return
    rows = [
        (one.run_id, one.pipeline, one.step, _when(one.created_at), one.reason,
         _when(one.resolved_at) if one.resolved_at else "open")
        for one in found
    ]
    print_table(("run", "pipeline", "step", "since", "why", "resolved"), rows)


@handoffs.command("resolve")
@click.argument("run_id")
@click.option("--value", metavar="JSON", help="The person's answer, as JSON.")
@click.option("--value-file", type=existing_file, help="The same, from a file.")
@verdict_option
@reason_option
@store_option
def resolve_handoff(
    run_id: str, value: str | None, value_file: Path | None, success: bool | None, reason: str, store: str
) -> None:
    """Close a hand-off with what the person decided.

    \b
    Example:
      orchestrator handoffs resolve r_01J… --value '{"item": "widget", "qty": 2}' --success
    """
    from orchestrator.commands.opened import with_store

    if success is None:
        raise click.UsageError("say how it turned out: --success or --failure")
    if value is not None and value_file is not None:
        raise click.UsageError("give --value or --value-file, not both")
    answer = _json(value_file.read_text(encoding="utf-8") if value_file else value)
    with_store(store, lambda opened: opened.resolve_handoff(run_id, value=answer, success=success, reason=reason))
    click.echo(f"resolved: {run_id}", err=True)


@click.command(short_help="Tell the way of one run, and why.")
@click.argument("run_id")
@store_option
@json_option
def explain(run_id: str, store: str, as_json: bool) -> None:
    """Tell the way of one run: what was asked, measured, decided and paid, by which rule and why.

    \b
    Example:
      orchestrator explain r_01J…
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json
    from orchestrator.finance.explain import explain as explained
    from orchestrator.finance.explain import explain_text

    if as_json:
        print_json(with_store(store, lambda opened: asyncio.to_thread(explained, opened, run_id)))
    else:
        text = with_store(store, lambda opened: asyncio.to_thread(explain_text, opened, run_id))
        click.echo(text.rstrip("\n"))


@click.command(short_help="Erase what was said; accounts stay.")
@click.option("--task", "tasks", multiple=True, metavar="ID", help="The task of this id (may be repeated).")
@click.option("--tenant", metavar="T", help="All tasks of this tenant.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_option
def forget(tasks: tuple[str, ...], tenant: str | None, yes: bool, store: str) -> None:
    """Erase what was said: inputs, prompts, drafts, answers and values. Accounts and decisions stay.

    A task id is looked for in every pipeline and tenant of the store.

    \b
    Examples:
      orchestrator forget --task t1
      orchestrator forget --tenant acme --yes
    """
    from orchestrator.commands.opened import with_store

    if bool(tasks) == (tenant is not None):
        raise click.UsageError("give --task ID or --tenant T")
    whom = f"tenant {tenant!r}" if tenant is not None else f"task {', '.join(map(repr, tasks))}"
    if not yes and sys.stdin.isatty():
        click.confirm(f"Erase all content of {whom}? This can't be undone", abort=True, err=True)

    async def erase(opened: Store) -> Any:
        return await opened.forget(task_keys=[opened.digest(b"id:" + task.encode()) for task in tasks], tenant=tenant)

    done = with_store(store, erase)
    click.echo(f"erased of {whom}: {done.runs} runs, {done.contents} texts, {done.answers} cached answers", err=True)
    if done.open_runs:
        click.echo(f"{done.open_runs} of these runs are not done: forget again once they are", err=True)


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"the value is not JSON: {error}") from None
