"""The charges, read from the ledger: the one source of what calls cost and used.

lines of whole hours, and row by row the calls of hours that the period cuts -> charges by the day or the period
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, and_, func, select

from orchestrator.finance.allocation import Share, read_shares
from orchestrator.finance.breakdown import Charge
from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.convert import utc_day
from orchestrator.finance.hours import Hours, hours_of
from orchestrator.finance.period import Period
from orchestrator.finance.scope import OF_CONFIG, tags_of, within
from orchestrator.records import TOKEN_CLASSES, Money
from orchestrator.store import line_rows, lines
from orchestrator.store.keys import HOUR_S
from orchestrator.store.lines import AMOUNTS, CallKey, LinePlace, Lines

Grain = Literal["day", "period"]
_sums = {name: func.sum(lines.line.c[name]).label(name) for name in AMOUNTS}


def read_charges(
    connection: Connection, *, period: Period, pipeline: str | None = None, grain: Grain = "day"
) -> list[Charge]:
    """The calls that ended in the period (that started in it, where they have not ended), in order of time. By the
    `period` all days are one, and each charge's `day` is the epoch."""
    configs = _configs(connection, pipeline)
    found = _whole_hours(connection, hours_of(period), grain)
    cut = _row_by_row(connection, period)
    for (hour, key), amounts in cut.items():
        lines.add(found, (_start(hour, grain), key), amounts)
    shares: dict[LinePlace, list[Share]] = {}
    for (hour, key), share in read_shares(connection, period, cut).items():
        shares.setdefault((_start(hour, grain), key), []).append(share)
    for place in shares:  # the calls of an hour that the period's end cuts may all lie outside, its bill does not
        found.setdefault(place, [0] * len(AMOUNTS))
    called = [place for place in found if place[1].config_id in configs and (found[place][0] or place in shares)]
    alike: dict[tuple[Any, ...], tuple[dict[str, Any], list[LinePlace]]] = {}
    for place in sorted(called, key=lambda place: _order(place, configs)):
        same = _in_common(place, configs)
        alike.setdefault(tuple(same.values()), (same, []))[1].append(place)
    return [
        _charge(same, [found[place] for place in places], [one for place in places for one in shares.get(place, ())])
        for same, places in alike.values()
    ]


def _configs(connection: Connection, pipeline: str | None) -> dict[str, dict[str, str]]:
    rows = select(config.c.config_id, *(config.c[name] for name in OF_CONFIG))
    if pipeline is not None:
        rows = rows.where(config.c.pipeline == pipeline)
    return {row.config_id: {name: getattr(row, name) for name in OF_CONFIG} for row in connection.execute(rows)}


def _whole_hours(connection: Connection, hours: Hours, grain: Grain) -> Lines:
    """The hours that lie wholly in the period."""
    line, key = lines.line, lines.line_key
    start = [] if grain == "period" else [(line.c.hour - line.c.hour % 24).label("start")]
    summed = (
        select(line.c.key_id, *start, *_sums.values()).where(hours.whole(line.c.hour))
        .group_by(line.c.key_id, *(column.name for column in start)).subquery("summed")
    )
    rows = connection.execute(select(summed, key).join(key, key.c.key_id == summed.c.key_id))
    return {
        (0 if grain == "period" else row.start, CallKey(*(getattr(row, name) for name in CallKey._fields))):
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
    """The first hour of the day, or of all."""
    return 0 if grain == "period" else hour - hour % 24


def _order(place: LinePlace, configs: Mapping[str, Mapping[str, str]]) -> tuple[Any, ...]:
    start, key = place
    of = configs[key.config_id]
    may_lack = (key.account, key.tier, key.provenance, key.currency, key.price_version)
    return (
        start, of["pipeline"], of["version"], of["mode"], key.tenant, key.step, key.role, key.model, key.state,
        *(value or "" for value in may_lack), key.endpoint, key.provider, of["owner"], of["cost_center"],
        json.dumps(dict(tags_of(key.tags_json)), sort_keys=True),
    )


def _in_common(place: LinePlace, configs: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a charge says of all its calls. Endpoints are left out: who is billed is said by the account, and an address
    is nobody's business."""
    start, key = place
    of = configs[key.config_id]
    tags = tuple(sorted(tags_of(key.tags_json).items()))
    same = {**key._asdict(), **of, "day": utc_day(start * HOUR_S), "tags": tags}
    if of["mode"] == CALIBRATION:
        same["role"] = CALIBRATION
    for name in ("config_id", "tags_json", "endpoint"):
        del same[name]
    return same


def _charge(same: Mapping[str, Any], amounts: Iterable[Sequence[int]], shares: Sequence[Share]) -> Charge:
    sums = dict(zip(AMOUNTS, map(sum, zip(*amounts, strict=True)), strict=True))
    calls, state = sums["calls"], same["state"]
    unsettled = calls if state == "unsettled" else 0

    def money(nano: int) -> Money:
        return Money(nano=nano, currency=same["currency"] or "")

    return Charge(
        **{**same, "tags": dict(same["tags"])}, calls=calls,
        tokens={name: n for name in TOKEN_CLASSES if (n := sums[f"{name}_tokens"])},
        cost=money(sums["cost_nano"]) if sums["priced"] else None,
        costs={name: money(nano) for name in TOKEN_CLASSES if (nano := sums[f"{name}_nano"])}
        if sums["priced"] and sums["by_class"] == sums["priced"] else None,
        allocated=money(sum(share.nano for share in shares)) if shares else None,
        bound=money(sums["bound_nano"]) if unsettled > sums["unbounded"] else None,
        unpriced=sums["unpriced"], unsettled=unsettled, in_flight=calls if state == "intent" else 0,
        unbounded=sums["unbounded"], late=sum(share.late for share in shares),
        pending=sum(share.pending for share in shares),
    )
