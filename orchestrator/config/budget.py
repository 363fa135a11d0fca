"""Limits on money: `budget:` of a pipeline file, whose spending a budget counts, and the spans of time it runs over.

A budget's `scope` names its account: `SPAN:WHO:BUCKET`, such as `day:order_lines:2026-11-22`, or `task:RUN_ID`.
Buckets are of UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import lru_cache
from typing import Literal, get_args
from urllib.parse import quote, unquote

from pydantic import model_validator

from orchestrator.config.quantities import Amount, ExactShare
from orchestrator.config.strict import Strict
from orchestrator.records import Money

Span = Literal["hour", "day", "month", "total"]
SPANS: tuple[Span, ...] = get_args(Span)
KEYS: dict[Span, str] = {"hour": "per_hour", "day": "per_day", "month": "per_month", "total": "total"}


class SpanLimits(Strict):
    """At most so much in each UTC hour, day and month, and ever."""

    per_hour: Amount | None = None
    per_day: Amount | None = None
    per_month: Amount | None = None
    total: Amount | None = None

    def spans(self) -> Iterator[tuple[Span, Money]]:
        for span, key in KEYS.items():
            if (limit := getattr(self, key)) is not None:
                yield span, limit


class BudgetConfig(SpanLimits):
    """`budget:` of a pipeline. `tenants` limits each of its tenants; `soft` is where a warning is due, of each limit
    but a task's; `when_spent` says what becomes of a task that finds one of them spent."""

    per_task: Amount | None = None
    soft: ExactShare | None = None
    tenants: SpanLimits = SpanLimits()
    when_spent: Literal["hand_off", "fail"] = "hand_off"

    @model_validator(mode="after")
    def _one_currency(self) -> BudgetConfig:
        own = {key: limit for key in (*KEYS.values(), "per_task") if (limit := getattr(self, key)) is not None}
        named = own | {f"tenants.{KEYS[span]}": limit for span, limit in self.tenants.spans()}
        first = next(iter(named), "")
        for key, limit in named.items():
            if limit.currency != named[first].currency:
                raise ValueError(f"`{first}:` and `{key}:` are in two currencies")
        if self.soft is not None and named.keys() <= {"per_task"}:
            raise ValueError("`soft:` warns of a limit by the hour, the day, the month or in total: give one")
        return self

    @property
    def limited(self) -> bool:
        return self.currency is not None

    @property
    def currency(self) -> str | None:
        """Of all limits; None where there is none."""
        limits = [limit for _, limit in (*self.spans(), *self.tenants.spans())]
        limits += [self.per_task] if self.per_task else []
        return limits[0].currency if limits else None


def soft_of(limit: Money, share: Decimal | None) -> Money | None:
    if share is None:
        return None
    return Money(nano=int((limit.nano * share).to_integral_value(ROUND_FLOOR)), currency=limit.currency)


# -- whose spending ----------------------------------------------------------------------------------------------------

Kind = Literal["all", "pipeline", "tenant", "cost_center"]
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Who:
    """Whose spending a limit of the store counts: everything, or one pipeline's, tenant's or cost centre's."""

    kind: Kind
    name: str = ""

    @property
    def key(self) -> str:
        return EVERYTHING if self.kind == "all" else f"{self.kind}={_quoted(self.name)}"

    def __str__(self) -> str:
        return "all" if self.kind == "all" else f"{self.kind}:{self.name}"


@lru_cache(maxsize=4096)
def whose(pipeline: str, tenant: str, cost_center: str) -> tuple[str, ...]:
    """The keys of all that a call of these counts for."""
    named: tuple[tuple[Kind, str], ...] = (("pipeline", pipeline), ("tenant", tenant), ("cost_center", cost_center))
    return (EVERYTHING, *(Who(kind, name).key for kind, name in named))


def who_of(key: str) -> Who:
    kind, _, name = key.partition("=")
    return Who("all") if key == EVERYTHING else Who(kind, unquote(name))  # type: ignore[arg-type]  # as `key` wrote it


def tenant_of_pipeline(pipeline: str, tenant: str) -> str:
    """The WHO of a pipeline file's `budget.tenants`."""
    return f"{pipeline}/tenant={_quoted(tenant)}"


def set_in_store(scope: str) -> bool:
    """Is the limit of this account one of `orchestrator budget set`."""
    who = scope.split(":")[1]
    return who == EVERYTHING or ("=" in who and "/" not in who)


def who_of_file(key: str) -> str:
    """The WHO of a pipeline file's budget, in words."""
    pipeline, _, tenant = key.partition("/tenant=")
    return f"pipeline:{pipeline}" + (f" tenant:{unquote(tenant)}" if tenant or key != pipeline else "")


def parse_who(value: str) -> Who:
    """`all`, `pipeline:NAME`, `tenant:NAME` or `cost_center:NAME`. Raises ValueError."""
    kind, colon, name = value.partition(":")
    if value == "all":
        return Who("all")
    if kind in ("pipeline", "tenant", "cost_center") and colon:
        return Who(kind, name)  # type: ignore[arg-type]  # as tested
    raise ValueError(f"{value!r} is not all, pipeline:NAME, tenant:NAME or cost_center:NAME")


def _quoted(name: str) -> str:
    """No space, colon or slash is left: scopes are listed with spaces between them."""
    return quote(name, safe="")


# -- spans of time -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour, day or month of UTC, half-open in epoch seconds; a total has no end."""

    span: Span
    name: str
    since: float
    until: float | None

    def scope(self, who: str) -> str:
        return f"{self.span}:{who}:{self.name}" if self.name else f"{self.span}:{who}"


def bucket(span: Span, at: float) -> Bucket:
    """The bucket that `at` (epoch seconds) falls in."""
    return _bucket(span, int(at // 3600))


@lru_cache(maxsize=256)
def _bucket(span: Span, hour: int) -> Bucket:
    start = datetime.fromtimestamp(hour * 3600, UTC)
    match span:
        case "hour":
            return Bucket(span, f"{start:%Y-%m-%dT%H}", start.timestamp(), start.timestamp() + 3600)
        case "day":
            day = start.replace(hour=0)
            return Bucket(span, f"{day:%Y-%m-%d}", day.timestamp(), day.timestamp() + 86400)
        case "month":
            month = start.replace(day=1, hour=0)
            following = (month + timedelta(days=32)).replace(day=1)
            return Bucket(span, f"{month:%Y-%m}", month.timestamp(), following.timestamp())
        case "total":
            return Bucket(span, "", 0.0, None)


def moment(until: float | None) -> str:
    """When a budget resets, in words."""
    return f"it resets at {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC" if until is not None \
        else "it never resets"
