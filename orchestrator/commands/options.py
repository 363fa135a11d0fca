"""Options and types of argument that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from orchestrator.records import Money

DEFAULT_STORE = "sqlite:///orchestrator.db"

Command = Callable[..., Any]

existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
file_or_folder = click.Path(exists=True, path_type=Path)
any_path = click.Path(path_type=Path)

pipeline_argument = click.argument("pipeline", type=file_or_folder)
store_option = click.option(
    "--store", default=DEFAULT_STORE, envvar="ORCHESTRATOR_STORE", show_default=True, show_envvar=True, metavar="URL",
    help="Where the ledger lies: sqlite:///FILE or postgresql://…",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")


class MoneyType(click.ParamType[Any]):
    """`20USD` or `20 USD`: an exact amount."""

    name = "money"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Money:
        from orchestrator.config.quantities import parse_money

        try:
            return parse_money(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class BetweenZeroAndOne(click.ParamType[Any]):
    """A probability that is neither 0 nor 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0.0 < number < 1.0:
            percent = _percent(value)
            hint = f": write {percent:g}" if percent is not None else ""
            self.fail(f"{value!r} is not a number between 0 and 1{hint}", param, ctx)
        return number


def _percent(value: Any) -> float | None:
    """What a percentage is as a share: `3%`, or 3."""
    try:
        share = float(str(value).strip().rstrip("%")) / 100.0
    except ValueError:
        return None
    return share if 0.0 < share < 1.0 else None
