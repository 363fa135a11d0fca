"""The prices that closes hold the digests of, beside those of the ledger: a price is for good.

A version's own digest is short, and stands beside the body that somebody may change with it; a close file's is whole,
and lies elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, select

from orchestrator.finance.closing.document import CloseDocument, digest_of
from orchestrator.finance.verify.costs import price
from orchestrator.finance.verify.findings import Discrepancy


def closed_prices(connection: Connection, documents: Sequence[CloseDocument]) -> Iterator[Discrepancy]:
    """Prices that are gone, or are not what they were when a month was closed: each once, by its first close."""
    now = {
        row.version: digest_of(row.body_json.encode())
        for row in connection.execute(select(price.c.version, price.c.body_json))
    }
    told: set[str] = set()
    for document in documents:
        for version, digest in document.prices.items():
            found = now.get(version)
            if found != digest and version not in told:
                told.add(version)
                yield _finding(version, document, digest, found)


def _finding(version: str, document: CloseDocument, digest: str, found: str | None) -> Discrepancy:
    says = f"price {version}: the close of {document.period} holds its digest as {digest[:16]}…"
    words = f"{says}, the ledger's is {found[:16]}…" if found is not None else f"{says}, and it is gone from the ledger"
    return Discrepancy(kind="price", table="price", row=version, words=words)
