"""Options and types of argument that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from decimal import Decimal

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


def _exact_share(value: Any) -> Decimal:
    from orchestrator.config.quantities import parse_inner_share

    return parse_inner_share(value)


def _share(value: Any) -> float:
    return float(_exact_share(value))


MONEY = Parsed("money", _money)
"""`20USD` or `20 USD`: an exact amount."""
SHARE = Parsed("share", _share)
"""`3%` or `0.03`: neither 0 nor 1."""
EXACT_SHARE = Parsed("share", _exact_share)
"""The same, of money."""
