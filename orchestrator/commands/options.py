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


class Parsed(click.ParamType[Any]):
    """A value read by `parse`, which raises ValueError with what is wrong with it."""

    def __init__(self, name: str, parse: Callable[[Any], Any]) -> None:
        self.name, self._parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _money(value: Any) -> Money:
    from orchestrator.config.quantities import parse_money

    return parse_money(value)


def _between_zero_and_one(value: Any) -> float:
    """Raises ValueError that says what a percentage (`3%`, or 3) is as a share."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if 0.0 < number < 1.0:
        return number
    try:
        share = float(str(value).strip().rstrip("%")) / 100.0
    except ValueError:
        share = 0.0
    raise ValueError(f"{value!r} is not a number between 0 and 1" + (f": write {share:g}" if 0.0 < share < 1.0 else ""))


MONEY = Parsed("money", _money)
"""`20USD` or `20 USD`: an exact amount."""
SHARE = Parsed("share", _between_zero_and_one)
"""A probability that is neither 0 nor 1."""
