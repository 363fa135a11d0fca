"""Closed months held against the ledger: hashes, and heads of chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from orchestrator.canonical import canonical
from orchestrator.errors import InputError
from orchestrator.finance.closing.document import CloseDocument, digest_of, of_month
from orchestrator.finance.verify.chains import Head
from orchestrator.finance.verify.findings import Discrepancy
from orchestrator.store.closes import ClosedMonth


def anchors_of(documents: Sequence[CloseDocument]) -> dict[str, dict[int, Head]]:
    """The heads that closes hold, by writer and number."""
    anchors: dict[str, dict[int, Head]] = {}
    for one in documents:
        for writer, (number, link) in one.heads.items():
            anchors.setdefault(writer, {})[number] = Head(number, link, f"the close of {one.period}")
    return anchors


def read_closes(closed: Sequence[ClosedMonth]) -> tuple[list[CloseDocument], list[Discrepancy]]:
    """The ledger's closes as documents; those that can't be read, or are not what their hash says, are findings."""
    documents: list[CloseDocument] = []
    found: list[Discrepancy] = []
    previous: str | None = None
    for month in closed:
        try:
            document = of_month(month)
        except (InputError, ValueError) as error:
            found.append(finding(month.period, f"it can't be read: {error}"))
            continue
        documents.append(document)
        if digest_of(month.body) != month.digest:
            found.append(finding(month.period, "its figures are not those of its hash"))
        if canonical(orjson.loads(month.figures)) != canonical(document.report):
            found.append(finding(month.period, "the report that is shown of it is not the one that was hashed"))
        if document.previous != previous:
            found.append(finding(month.period, "it does not follow from the close before it"))
        previous = month.digest
    return documents, found


def check_file(file: CloseDocument, closed: Sequence[ClosedMonth]) -> Iterator[Discrepancy]:
    """Is a close file what the ledger closed."""
    if not file.sound:
        yield finding(file.period, f"the file's hash {file.digest[:16]}… is not that of what it says")
    stored = next((one for one in closed if one.period == file.period), None)
    if stored is None:
        yield finding(file.period, "the ledger has no close of this month")
    elif stored.digest != file.digest:
        yield finding(file.period, f"the ledger's close has the hash {stored.digest[:16]}…, "
                                    f"the file {file.digest[:16]}…")


def finding(period: str, words: str) -> Discrepancy:
    return Discrepancy(kind="close", table="close", row=period, words=f"close of {period}: {words}")
