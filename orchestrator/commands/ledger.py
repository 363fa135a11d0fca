"""explain, forget: what the ledger holds of one run or task, and erasing what was said."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import json_option, store_option
from orchestrator.errors import InputError

if TYPE_CHECKING:
    from orchestrator.store.engine import Store
    from orchestrator.store.retention import Forgotten


@click.command(short_help="Tell the way of one run, and why.")
@click.argument("run_id", required=False)
@click.option("--task", "task_id", metavar="ID", help="The latest run of the task of this id.")
@click.option("--pipeline", metavar="NAME", help="The pipeline of --task, where several have the id.")
@click.option("--tenant", metavar="T", help="The tenant, likewise.")
@click.option("--full", is_flag=True, help="Long texts whole.")
@click.option("--features", is_flag=True, help="The numbers kept of each draft, too.")
@store_option
@json_option
def explain(
    run_id: str | None, task_id: str | None, pipeline: str | None, tenant: str | None, full: bool, features: bool,
    store: str, as_json: bool,
) -> None:
    """Tell the way of one run: what was said (as long as it is kept), decided and paid, by which rule and why.

    \b
    Examples:
      orchestrator explain r_01J…
      orchestrator explain --task t1 --pipeline order_lines --full
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import print_json
    from orchestrator.finance.explain import explain as explained
    from orchestrator.finance.explain import explain_text

    if (run_id is None) == (task_id is None):
        raise click.UsageError("give RUN_ID or --task ID")
    if task_id is None and (pipeline is not None or tenant is not None):
        raise click.UsageError("--pipeline and --tenant are of --task: a run's id is enough")

    def look(opened: Store) -> Any:
        found = run_id or _latest_run(opened, task_id or "", pipeline, tenant)
        return explained(opened, found) if as_json else explain_text(opened, found, full=full, features=features)

    told = with_store(store, lambda opened: asyncio.to_thread(look, opened))
    if as_json:
        print_json(told)
    else:
        click.echo(told.rstrip("\n"))


def _latest_run(opened: Store, task_id: str, pipeline: str | None, tenant: str | None) -> str:
    """The run that holds the task. Raises InputError where there is none, or one in several pipelines or tenants."""
    from orchestrator.store.learned import runs_that_hold

    with opened.read() as connection:
        held = runs_that_hold(connection, opened.digest(b"id:" + task_id.encode()), pipeline, tenant)
    if not held:
        raise _no_run_of(f"task {task_id!r}{_place(pipeline, tenant)}")
    if len(held) > 1:
        runs = "; ".join(f"run {run_id}{_place(*place)}" for run_id, *place in held[:10])
        more = f"; and {len(held) - 10} more" if len(held) > 10 else ""
        raise InputError(
            f"{len(held)} runs are of a task {task_id!r}: {runs}{more}", hint="name the run, or --pipeline and --tenant"
        )
    return held[0][0]


def _place(pipeline: str | None, tenant: str | None) -> str:
    of = f" of pipeline {pipeline!r}" if pipeline is not None else ""
    return of + (f", tenant {tenant!r}" if tenant else "")


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
