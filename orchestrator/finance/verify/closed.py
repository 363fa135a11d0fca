"""Closed months held against the ledger: hashes, heads of chains, and their figures once more, as of then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, func, select

from orchestrator.canonical import canonical
from orchestrator.errors import InputError
from orchestrator.finance.closing.document import CloseDocument, digest_of, of_month
from orchestrator.finance.closing.figures import differences, nothing, read_figures
from orchestrator.finance.period import Period, parse_period
from orchestrator.finance.records import MonthFigures
from orchestrator.finance.verify.chains import Head
from orchestrator.finance.verify.findings import Finding
from orchestrator.finance.verify.rows import call, superseded
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.seals import FIELDS


def anchors_of(documents: Sequence[CloseDocument]) -> dict[str, dict[int, Head]]:
    """The heads that closes hold, by writer and number."""
    anchors: dict[str, dict[int, Head]] = {}
    for one in documents:
        for writer, (number, link) in one.heads.items():
            anchors.setdefault(writer, {})[number] = Head(number, link, f"the close of {one.period}")
    return anchors


def read_closes(closed: Sequence[ClosedMonth]) -> tuple[list[CloseDocument], list[Finding]]:
    """The ledger's closes as documents; those that can't be read, or are not what their hash says, are findings."""
    documents: list[CloseDocument] = []
    found: list[Finding] = []
    previous: str | None = None
    for month in closed:
        try:
            document = of_month(month)
        except (InputError, ValueError) as error:
            found.append(_finding(month.period, f"it can't be read: {error}"))
            continue
        documents.append(document)
        if digest_of(month.body) != month.digest:
            found.append(_finding(month.period, "its figures are not those of its hash"))
        if canonical(orjson.loads(month.figures)) != canonical(document.report):
            found.append(_finding(month.period, "the report that is shown of it is not the one that was hashed"))
        if document.previous != previous:
            found.append(_finding(month.period, "it does not follow from the close before it"))
        previous = month.digest
    return documents, found


def check_file(file: CloseDocument, closed: Sequence[ClosedMonth]) -> Iterator[Finding]:
    """Is a close file what the ledger closed."""
    if not file.sound:
        yield _finding(file.period, f"the file's hash {file.digest[:16]}… is not that of what it says")
    stored = next((one for one in closed if one.period == file.period), None)
    if stored is None:
        yield _finding(file.period, "the ledger has no close of this month")
    elif stored.digest != file.digest:
        yield _finding(file.period, f"the ledger's close has the hash {stored.digest[:16]}…, "
                                    f"the file {file.digest[:16]}…")


def check_figures(connection: Connection, document: CloseDocument) -> Iterator[Finding]:
    """The figures once more from the rows, without what came after the close."""
    period = parse_period(month=document.period, tz=document.tz)
    found = read_figures(connection, period, as_of=document.created_at)
    for words in differences(document.figures, _with_given_up(connection, document, period, found)):
        yield _finding(document.period, f"it says {words}")


def _with_given_up(
    connection: Connection, document: CloseDocument, period: Period, found: Sequence[MonthFigures]
) -> list[MonthFigures]:
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
    by_pipeline = {one.pipeline: one for one in found}
    for name, count in given_up.items():
        one = by_pipeline.get(name, nothing(name))
        by_pipeline[name] = replace(one, calls=one.calls + count, unsettled=one.unsettled + count)
    return list(by_pipeline.values())


_SEALED = ("table", "writer", "number", *FIELDS["call"])


def _finding(period: str, words: str) -> Finding:
    return Finding(kind="close", table="close", row=period, words=f"close of {period}: {words}")
