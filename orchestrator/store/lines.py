"""Calls in lines: those alike in all that a report may ask of them, that ended in one UTC hour, as one row of sums.

**A line is the sum of its calls' rows**: it is written in the transaction that ends a call, and a call that ends
differently than recovery had guessed takes the guess out of its line. See docs/report_scale.md.
"""

from __future__ import annotations

import operator
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from orchestrator.records import TOKEN_CLASSES, Usage
from orchestrator.store import cells
from orchestrator.store.keys import HOUR_S, adding, key_id
from orchestrator.store.line_tables import LineKey, LineRow
from orchestrator.store.statements import Transaction, among, chunks, inserting_new, table
from orchestrator.store.tables import CallRow, Run

if TYPE_CHECKING:
    from orchestrator.store.entries import CallSettlement

SHARDS = 16

call, run, line, line_key = table(CallRow), table(Run), table(LineRow), table(LineKey)


class CallKey(NamedTuple):
    """What the calls of a line have in common. `model` answered, `currency` is of the cost, else of the bound."""

    config_id: str
    tenant: str
    tags_json: str
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


AMOUNTS: tuple[str, ...] = (
    "calls", *(f"{name}_tokens" for name in TOKEN_CLASSES), *(f"{name}_nano" for name in TOKEN_CLASSES),
    "cost_nano", "priced", "by_class", "bound_nano", "unpriced", "unbounded",
)
"""The sums of a line: `priced` calls have a cost, `by_class` of them one for each token class; `bound_nano` is of
unsettled calls, `unbounded` of which have none; `unpriced` calls used tokens and have no price."""

LinePlace = tuple[int, CallKey]
"""The UTC hour, counted from the epoch, and the key."""
Lines = dict[LinePlace, list[int]]
tokens_of: Callable[[Usage], tuple[int, ...]] = operator.attrgetter(*TOKEN_CLASSES)
"""In the order of TOKEN_CLASSES."""

NO_TOKENS: tuple[None, ...] = (None,) * len(TOKEN_CLASSES)
_NO_COSTS = (0,) * len(TOKEN_CLASSES)
_NOTHING = (0,) * len(AMOUNTS)
CALLS = select(
    *(call.c[name] for name in (
        "call_id", "run_id", "step", "role", "provider", "endpoint", "model", "model_answered", "account", "tier",
        "state", "provenance", "price_version", "cost_nano", "currency", "bound_nano", "bound_currency", "started_at",
        "ended_at", *(f"{name}_tokens" for name in TOKEN_CLASSES),
    )),
    run.c.config_id, run.c.tenant, run.c.tags_json, run.c.done,
).select_from(call.join(run, run.c.run_id == call.c.run_id))
_RUNS = (  # held until the commit: neither does a run end, nor go on under another configuration, meanwhile
    select(run.c.run_id, run.c.config_id, run.c.tenant, run.c.tags_json, run.c.done).where(among(run.c.run_id))
    .order_by(run.c.run_id).with_for_update(read=True)
)
_KEY = inserting_new(LineKey, "key_id", *CallKey._fields)
_ADD = adding(line)


def count(transaction: Transaction, settled: Sequence[tuple[CallSettlement, Any]]) -> None:
    """Add calls to their lines, just before their rows are settled; and take those whose run has ended out of the
    runs' cells, for their cost is about to change."""
    owners = _owners(transaction, [row for _, row in settled])
    lines: Lines = {}
    for s, row in settled:
        if (owner := owners.get(row.run_id)) is None:
            continue
        if row.state == "unsettled":  # recovery had given it up
            add(lines, place_of(row, owner), amounts_of_row(row, None), -1)
        add(lines, _settled_place(s, row, owner), _settled_amounts(s, row))
    write(transaction, lines)


def count_given_up(transaction: Transaction, rows: Sequence[Any]) -> None:
    """The same for calls that a process left open, just before they become unsettled."""
    owners = _owners(transaction, rows)
    lines: Lines = {}
    for row in rows:
        if (owner := owners.get(row.run_id)) is not None:
            key = _key(row, owner)._replace(state="unsettled", provenance="unsettled")
            place = int(transaction.now // HOUR_S), key
            add(lines, place, amounts_of("unsettled", NO_TOKENS, None, row.bound_nano, None))
    write(transaction, lines)


class Owner(NamedTuple):
    """The run of some calls, as `_RUNS` reads it."""

    run_id: str
    config_id: str
    tenant: str
    tags_json: str
    done: bool


def _owners(transaction: Transaction, rows: Sequence[Any]) -> dict[str, Owner]:
    """The runs of some calls, out of their cells where they have ended."""
    run_ids = sorted({row.run_id for row in rows})
    found = (row for some in chunks(run_ids) for row in transaction.rows(_RUNS, {"among": some}))
    owners = {owner.run_id: owner for owner in map(Owner._make, found)}
    cells.take_out(transaction, [run_id for run_id, owner in owners.items() if owner.done], followers=False)
    return owners


def write(transaction: Transaction, lines: Mapping[LinePlace, Sequence[int]]) -> None:
    """Add to the lines that are there: always in one order, so that no two processes wait for each other."""
    keys = {key: key_id(key) for _, key in lines}
    transaction.many(_KEY, sorted((id_, *key) for key, id_ in keys.items()))
    shard = shard_of(transaction)
    transaction.many(_ADD, sorted((hour, keys[key], shard, *sums) for (hour, key), sums in lines.items()))


def shard_of(transaction: Transaction) -> int:
    """Which of a line's rows this process adds to: on PostgreSQL it would wait for the commits of all others."""
    return zlib.crc32(transaction.owner_id.encode()) % SHARDS if transaction.dialect == "postgresql" else 0


# -- what one call adds ------------------------------------------------------------------------------------------------


def add(lines: Lines, place: LinePlace, amounts: Sequence[int], sign: int = 1) -> None:
    lines[place] = list(map(operator.add if sign > 0 else operator.sub, lines.get(place, _NOTHING), amounts))


def place_of(row: Any, owner: Any) -> LinePlace:
    """Of a row of `call` whose run is `owner` (or of CALLS, which is both)."""
    at = row.started_at if row.ended_at is None else row.ended_at
    return int(at // HOUR_S), _key(row, owner)


def _key(row: Any, owner: Any) -> CallKey:
    return CallKey(
        owner.config_id, owner.tenant, owner.tags_json, row.step, row.role, row.provider, row.endpoint,
        row.model_answered or row.model, row.account, row.tier, row.state, row.provenance,
        row.currency or row.bound_currency, row.price_version,
    )


def _settled_place(s: CallSettlement, row: Any, owner: Any) -> LinePlace:
    """Of the open row that `s` is about to settle."""
    return int(s.ended_at // HOUR_S), CallKey(
        owner.config_id, owner.tenant, owner.tags_json, row.step, row.role, row.provider, row.endpoint,
        s.model_answered or row.model, row.account, s.tier, s.state, s.provenance,
        row.bound_currency if s.cost is None else s.cost.currency, s.price_version,
    )


def _settled_amounts(s: CallSettlement, row: Any) -> list[int]:
    used = NO_TOKENS if s.usage is None else tokens_of(s.usage)
    return amounts_of(s.state, used, None if s.cost is None else s.cost.nano, row.bound_nano, s.costs)


def amounts_of_row(row: Any, costs: Sequence[int] | None) -> list[int]:
    tokens = [getattr(row, f"{name}_tokens") for name in TOKEN_CLASSES]
    return amounts_of(row.state, tokens, row.cost_nano, row.bound_nano, costs)


def amounts_of(
    state: str, tokens: Sequence[int | None], cost: int | None, bound: int | None, costs: Sequence[int] | None
) -> list[int]:
    """Of one call, in the order of AMOUNTS. `tokens` and `costs` are by TOKEN_CLASSES."""
    used = [n or 0 for n in tokens]
    given_up = state == "unsettled"
    # a request that was refused or never left used no tokens: nothing is unknown about its cost
    unpriced = state == "settled" and cost is None and (sum(used) > 0 or tokens[0] is None)
    by_class = costs is not None and cost is not None and sum(costs) == cost
    return [
        1, *used, *(costs if costs is not None and by_class else _NO_COSTS), cost or 0, int(cost is not None),
        int(by_class), (bound or 0) if given_up else 0, int(unpriced), int(given_up and bound is None),
    ]
