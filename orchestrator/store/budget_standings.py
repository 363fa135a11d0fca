"""Every budget as it stands in the present bucket of time: what `orchestrator budget show` prints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection, select

from orchestrator.config.budget import SPANS, bucket, set_in_store, who_of, who_of_file
from orchestrator.records import Money
from orchestrator.store import budget_accounts, budget_limits
from orchestrator.store.entries import BudgetLine
from orchestrator.store.statements import table
from orchestrator.store.tables import Budget, Event

_budget, _event = table(Budget), table(Event)
_SCOPE = re.compile(r"budget (['\"])(.+?)\1: ")

State = Literal["open", "past soft limit", "refusing", "spent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetStanding:
    """`who` and `span` as `budget set` takes them; `source` is the pipeline's file or the store. `left` is what may
    still be reserved, never below zero; the bucket is over at `resets_at` (epoch seconds, None: never). `refused` is in
    how many buckets, this one and earlier ones, a call did not fit; `state` refusing: one did not in this one."""

    who: str
    span: str
    bucket: str
    resets_at: float | None
    source: Literal["file", "store"]
    limit: Money
    soft: Money | None
    spent: Money
    reserved: Money
    left: Money
    overrun: Money
    state: State
    refused: int = 0


def standings(connection: Connection, now: float, tasks: bool = False) -> list[BudgetStanding]:
    """The limits of the store, and those of pipeline files that a call has met in the present bucket. `tasks`: those of
    tasks under way, too."""
    rows = {
        row.scope: row for row in connection.execute(
            select(_budget) if tasks else select(_budget).where(~_budget.c.scope.startswith("task:"))
        )
    }
    of_store = [_of_store(connection, limit, rows, now) for limit in budget_limits.listed(connection)]
    refusals = _refusals(connection)
    found = (replace(one, refused=refusals[scope.rpartition(":")[0] if one.bucket else scope])
             for scope, one in (*of_store, *_of_files(rows, now)))
    return sorted(found, key=lambda one: (one.source == "file", one.who, _place(one.span)))


def _refusals(connection: Connection) -> Counter[str]:
    """In how many buckets each limit refused a call, by its account without the bucket. There is an event for the first
    refusal in a bucket, and another where the limit was changed since: one bucket counts once."""
    told = connection.execute(select(_event.c.detail).where(_event.c.kind == "budget_refused")).scalars()
    scopes = {found[2] for detail in told if (found := _SCOPE.match(detail))}
    whole = Counter(scopes)
    whole.update(Counter(scope.rpartition(":")[0] for scope in scopes))
    return whole


def _place(span: str) -> int:
    return SPANS.index(span) if span in SPANS else len(SPANS)


def _of_store(connection: Connection, limit: Any, rows: dict[str, Any], now: float) -> tuple[str, BudgetStanding]:
    span = bucket(limit.span, now)
    line = budget_limits.line_of(limit, span)
    row = rows.get(line.scope)
    kept = budget_accounts.as_the_ledger_has_it(connection, line) if row is None else budget_accounts.stored(row)
    refuses = row is not None and row.refused_at is not None
    return line.scope, _standing(
        str(who_of(limit.who)), limit.span, span.name, span.until, "store", line, kept, refuses)


def _of_files(rows: dict[str, Any], now: float) -> Iterator[tuple[str, BudgetStanding]]:
    for scope, row in rows.items():
        span, _, rest = scope.partition(":")
        who, _, name = rest.partition(":")
        kept = budget_accounts.stored(row)
        soft = None if row.soft_nano is None else Money(nano=row.soft_nano, currency=row.currency)
        line = BudgetLine(scope=scope, limit=kept.limit, soft=soft)
        if span == "task":
            yield scope, _standing(f"task:{rest}", span, "", None, "file", line, kept, row.refused_at is not None)
        elif not set_in_store(scope) and span in SPANS and (now_is := bucket(span, now)).name == name:
            yield scope, _standing(
                who_of_file(who), span, name, now_is.until, "file", line, kept, row.refused_at is not None)


def _standing(
    who: str, span: str, name: str, until: float | None, source: Literal["file", "store"], line: BudgetLine,
    kept: budget_accounts.StoredBudget, refuses: bool,
) -> BudgetStanding:
    left = max(0, line.limit.nano - kept.spent.nano - kept.reserved.nano)
    past = line.soft is not None and kept.spent.nano >= line.soft.nano
    state: State = "past soft limit" if past else "open"
    if refuses or kept.spent.nano >= line.limit.nano:
        state = "spent" if kept.spent.nano >= line.limit.nano else "refusing"
    return BudgetStanding(
        who=who, span=span, bucket=name, resets_at=until, source=source, limit=line.limit, soft=line.soft,
        spent=kept.spent, reserved=kept.reserved, left=Money(nano=left, currency=line.limit.currency),
        overrun=kept.overrun, state=state,
    )
