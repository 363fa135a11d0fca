"""The figures of a closed month once more from the rows, as they were known when it was closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, func, select

from orchestrator.finance.closing.ahead import known_by, words_ahead
from orchestrator.finance.closing.document import CloseDocument
from orchestrator.finance.closing.figures import differences, nothing, read_figures, read_successes
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import MonthFigures
from orchestrator.finance.verify.closed import finding
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.finance.verify.rows import call, run, superseded
from orchestrator.store.closes import APART_S
from orchestrator.store.seals import FIELDS

_SEALED = ("table", "writer", "number", *FIELDS["call"])


def check_figures(connection: Connection, document: CloseDocument) -> Iterator[Discrepancy]:
    """Without what came after the close."""
    period = parse_period(month=document.period, tz=document.tz)
    found = {one.pipeline: one for one in read_figures(connection, period, as_of=document.created_at)}
    _count_ahead(connection, document, period, found)
    _count_given_up(connection, document, period, found)
    for words in differences(document.figures, found.values()):
        yield finding(document.period, f"it says {words}")


def _count_ahead(
    connection: Connection, document: CloseDocument, period: Period, found: dict[str, MonthFigures]
) -> None:
    """Words that name a later time than the close and were there by then."""
    last: dict[str, float] = {}
    for word in words_ahead(connection, document):
        for run_id in known_by(connection, word.run_id):
            last[run_id] = max(word.at, last.get(run_id, word.at))
    for run_id, at in last.items():
        without, with_it = (
            read_successes(connection, period, as_of=moment, among=select(run.c.run_id).where(run.c.run_id == run_id))
            for moment in (document.created_at, at + APART_S)
        )
        for pipeline, (right, wrong) in with_it.items():
            was_right, was_wrong = without[pipeline]
            one = found[pipeline]
            found[pipeline] = replace(
                one, successes=one.successes + right - was_right, failures=one.failures + wrong - was_wrong
            )


def _count_given_up(
    connection: Connection, document: CloseDocument, period: Period, found: dict[str, MonthFigures]
) -> None:
    """Calls that had been given up when the month was closed, and were settled since: they ended then, as unsettled."""
    given_up: Counter[str] = Counter()
    joined = superseded.join(call, call.c.call_id == superseded.c.row_id)
    writer = func.coalesce(call.c.sealed_by, call.c.owner_id).label("writer")
    for seal in connection.execute(select(superseded, writer, call.c.seal_no.label("now")).select_from(joined)):
        values = dict(zip(_SEALED, orjson.loads(seal.body), strict=False))
        ended = datetime.fromtimestamp(values["ended_at"], UTC)
        then, _ = document.heads.get(seal.sealed_by, (0, b""))
        now, _ = document.heads.get(seal.writer, (0, b""))
        if seal.seal_no <= then and seal.now > now and period.since <= ended < period.until:  # type: ignore[operator]
            given_up[values["pipeline"]] += 1
    for name, count in given_up.items():
        one = found.get(name, nothing(name))
        found[name] = replace(one, calls=one.calls + count, unsettled=one.unsettled + count)
