"""Tables of plain text, as a terminal of a given width shows them."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def plain_console(width: int) -> tuple[Console, io.StringIO]:
    """A console, and the text that is printed on it."""
    from rich.console import Console

    text = io.StringIO()
    return Console(file=text, width=width, force_terminal=False, highlight=False, markup=False, emoji=False), text


def new_table(title: str, *columns: str, words: Collection[str] = ()) -> Table:
    """Without rows. The first column and those of `words` stand on the left, figures on the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if not i or column in words else "right", overflow="fold")
    return table
