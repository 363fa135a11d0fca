"""What is worth knowing of a period's runs and is no trouble: done again, asked again, in shadow. By pipeline.

Counted from cells, and by indexes that hold few rows: a report must not read a ledger's calls one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func, select, text

from orchestrator.finance.breakdown import Charge
from orchestrator.finance.configured import CALIBRATION, config
from orchestrator.finance.hours import hours_of
from orchestrator.finance.phrases import counted
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.run_cells import keys_in_scope, read_row_by_row
from orchestrator.finance.scope import call, ended, with_config, within
from orchestrator.store import again
from orchestrator.store.cells import run_cell
from orchestrator.store.evidence import outcome, run
from orchestrator.store.tables import ASKED_AGAIN

SHADOW = "shadow"
VERDICTS = ("judge", "repair")
"""Roles whose calls ask for a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """`count` tasks, verdicts or runs of a pipeline, by `kind`."""

    kind: Literal["again", "unreadable", "shadow"]
    pipeline: str
    count: int
    words: str


def read_noted(connection: Connection, query: ReportQuery, charges: Sequence[Charge]) -> tuple[Noted, ...]:
    """Of the period. `charges` are its calls."""
    found = (_again(connection, query), _unreadable(connection, query, charges), _in_shadow(connection, query, charges))
    return tuple(one for some in found for one in some)


def _again(connection: Connection, query: ReportQuery) -> Iterator[Noted]:
    since, until = query.period.since_at, query.period.until_at
    done = again.count(connection, since or 0.0, math.inf if until is None else until, query.pipeline)
    for pipeline, n in sorted(done.items()):
        were = "1 task was done again; its earlier run counts as what it was" if n == 1 else (
            f"{n:,} tasks were done again; their earlier runs count as what they were")
        yield Noted(kind="again", pipeline=pipeline, count=n, words=f"{pipeline}: {were}")


def _unreadable(connection: Connection, query: ReportQuery, charges: Iterable[Charge]) -> Iterator[Noted]:
    """A verdict that was asked for a second time stands for one that could not be read."""
    asked: dict[str, int] = {}
    for one in charges:
        if one.role in VERDICTS:
            asked[one.pipeline] = asked.get(one.pipeline, 0) + one.calls
    for pipeline, n in sorted(asked_again(connection, query).items()) if asked else ():
        were = "verdict could not be read and was" if n == 1 else "verdicts could not be read and were"
        yield Noted(kind="unreadable", pipeline=pipeline, count=n, words=(
            f"{pipeline}: of {counted(asked.get(pipeline, n), 'call')} for a verdict, {n:,} {were} asked for again"
        ))


def asked_again(connection: Connection, query: ReportQuery) -> Mapping[str, int]:
    """By pipeline. A call that was tried several times is one question."""
    second = select(call.c.run_id, call.c.request_key).where(text(ASKED_AGAIN), within(call.c.ended_at, query.period))
    asked = second.distinct().subquery("asked")
    by = (
        select(run.c.pipeline, func.count()).select_from(with_config(asked.join(run, run.c.run_id == asked.c.run_id)))
        .where(config.c.mode != CALIBRATION).group_by(run.c.pipeline)
    )
    if query.pipeline is not None:
        by = by.where(run.c.pipeline == query.pipeline)
    return {row[0]: row[1] for row in connection.execute(by)}


def _in_shadow(connection: Connection, query: ReportQuery, charges: Iterable[Charge]) -> Iterator[Noted]:
    if not any(one.mode == SHADOW for one in charges):
        return
    hours = hours_of(query.period)
    keys = keys_in_scope(query).where(config.c.mode == SHADOW).subquery("keys")
    cells = (
        select(keys.c.pipeline, func.sum(run_cell.c.runs)).join(run_cell, run_cell.c.key_id == keys.c.key_id)
        .where(run_cell.c.runs > 0, hours.whole(run_cell.c.hour)).group_by(keys.c.pipeline)
    )
    waiting = (
        select(run.c.pipeline, func.count())
        .select_from(with_config(outcome.join(run, run.c.run_id == outcome.c.run_id)))
        .where(outcome.c.run_id.in_(read_row_by_row(hours)), ended(outcome.c.ended_at, query), config.c.mode == SHADOW)
        .group_by(run.c.pipeline)
    )
    runs: dict[str, int] = {}
    for pipeline, n in (*connection.execute(cells), *connection.execute(waiting)):
        runs[pipeline] = runs.get(pipeline, 0) + int(n)
    for pipeline, n in sorted(runs.items()):
        yield Noted(kind="shadow", pipeline=pipeline, count=n, words=(
            f"{pipeline}: {counted(n, 'run')} in shadow, where the validator answers. What the drafter would have been "
            "worth: orchestrator assess --pipeline PIPELINE.yaml"
        ))
