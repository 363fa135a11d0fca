"""Seals: a hash chain a writer over the rows that money and success depend on, without what was said.

A row is sealed by the process that makes it final: a call when it is settled or unsettled, an outcome with its run,
feedback when appended. Its link is SHA-256 over the link before it, and over the canonical JSON of

    [table, writer, number, value, value, ...]

with the values of `FIELDS` in their order, NULLs at the end left out: a column added later, at the end, changes no
seal of an older row. Links are cut to 16 bytes. The `owner` row holds the head of the chain, written in the same
transaction as the rows.

**A final row is sealed in the transaction that makes it final, and whatever may be erased later is not in the seal.**
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import Boolean, Connection, Float, bindparam, func, select

from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.close_tables import Superseded
from orchestrator.store.entries import OutcomeEntry
from orchestrator.store.own_tables import Owner
from orchestrator.store.statements import Prepared, Transaction, inserting, table, updating
from orchestrator.store.tables import CallRow, Feedback, OutcomeRow, StepRow

Sealed = Literal["call", "outcome", "feedback"]
LINK_BYTES = 16
UNSEALED = "unsealed_rows"
"""The setting that says how many final rows of each table there were before the first was sealed, as JSON."""

INTENT = (
    "call_id", "run_id", "pipeline", "step", "role", "attempt", "sample", "model", "provider", "endpoint",
    "request_key", "owner_id", "started_at", "bound_nano", "bound_currency", "budget_day", "scopes", "account",
)
SETTLEMENT = (
    "state", "model_answered", "response_id", "finish_reason", *(f"{name}_tokens" for name in TOKEN_CLASSES), "tier",
    "cost_nano", "currency", "price_version", "provenance", "latency_ms", "ended_at",
)
OUTCOME = (
    "run_id", "pipeline", "tenant", "config_id", "status", "success", "success_source", "escalated", "degraded",
    "from_cache", "ended_at", "cost_nano", "currency", "saved_nano", "saved_currency", "tags_json",
)
STEP = (
    "step", "status", "action", "rule", "confidence", "threshold", "certified", "propensity", "verdict", "draft_ok",
    "attempts", "from_cache", "look", "compared",
)
FIELDS: Mapping[Sealed, tuple[str, ...]] = {
    "call": (*INTENT, *SETTLEMENT),
    "outcome": (*OUTCOME, "source_run_id", "steps", "drawn"),
    "feedback": ("feedback_id", "run_id", "source", "success", "at"),
}
"""An outcome is sealed with its run's `source_run_id`, its steps (`STEP`, in turn) and the [step, propensity] of each
spot check that was drawn. `error`, `reason`, `explanation` may quote what was said, and may be erased: they are out."""

_TABLES: Mapping[Sealed, Any] = {"call": table(CallRow), "outcome": table(OutcomeRow), "feedback": table(Feedback)}
Casts = tuple[tuple[int, ...], tuple[int, ...]]
"""The places of real numbers and of truths."""


def _casts(rows: Any, names: Sequence[str]) -> Casts:
    """What a database changes: a time given as an integer comes back as a float, 1 as true, -0.0 (from SQLite) as 0.0.
    """
    kinds = [rows.c[name].type if name in rows.c else None for name in names]
    floats, truths = (tuple(i for i, k in enumerate(kinds) if isinstance(k, wanted)) for wanted in (Float, Boolean))
    return floats, truths


_CASTS: Mapping[Sealed, Casts] = {name: _casts(rows, FIELDS[name]) for name, rows in _TABLES.items()}
_STEP_CASTS = _casts(table(StepRow), STEP)

_owner = table(Owner)
_HEAD = Prepared(
    ("owner",), lambda _: select(_owner.c.sealed, _owner.c.seal).where(_owner.c.owner_id == bindparam("owner"))
)
_ADVANCE = updating(Owner, "sealed", "seal", by=["owner_id"])
_SUPERSEDED = inserting(Superseded, "sealed_by", "seal_no", "seal", "row_id", "body")


class Seal(NamedTuple):
    """A place in a writer's chain, counted from 1."""

    writer: str
    number: int
    link: bytes


def genesis(writer: str) -> bytes:
    """What stands before a writer's first link."""
    return sha256(writer.encode()).digest()[:LINK_BYTES]


def link(before: bytes, body: bytes) -> bytes:
    return sha256(before + body).digest()[:LINK_BYTES]


def canonical(name: Sealed, writer: str, number: int, values: Sequence[Any]) -> bytes:
    """What is sealed of a row: `values` in the order of `FIELDS[name]`."""
    exact = _exact(values, _CASTS[name])
    while exact[-1] is None:
        exact.pop()
    return orjson.dumps([name, writer, number, *exact])


def seal(transaction: Transaction, name: Sealed, rows: Sequence[Sequence[Any]]) -> list[Seal]:
    """Take `rows` (values in the order of `FIELDS[name]`) into this writer's chain, and move its head."""
    if not rows:
        return []
    writer = transaction.owner_id
    number, at = transaction.head or _head(transaction, writer)
    sealed = []
    for values in rows:
        number += 1
        at = link(at, canonical(name, writer, number, values))
        sealed.append(Seal(writer, number, at))
    transaction.many(_ADVANCE, [(number, at, writer)])
    transaction.head = number, at
    return sealed


def _head(transaction: Transaction, writer: str) -> tuple[int, bytes]:
    sql, _ = _HEAD.for_dialect(transaction.connection.dialect)
    row = transaction.connection.exec_driver_sql(sql, (writer,)).one_or_none()
    return (0, genesis(writer)) if row is None or not row[0] else (row[0], bytes(row[1]))


def _exact(values: Sequence[Any], casts: Casts) -> list[Any]:
    """As the database gives them back."""
    exact = list(values)
    floats, truths = casts
    for place in floats:
        if (number := exact[place]) is not None:
            exact[place] = float(number) + 0.0
    for place in truths:
        if (truth := exact[place]) is not None:
            exact[place] = bool(truth)
    return exact


def exact_step(values: Sequence[Any]) -> list[Any]:
    """A step as it stands in its outcome's seal: `values` in the order of `STEP`, NULLs at the end left out as well."""
    exact = _exact(values, _STEP_CASTS)
    while exact[-1] is None:
        exact.pop()
    return exact


def unsealed(connection: Connection) -> dict[str, int]:
    """Final rows without a seal, by table."""
    counts: dict[str, int] = {}
    for name, rows in _TABLES.items():
        wanted = select(func.count()).select_from(rows).where(rows.c.seal_no.is_(None))
        if name == "call":
            wanted = wanted.where(rows.c.state != "intent")
        counts[name] = connection.execute(wanted).scalar_one()
    return counts


def outcome_values(e: OutcomeEntry, row: Sequence[Any]) -> tuple[Any, ...]:
    """An outcome as it is sealed: `row` are its own columns, in the order of `OUTCOME`."""
    steps = [
        exact_step((
            s.step, s.status, s.action, s.rule, s.confidence, s.threshold, s.certified, s.propensity, s.verdict,
            s.draft_ok, s.attempts, s.from_cache, s.look, s.compared,
        ))
        for s in e.steps
    ]
    drawn = [[c.step, float(c.propensity)] for c in sorted(e.spot_checks, key=lambda check: check.step)]
    return (*row, e.source_run_id, steps or None, drawn or None)


def supersede(transaction: Transaction, rows: Sequence[Any]) -> None:
    """Keep the seals, and what they were over, of call rows about to be sealed anew: chains stay whole."""
    transaction.many(_SUPERSEDED, [
        (place.writer, place.number, place.link, row.call_id,
         canonical("call", place.writer, place.number, [getattr(row, name) for name in FIELDS["call"]]))
        for row in rows for place in _place_of(row)
    ])


def _place_of(row: Any) -> Iterator[Seal]:
    if row.seal_no is not None:
        yield Seal(row.sealed_by or row.owner_id, row.seal_no, bytes(row.seal))
