"""What the calls of a run cost in one step, and could have cost, by role: a sum, or None where a part is unknown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, literal, select

from orchestrator.records import TOKEN_CLASSES, Money
from orchestrator.store.calls import money
from orchestrator.store.statements import among, table
from orchestrator.store.tables import CallRow

_call = table(CallRow)


@dataclass(frozen=True, slots=True)
class CallCosts:
    """Of a run's calls in one step: by role, the sums of what they cost and of what was reserved for them, in each
    currency; None stands for what is not known."""

    costs: dict[str, list[Money | None]]
    bounds: dict[str, list[Money | None]]

    def of(self, *roles: str) -> Money | None:
        """Their cost; None where a part is unknown, in several currencies, or none was asked."""
        return _sum([one for role in roles for one in self.costs.get(role, ())])

    def bound(self, *roles: str) -> Money | None:
        """The most they could have cost, in the same way."""
        return _sum([one for role in roles for one in self.bounds.get(role, ())])

    def asked(self, *roles: str) -> bool:
        return any(role in self.costs for role in roles)


NONE_ASKED = CallCosts({}, {})


def _sum(amounts: Sequence[Money | None]) -> Money | None:
    if len(amounts) < 2:
        return amounts[0] if amounts else None
    known = [one for one in amounts if one is not None]
    if not known or len(known) < len(amounts):
        return None
    currencies = {one.currency for one in known if one.nano} or {known[0].currency}
    return None if len(currencies) > 1 else Money(nano=sum(one.nano for one in known), currency=currencies.pop())


def call_costs(connection: Connection, step_id: str, run_ids: Sequence[str]) -> dict[str, CallCosts]:
    """Of the runs that asked anything, by id."""
    found: dict[str, CallCosts] = {}
    for row in connection.execute(_SPENT, {"of_step": step_id, "among": list(run_ids)}):
        costs = found.setdefault(row.run_id, CallCosts(defaultdict(list), defaultdict(list)))
        costs.costs[row.role].append(None if row.unknown else money(int(row.nano), row.currency))
        costs.bounds[row.role].append(None if row.unbounded else money(int(row.bound), row.bound_currency))
    return found


def _spent() -> Select[Any]:
    """Of what was answered, or may have been: a request that was refused or never left used no tokens."""
    c = _call.c
    tokens: Any = sum((func.coalesce(c[f"{name}_tokens"], 0) for name in TOKEN_CLASSES), literal(0))
    refused = and_(c.state == "settled", c.input_tokens.is_not(None), tokens == 0)
    return (
        select(
            c.run_id, c.role, c.currency, c.bound_currency,
            func.sum(func.coalesce(c.cost_nano, 0)).label("nano"),
            func.sum(case((c.cost_nano.is_(None), 1), else_=0)).label("unknown"),
            func.sum(func.coalesce(c.bound_nano, 0)).label("bound"),
            func.sum(case((c.bound_nano.is_(None), 1), else_=0)).label("unbounded"),
        )
        .where(among(c.run_id), c.step == bindparam("of_step"), ~refused)
        .group_by(c.run_id, c.role, c.currency, c.bound_currency)
    )


_SPENT = _spent()
