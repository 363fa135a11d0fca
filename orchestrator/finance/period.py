"""Which days a report covers: half-open, in the reader's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """`since` <= t < `until`, aware times; None is open."""

    since: datetime | None = None
    until: datetime | None = None
    tz: str = "UTC"

    @property
    def since_at(self) -> float | None:
        return None if self.since is None else self.since.timestamp()

    @property
    def until_at(self) -> float | None:
        return None if self.until is None else self.until.timestamp()

    def __str__(self) -> str:
        if self.since is None and self.until is None:
            return "all recorded time"
        since = f"from {self.since:%Y-%m-%d %H:%M}" if self.since else "from the start"
        until = f"to before {self.until:%Y-%m-%d %H:%M}" if self.until else "to now"
        return f"{since} {until} ({self.tz})"


def parse_period(
    *, month: str | None = None, since: str | None = None, until: str | None = None, tz: str = "UTC",
    options: tuple[str, str] = ("--from", "--to"),
) -> Period:
    """`month` is YYYY-MM; `since` and `until` are days or times in ISO 8601, local to `tz` unless they say otherwise.

    `until` itself is outside; `options` are what the command calls the two. Raises InputError for anything else, and
    for a period that ends before it starts.
    """
    zone = _zone(tz)
    start: datetime | None
    end: datetime | None
    if month is not None:
        if since is not None or until is not None:
            raise InputError("give --month, or --from and --to, not both")
        start, end = _month(month, zone)
    else:
        start = None if since is None else _time(since, options[0], zone)
        end = None if until is None else _time(until, options[1], zone)
    if start is not None and end is not None and end <= start:
        words = f"the period ends at {until!r}, not after its start {since!r}"
        raise InputError(f"{words}: {options[1]} is the day after the last")
    return Period(since=start, until=end, tz=tz)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is no time zone: write one like Europe/Berlin") from error


def _month(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    try:
        first = datetime.strptime(text, "%Y-%m").replace(tzinfo=zone)
    except ValueError as error:
        raise InputError(f"{text!r} is no month: write it like 2026-11") from error
    following = date(first.year, first.month, 28) + timedelta(days=4)
    return first, datetime(following.year, following.month, 1, tzinfo=zone)


def _time(text: str, option: str, zone: tzinfo) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} is {text!r}: write a day like 2026-11-01") from error
    return found if found.tzinfo else found.replace(tzinfo=zone)
