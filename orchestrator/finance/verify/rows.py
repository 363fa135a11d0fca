"""Sealed rows as streams, in the order of their writers' chains: a few thousand rows in memory, however long the store.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from orchestrator.store import seals
from orchestrator.store.close_tables import Superseded
from orchestrator.store.seals import FIELDS, STEP, Sealed
from orchestrator.store.statements import among, table
from orchestrator.store.tables import CallRow, Feedback, OutcomeRow, Run, SpotCheck, StepRow

AT_ONCE = 2_000
BATCH = 400
NEAR_S = 3600.0

call, outcome, feedback = table(CallRow), table(OutcomeRow), table(Feedback)
run, step, spot_check, superseded = table(Run), table(StepRow), table(SpotCheck), table(Superseded)

_STEPS = (
    select(step.c.run_id, *(step.c[name] for name in STEP)).where(among(step.c.run_id))
    .order_by(step.c.run_id, step.c.place)
)
_DRAWN = (
    select(spot_check.c.run_id, spot_check.c.step, spot_check.c.propensity).where(among(spot_check.c.run_id))
)
_SOURCES = select(run.c.run_id, run.c.source_run_id).where(among(run.c.run_id))


@dataclass(frozen=True, slots=True)
class SealedRow:
    """A row at its place in a chain. `values` are in the order of FIELDS; a superseded seal has its `body` instead."""

    writer: str
    number: int
    table: Sealed
    row: str
    link: bytes
    values: Sequence[Any] = ()
    body: bytes | None = None

    def canonical(self, number: int | None = None) -> bytes:
        """What was sealed, had the row stood at `number` (its own, if None)."""
        if self.body is not None:
            return self.body
        return seals.canonical(self.table, self.writer, self.number if number is None else number, self.values)


def sealed_rows(connection: Connection) -> Iterator[SealedRow]:
    """All of them, by writer and number."""
    streams = (_calls(connection), _outcomes(connection), _feedback(connection), _superseded(connection))
    return heapq.merge(*streams, key=lambda one: (one.writer, one.number))


def sealed_of_run(connection: Connection, run_id: str) -> list[SealedRow]:
    """The sealed rows of one run, in the order of their tables."""
    return [
        *_calls(connection, call.c.run_id == run_id), *_outcomes(connection, outcome.c.run_id == run_id),
        *_feedback(connection, feedback.c.run_id == run_id),
    ]


def link_before(connection: Connection, row: SealedRow, ended_at: float) -> bytes | None:
    """The link that a row stands on; None where there is none to be found near the time it was sealed."""
    if row.number == 1:
        return seals.genesis(row.writer)
    s = superseded.c
    kept = select(s.seal).where(s.sealed_by == row.writer, s.seal_no == row.number - 1)
    if (found := connection.execute(kept).scalar()) is not None:
        return bytes(found)
    for rows, writer, moment in (
        (call, func.coalesce(call.c.sealed_by, call.c.owner_id), call.c.ended_at),
        (outcome, outcome.c.sealed_by, outcome.c.ended_at), (feedback, feedback.c.sealed_by, feedback.c.at),
    ):
        near = moment.between(ended_at - NEAR_S, ended_at + NEAR_S)
        wanted = select(rows.c.seal).where(near, rows.c.seal_no == row.number - 1, writer == row.writer)
        if (found := connection.execute(wanted).scalar()) is not None:
            return bytes(found)
    return None


def count_rows(connection: Connection) -> int:
    return sum(
        connection.execute(select(func.count()).select_from(one)).scalar_one() for one in (call, outcome, feedback)
    )


def stream(connection: Connection, wanted: Any) -> Iterator[Any]:
    return iter(connection.execute(wanted, execution_options={"yield_per": AT_ONCE}))


def _calls(connection: Connection, *where: ColumnElement[bool]) -> Iterator[SealedRow]:
    writer = func.coalesce(call.c.sealed_by, call.c.owner_id)
    return _sealed(connection, "call", call, writer, [call.c[name] for name in FIELDS["call"]], *where)


def _feedback(connection: Connection, *where: ColumnElement[bool]) -> Iterator[SealedRow]:
    columns = [feedback.c[name] for name in FIELDS["feedback"]]
    return _sealed(connection, "feedback", feedback, feedback.c.sealed_by, columns, *where)


def _sealed(
    connection: Connection, name: Sealed, rows: Any, writer: ColumnElement[Any], columns: Sequence[Any],
    *where: ColumnElement[bool],
) -> Iterator[SealedRow]:
    found = select(writer.label("writer"), rows.c.seal_no, rows.c.seal, *columns).where(
        rows.c.seal_no.is_not(None), *where
    )
    for by, number, link, *values in stream(connection, found.order_by(*_in_turn(connection, writer, rows))):
        yield SealedRow(by or "", number, name, values[0], bytes(link or b""), values)


def _in_turn(connection: Connection, writer: ColumnElement[Any], rows: Any) -> tuple[Any, Any]:
    """As Python sorts: by code points, whatever the language of the database."""
    return writer.collate("C") if connection.dialect.name == "postgresql" else writer, rows.c.seal_no


def _outcomes(connection: Connection, *where: ColumnElement[bool]) -> Iterator[SealedRow]:
    """With their steps, draws and runs, some hundred at a time."""
    columns = [outcome.c[name] for name in seals.OUTCOME]
    plain = _sealed(connection, "outcome", outcome, outcome.c.sealed_by, columns, *where)
    while some := list(islice(plain, BATCH)):
        ids = {"among": [one.row for one in some]}
        steps = _by_run(connection.execute(_STEPS, ids), seals.exact_step)
        drawn = _by_run(connection.execute(_DRAWN, ids), list)
        for of_run in drawn.values():
            of_run.sort(key=itemgetter(0))  # as it was sealed: by code points, whatever the language of the database
        sources = {run_id: source for run_id, source in connection.execute(_SOURCES, ids) if source}
        for one in some:
            values = (*one.values, sources.get(one.row), steps.get(one.row), drawn.get(one.row))
            yield SealedRow(one.writer, one.number, "outcome", one.row, one.link, values)


def _by_run(rows: Any, make: Callable[[Any], Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for run_id, *values in rows:
        found.setdefault(run_id, []).append(make(values))
    return found


def _superseded(connection: Connection) -> Iterator[SealedRow]:
    s = superseded.c
    order = _in_turn(connection, s.sealed_by, superseded)
    for row in stream(connection, select(superseded).order_by(*order)):
        yield SealedRow(row.sealed_by, row.seal_no, "call", row.row_id, bytes(row.seal), body=bytes(row.body))
