"""handoffs, explain, forget: what the ledger holds, and what people add to it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import existing_file, json_option, store_option
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.store.engine import Store
    from orchestrator.store.retention import Forgotten

verdict_option = click.option("--success/--failure", default=None, help="How it turned out.")
reason_option = click.option("--reason", default="", help="Why, in words.")


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
         f"{_when(one.resolved_at)}{' (done again)' * one.done_again}" if one.resolved_at else "open")
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

    A task id is looked for in every pipeline and tenant of the store, and among what calibrations made of it; of a
    log that was assessed, line 12 is the task LOGS.jsonl:12. Files that a run wrote (--out, --handed-off, rejected
    lines) are yours to erase.

    \b
    Examples:
      orchestrator forget --task t1
      orchestrator forget --tenant acme --yes
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.finance.phrases import counted

    if bool(tasks) == (tenant is not None):
        raise click.UsageError("give --task ID or --tenant T")
    whom = f"tenant {tenant!r}" if tenant is not None else f"task {', '.join(map(repr, tasks))}"
    if not yes and sys.stdin.isatty():
        click.confirm(f"Erase all content of {whom}? This can't be undone", abort=True, err=True)

    done, unknown = with_store(store, lambda opened: _erase(opened, tasks, tenant))
    counts = ((done.runs, "run"), (done.contents, "text"), (done.answers, "cached answer"))
    click.echo(f"erased of {whom}: {', '.join(counted(n, what) for n, what in counts)}", err=True)
    if done.open_runs:
        click.echo(f"{done.open_runs} of these runs are not done: forget again once they are", err=True)
    if unknown:
        raise _no_run_of(f"task {', '.join(map(repr, unknown))}")


async def _erase(opened: Store, tasks: Sequence[str], tenant: str | None) -> tuple[Forgotten, list[str]]:
    """(what was erased, the ids that no run is recorded of). Raises InputError where that is all of them."""
    from orchestrator.store.copies import copies_of, known_keys, tenants

    keys = {task: opened.digest(b"id:" + task.encode()) for task in tasks}

    def look() -> tuple[set[str], dict[str, str], list[str]]:
        with opened.read() as connection:
            if tenant is not None:
                return set(), {}, tenants(connection)
            return known_keys(connection, list(keys.values())), copies_of(connection, tasks), []

    known, copies, seen = await asyncio.to_thread(look)
    unknown = [task for task, key in keys.items() if key not in known and task not in copies.values()]
    if tenant is not None and tenant not in seen:
        near = get_close_matches(tenant, seen, 1)
        raise _no_run_of(f"tenant {tenant!r}", f"did you mean {near[0]!r}?" if near else None)
    if unknown and len(unknown) == len(keys):
        raise _no_run_of(f"task {', '.join(map(repr, unknown))}")
    return await opened.forget(task_keys=sorted(known), run_ids=sorted(copies), tenant=tenant), unknown


def _no_run_of(whom: str, hint: str | None = None) -> InputError:
    return InputError(
        f"the store holds no run of {whom}",
        hint=hint or "ids are looked for to the letter; one that was forgotten is not known any more; --store names "
        "another store",
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"the value is not JSON: {error}") from None
