"""The idle time of rented GPUs in the numerator: the whole bill of closed hours in place of their usage cost.

A call's share of its hour, beyond its use, is its line's. An hour without a call is nobody's by itself: it is spread
over all that used that GPU in the period, by what each bore of the other hours. **What the lines bear and what nobody
bears sum to the bill.**
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import Connection

from orchestrator.finance.allocation import idle_lines, split
from orchestrator.finance.configured import APART, CALIBRATION
from orchestrator.finance.lines import CallLine, read_call_lines
from orchestrator.finance.period import Period
from orchestrator.finance.scope import Group
from orchestrator.store.allocations import rented


@dataclass(frozen=True, slots=True)
class Beyond:
    """What a group's calls of one currency bear of closed hours beyond their usage cost, in billionths; `pending`
    calls ran in hours that have not closed, and stand at their usage cost."""

    nano: int
    pending: int


def counts(line: CallLine) -> bool:
    """Is it a part of the numerator."""
    return line.role not in APART and line.mode != CALIBRATION


def beyond_usage(
    connection: Connection, period: Period, pipeline: str | None, lines: Iterable[CallLine],
    group_of: Callable[[CallLine], Group],
) -> dict[tuple[Group, str], Beyond]:
    """By group and currency, where a rented GPU was used. `lines` are of `pipeline`, or of all where it is None."""
    models = {version: entry.model for version, entry in rented(connection).items()}
    if not models:
        return {}
    lines = list(lines)
    found: dict[tuple[Group, str], list[int]] = {}
    for line in lines:
        if line.allocated is not None and line.currency and counts(line):
            sums = found.setdefault((group_of(line), line.currency), [0, 0])
            sums[0] += line.allocated - (line.cost or 0)  # no cost: the calls went on under another configuration
            sums[1] += line.pending
    spread = _spread(connection, period, models, lines if pipeline is None else None)
    for line in lines:
        if counts(line) and (share := spread.get(_place(line))):
            found.setdefault((group_of(line), line.currency or ""), [0, 0])[0] += share
    return {place: Beyond(*sums) for place, sums in found.items()}


_Place = tuple[object, ...]


def _place(line: CallLine) -> _Place:
    """What tells one line of a period from all others."""
    return (
        line.pipeline, line.version, line.owner, line.cost_center, line.mode, line.tenant,
        tuple(sorted(line.tags.items())), line.step, line.role, line.provider, line.endpoint, line.model,
        line.account, line.tier, line.state, line.provenance, line.currency, line.price_version,
    )


def _spread(
    connection: Connection, period: Period, models: Mapping[str, str], lines: list[CallLine] | None
) -> dict[_Place, int]:
    """Hours without a call, over the lines of their GPU by what these bore of the others."""
    idle: dict[tuple[str, str], int] = {}
    for hour in idle_lines(connection, period):
        idle[hour.model, hour.currency] = idle.get((hour.model, hour.currency), 0) + hour.nano
    if not idle:
        return {}
    if lines is None:
        lines = read_call_lines(connection, period=period, grain="period")
    shares: dict[_Place, int] = {}
    for (model, currency), bill in sorted(idle.items()):
        bearing = [
            line for line in lines
            if line.allocated and line.currency == currency and models.get(line.price_version or "") == model
        ]
        bearing.sort(key=lambda line: tuple(map(str, _place(line))))
        if bearing:
            parts = split(bill, [Fraction(line.allocated or 0) for line in bearing])
            shares.update({_place(line): part for line, part in zip(bearing, parts, strict=True)})
    return shares
