"""The idle time of rented GPUs in the numerator: the whole bill of closed hours in place of their usage cost.

A call's share of its hour, beyond its use, is its line's. An hour without a call is nobody's by itself: it is spread
over all that used that GPU in the period, by what each bore of the other hours. **What the lines bear and what nobody
bears sum to the bill.**
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import Connection

from orchestrator.finance.allocation import read_idle
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.charges import read_charges
from orchestrator.finance.configured import APART
from orchestrator.finance.period import Period
from orchestrator.finance.scope import Group
from orchestrator.store.allocations import rented, split


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a group's calls of one currency bear of closed hours beyond their usage cost, in billionths; `pending`
    calls ran in hours that have not closed, and stand at their usage cost."""

    nano: int
    pending: int


def beyond_usage(
    connection: Connection, period: Period, pipeline: str | None, charges: Sequence[Charge],
    group_of: Callable[[Charge], Group],
) -> dict[tuple[Group, str], Beyond]:
    """By group and currency, where a rented GPU was used. `charges` are of `pipeline`, or of all where it is None."""
    models = {version: entry.model for version, entry in rented(connection).items()}
    if not models:
        return {}
    found: dict[tuple[Group, str], list[int]] = {}
    for one in charges:
        if one.allocated is not None and one.currency and one.role not in APART:
            sums = found.setdefault((group_of(one), one.currency), [0, 0])
            sums[0] += one.allocated.nano - (one.cost.nano if one.cost else 0)  # no cost: see `focus_split.of_use`
            sums[1] += one.pending
    for one, part in _spread(connection, period, models, charges if pipeline is None else None):
        if part and one.role not in APART and pipeline in (None, one.pipeline):
            found.setdefault((group_of(one), one.currency or ""), [0, 0])[0] += part
    return {place: Beyond(*sums) for place, sums in found.items()}


def _spread(
    connection: Connection, period: Period, models: Mapping[str, str], charges: Sequence[Charge] | None
) -> Iterator[tuple[Charge, int]]:
    """Hours without a call, over the charges of their GPU, in all pipelines, by what these bore of the others."""
    idle: dict[tuple[str, str], int] = {}
    for one in read_idle(connection, period):
        idle[one.model, one.cost.currency] = idle.get((one.model, one.cost.currency), 0) + one.cost.nano
    if idle and charges is None:
        charges = read_charges(connection, period=period, grain="period")
    for (model, currency), bill in sorted(idle.items()):
        bearing = [
            (one, one.allocated.nano) for one in charges or ()
            if one.allocated and one.allocated.nano and one.currency == currency
            and models.get(one.price_version or "") == model
        ]
        if bearing:
            parts = split(bill, [Fraction(nano) for _, nano in bearing])
            yield from zip((one for one, _ in bearing), parts, strict=True)
