"""Calls by the hour, the day or the period: the one source of what calls cost and used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, func, select

from orchestrator.finance.allocation import Share, read_shares
from orchestrator.finance.configured import config
from orchestrator.finance.hours import Hours, hours_of
from orchestrator.finance.period import Period
from orchestrator.finance.scope import OF_CONFIG, tags_of, within
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store import line_rows, lines
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import AMOUNTS, Key, Lines, Place

Grain = Literal["hour", "day", "period"]
_HOURS: Mapping[Grain, int] = {"hour": 1, "day": 24}
_sums = {name: func.sum(lines.line.c[name]).label(name) for name in AMOUNTS}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLine:
    """Calls alike in all of these that ended in one UTC hour, UTC day, or the period.

    `at` is the start of the hour or day (UTC epoch seconds; 0 for the period). `model` answered. Money is in
    billionths of `currency`: `costs` by token class sum to `cost`, None where some cost is not known by class; `cost`
    None: none of them has one, `priced` have. `bound` is what `unsettled` calls can have cost at most, save the
    `unbounded` among them. `unpriced` calls used tokens and have no price. `allocated`: their share of the
    GPU's bill of closed hours that start in the period, where the model has one, and the usage cost of the `pending`
    ones, whose hours have not closed; `late` calls, settled after their hour had closed, bear none.
    """

    at: float
    pipeline: str
    version: str
    owner: str
    cost_center: str
    mode: str
    tenant: str
    tags: Mapping[str, str]
    step: str
    role: str
    provider: str
    endpoint: str
    model: str
    account: str | None
    tier: str | None
    state: str
    provenance: str | None
    currency: str | None
    price_version: str | None
    calls: int
    tokens: Mapping[str, int]
    costs: Mapping[str, int] | None
    cost: int | None
    bound: int
    unpriced: int
    unsettled: int
    in_flight: int
    unbounded: int
    allocated: int | None = None
    priced: int = 0
    late: int = 0
    pending: int = 0


def read_call_lines(
    connection: Connection, *, period: Period, pipeline: str | None = None, grain: Grain = "hour"
) -> list[CallLine]:
    """The calls that ended in the period (that started in it, where they have not ended), in order of time."""
    configs = _configs(connection, pipeline)
    found = _whole_hours(connection, hours_of(period), grain)
    cut = _row_by_row(connection, period)
    for (hour, key), amounts in cut.items():
        lines.add(found, (_start(hour, grain), key), amounts)
    shares = _shares(connection, period, cut, grain)
    for place in shares:  # the calls of an hour that the period's end cuts may all lie outside, its bill does not
        found.setdefault(place, [0] * len(AMOUNTS))
    called = [
        _call_line(place, dict(zip(AMOUNTS, amounts, strict=True)), configs[place[1].config_id], shares.get(place))
        for place, amounts in found.items() if place[1].config_id in configs and (amounts[0] or place in shares)
    ]
    return sorted(called, key=_order)


def _shares(connection: Connection, period: Period, cut: Lines, grain: Grain) -> dict[Place, Share]:
    merged: dict[Place, Share] = {}
    for (hour, key), share in read_shares(connection, period, cut).items():
        place = _start(hour, grain), key
        merged[place] = merged.get(place, Share(0)) + share
    return merged


def _configs(connection: Connection, pipeline: str | None) -> dict[str, dict[str, str]]:
    rows = select(config.c.config_id, *(config.c[name] for name in OF_CONFIG))
    if pipeline is not None:
        rows = rows.where(config.c.pipeline == pipeline)
    return {row.config_id: {name: getattr(row, name) for name in OF_CONFIG} for row in connection.execute(rows)}


def _whole_hours(connection: Connection, hours: Hours, grain: Grain) -> Lines:
    """The hours that lie wholly in the period."""
    line, key = lines.line, lines.line_key
    start = [] if grain == "period" else [(line.c.hour - line.c.hour % _HOURS[grain]).label("start")]
    summed = (
        select(line.c.key_id, *start, *_sums.values()).where(hours.whole(line.c.hour))
        .group_by(line.c.key_id, *(column.name for column in start)).subquery("summed")
    )
    rows = connection.execute(select(summed, key).join(key, key.c.key_id == summed.c.key_id))
    return {
        (0 if grain == "period" else row.start, Key(*(getattr(row, name) for name in Key._fields))):
            [int(getattr(row, name)) for name in AMOUNTS]
        for row in rows
    }


def _row_by_row(connection: Connection, period: Period) -> Lines:
    """Calls in flight, which are in no line yet, and the hours that an edge of the period cuts."""
    call = lines.call
    found = line_rows.of_rows(connection, call.c.state == "intent", within(call.c.started_at, period))
    hours = hours_of(period)
    if hours.cut:
        edges = and_(hours.in_cut(call.c.ended_at), within(call.c.ended_at, period))
        for place, amounts in line_rows.of_rows(connection, edges).items():
            lines.add(found, place, amounts)
    return found


def _start(hour: int, grain: Grain) -> int:
    """The first hour of what the line covers."""
    return 0 if grain == "period" else hour - hour % _HOURS[grain]


def _call_line(
    place: Place, sums: Mapping[str, int], of_config: Mapping[str, Any], share: Share | None
) -> CallLine:
    start, key = place
    by_class = sums["priced"] and sums["by_class"] == sums["priced"]
    named = key._asdict()
    del named["config_id"], named["tags_json"]
    return CallLine(
        at=float(start * HOUR_S), **of_config, tags=tags_of(key.tags_json), **named, calls=sums["calls"],
        priced=sums["priced"], tokens={name: sums[f"{name}_tokens"] for name in TOKEN_CLASSES},
        costs={name: sums[f"{name}_nano"] for name in TOKEN_CLASSES} if by_class else None,
        cost=sums["cost_nano"] if sums["priced"] else None, bound=sums["bound_nano"], unpriced=sums["unpriced"],
        unsettled=sums["calls"] if key.state == "unsettled" else 0,
        in_flight=sums["calls"] if key.state == "intent" else 0, unbounded=sums["unbounded"],
        allocated=None if share is None else share.nano, late=0 if share is None else share.late,
        pending=0 if share is None else share.pending,
    )


def _order(line: CallLine) -> tuple[str, ...]:
    names = (line.pipeline, line.version, line.mode, line.tenant, line.step, line.role, line.model, line.state)
    rest = (line.account, line.tier, line.provenance, line.currency, line.price_version, line.endpoint, line.provider)
    tags = json.dumps(dict(line.tags), sort_keys=True)
    return (f"{line.at:020.1f}", *names, *(value or "" for value in rest), line.owner, line.cost_center, tags)
