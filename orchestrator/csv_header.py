"""The delimiter of a CSV file, by its header: spreadsheets of many countries write semicolons, others tabs."""

from __future__ import annotations

import csv
import io

DELIMITERS = (",", ";", "\t")


def delimiter_of(text: str) -> str:
    """The one that parts the first line into the most cells; a comma where none does.

    Cells in quotes may hold the others. Raises csv.Error for a first line that is not CSV by any of them.
    """
    first = text.lstrip("\ufeff").partition("\n")[0].rstrip("\r")
    return max(DELIMITERS, key=lambda one: len(next(csv.reader(io.StringIO(first), delimiter=one), ())))
