"""Days, amounts and tokens as files write them. Whatever is ambiguous is refused, never guessed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal

_PLAIN = re.compile(r"^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?([eE][+-]?\d+)?$")
_COMMA = re.compile(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$")
_SIGNS = "$€£¥"


def amount(value: object, name: str = "cost", *, comma: bool = False) -> Decimal:
    """`1234.5`, `1,234.50`, `$0.05`; with `comma` also `1.234,50`. Raises ValueError for anything else."""
    text = str(value).strip()
    bare = text.strip(_SIGNS).strip()
    if isinstance(value, bool) or not (_COMMA if comma else _PLAIN).match(bare):
        raise ValueError(f"{name} is {text!r}: write a number like {'1.234,50' if comma else '1234.50'}")
    return Decimal(bare.replace(".", "").replace(",", ".") if comma else bare.replace(",", ""))


def tokens(value: object, name: str) -> int:
    """A count; an empty cell is 0. Raises ValueError for less than 0 and for parts of a token."""
    if value is None or str(value).strip() == "":
        return 0
    found = amount(value, name)
    if found != found.to_integral_value():
        raise ValueError(f"{name} is {value!r}: tokens are counted whole")
    if found < 0:
        raise ValueError(f"{name} is {value!r}: tokens can't be negative")
    return int(found)


def utc_day(value: object, name: str = "date", pattern: str | None = None) -> date:
    """Of an ISO date or time, of epoch seconds, or of a text in the strptime `pattern`. Raises ValueError."""
    text = str(value).strip()
    try:
        if pattern is not None:
            return datetime.strptime(text, pattern).date()
        if re.fullmatch(r"\d{9,11}(\.0+)?", text):
            return datetime.fromtimestamp(int(float(text)), UTC).date()
        found = datetime.fromisoformat(text)
    except ValueError:
        like = f"as {pattern}" if pattern else "like 2026-11-22"
        raise ValueError(f"{name} is {text!r}: write a day {like}") from None
    return (found.astimezone(UTC) if found.tzinfo else found).date()


def one_day(start: object, end: object) -> date:
    """The day of a bucket from `start` to `end`. Raises ValueError where it is longer than a day."""
    day = utc_day(start, "start_time")
    if end not in (None, "") and (utc_day(end, "end_time") - day).days > 1:
        raise ValueError(f"a line from {start} to {end} is longer than a day: export by day (or hour)")
    return day
