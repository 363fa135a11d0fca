"""budget show, budget set, budget remove."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from orchestrator.commands.options import EXACT_SHARE, MONEY, Parsed, json_option, store_option

if TYPE_CHECKING:
    from decimal import Decimal

    from orchestrator.config.budget import Who
    from orchestrator.records import Money
    from orchestrator.store.budget_standings import BudgetStanding


def _who(value: Any) -> Who:
    from orchestrator.config.budget import parse_who

    return parse_who(value)


scope_argument = click.argument("scope", type=Parsed("scope", _who))


@click.group(short_help="Limits on money: show, set, remove.")
def budget() -> None:
    """Limits on money: by pipeline, tenant, cost centre or over everything, by the hour, day, month and in total.

    A pipeline's own limits stand in its file (`budget:`); those set here are kept in the store, and hold for every
    process that writes to it from the moment they are set. SCOPE is all, pipeline:NAME, tenant:NAME or
    cost_center:NAME.
    """


@budget.command()
@click.option("--tasks", is_flag=True, help="Also those of tasks under way.")
@store_option
@json_option
def show(tasks: bool, store: str, as_json: bool) -> None:
    """Every budget: its limit, what is spent, reserved and left, and when it resets (UTC).

    Status: open, past soft limit, or refusing: all is spent, or a call did not fit into what is left. "Refused in"
    counts the hours, days or months in which the limit refused a call.

    The limits of a pipeline's file are known once a call has met them.

    \b
    Example:
      orchestrator budget show
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.commands.output import note, print_json, print_table

    found = with_store(store, lambda opened: opened.budgets(tasks=tasks))
    if as_json:
        print_json([_plain(one) for one in found])
        return
    if not found:
        note("no budget is set here, and no call has met one of a pipeline's file")
        return
    columns = ("scope", "span", "limit", "soft", "spent", "reserved", "left", "overrun", "resets (UTC)", "status",
               "refused in", "set in")
    print_table(columns, [_row(one) for one in found])


@budget.command("set")
@scope_argument
@click.option("--per-hour", type=MONEY, help="At most this much in each UTC hour, like 5USD.")
@click.option("--per-day", type=MONEY, help="In each UTC day.")
@click.option("--per-month", type=MONEY, help="In each month of UTC.")
@click.option("--total", type=MONEY, help="Ever.")
@click.option("--soft", type=EXACT_SHARE, metavar="SHARE", help="Warn once this share of a limit is spent, like 80%.")
@click.option("--new", is_flag=True, help="The store has not seen SCOPE yet, and that is right.")
@store_option
def set_(scope: Who, soft: Decimal | None, new: bool, store: str, **given: Money | None) -> None:
    """Set limits for SCOPE. Running processes keep to them from their next call on.

    What was spent in the present hour, day or month counts. A limit below that is allowed: it blocks.

    \b
    Examples:
      orchestrator budget set tenant:acme --per-month "100 USD" --soft 80%
      orchestrator budget set all --per-day 50USD
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.config.budget import KEYS, soft_of

    limits = [(span, limit, soft_of(limit, soft)) for span, key in KEYS.items() if (limit := given[key]) is not None]
    if not limits:
        raise click.UsageError("give a limit: --per-hour, --per-day, --per-month or --total")
    with_store(store, lambda opened: opened.set_budget(scope, limits, new=new))
    click.echo(f"set: {', '.join(f'{limit} ({span})' for span, limit, _ in limits)} for {scope}", err=True)


def _span_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for span in ("total", "month", "day", "hour"):
        name = "--total" if span == "total" else f"--per-{span}"
        command = click.option(name, span, is_flag=True, help="This one only.")(command)
    return command


@budget.command()
@scope_argument
@_span_options
@store_option
def remove(scope: Who, store: str, **only: bool) -> None:
    """Remove the limits of SCOPE from the store: all of them, or those named.

    \b
    Example:
      orchestrator budget remove tenant:acme --per-month
    """
    from orchestrator.commands.opened import with_store
    from orchestrator.config.budget import SPANS

    named = [span for span in SPANS if only[span]] or list(SPANS)
    removed: Sequence[str] = with_store(store, lambda opened: opened.remove_budget(scope, named))
    click.echo(f"removed: {', '.join(removed)} of {scope}", err=True)


def _row(one: BudgetStanding) -> tuple[object, ...]:
    resets = "never" if one.resets_at is None else f"{datetime.fromtimestamp(one.resets_at, UTC):%Y-%m-%d %H:%M}"
    return (
        one.who, one.span, one.limit, one.soft or "", one.spent, one.reserved, one.left,
        one.overrun if one.overrun.nano else "", resets, "refusing: spent" if one.state == "spent" else one.state,
        _refused(one), one.source,
    )


def _refused(one: BudgetStanding) -> str:
    if not one.refused:
        return ""
    if one.span not in ("hour", "day", "month"):
        return "yes"
    return f"{one.refused:,} {one.span}{'s' if one.refused > 1 else ''}"


def _plain(one: BudgetStanding) -> dict[str, object]:
    resets = None if one.resets_at is None else f"{datetime.fromtimestamp(one.resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)} | {"resets_at": resets}
