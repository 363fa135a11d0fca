"""The close file: what is frozen of a month, as canonical JSON, and its SHA-256.

The hash is over the canonical JSON of everything but `sha256` itself: keys sorted, no spaces, ASCII. Python's
`json.dumps(document, sort_keys=True, separators=(",", ":"))` gives it back from the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from orchestrator.canonical import canonical
from orchestrator.errors import InputError
from orchestrator.finance.plain import decode, encode
from orchestrator.finance.records import MonthFigures
from orchestrator.store.closes import ClosedMonth

KIND, FORMAT = "close", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseDocument:
    """A close file, read. `heads` are (number, link) of each writer's chain, `unsealed` the rows that were there before
    the first seal, `prices` the whole digest of each price by version, `stated` what this close says of earlier months,
    `previous` the hash of the close before it."""

    period: str
    tz: str
    created_at: float
    until_at: float
    figures: tuple[MonthFigures, ...]
    stated: Mapping[str, tuple[MonthFigures, ...]]
    heads: Mapping[str, tuple[int, bytes]]
    unsealed: Mapping[str, int]
    prices: Mapping[str, str]
    previous: str | None
    report: Any
    digest: str
    sound: bool
    """Is the hash in the file that of what it says."""


def body_of(
    *, period: str, tz: str, since_at: float, until_at: float, created_at: float, figures: Sequence[MonthFigures],
    stated: Mapping[str, Sequence[MonthFigures]], heads: Mapping[str, tuple[int, bytes]],
    unsealed: Mapping[str, int], prices: Mapping[str, str], previous: str | None, report: bytes,
) -> bytes:
    """The canonical JSON that is hashed, stored, and written as the close file. `report` is the frozen report."""
    return canonical({
        "kind": KIND, "format": FORMAT, "period": period, "tz": tz, "since": _iso(since_at), "until": _iso(until_at),
        "created_at": _iso(created_at), "figures": encode(tuple(figures)),
        "stated": {month: encode(tuple(of_month)) for month, of_month in stated.items()},
        "heads": [
            {"writer": writer, "sealed": number, "seal": link.hex()} for writer, (number, link) in sorted(heads.items())
        ],
        "unsealed_rows": dict(unsealed), "prices": dict(prices), "previous_sha256": previous,
        "report": json.loads(report),
    })


def digest_of(body: bytes) -> str:
    return sha256(body).hexdigest()


def as_file(month: ClosedMonth) -> str:
    """The document as people read it, its hash first."""
    document = {"sha256": month.digest, **json.loads(month.body)}
    return json.dumps(document, indent=2) + "\n"


def of_month(month: ClosedMonth) -> CloseDocument:
    """A close as the ledger has it."""
    return _document(json.loads(month.body), month.digest)


def read_file(path: Path) -> CloseDocument:
    """Raises InputError for what is no close file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        digest = found.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{str(path)!r} is no close file: {error}",
                         hint="it is the JSON that `orchestrator report close MONTH` wrote") from error
    return _document(found, digest)


def _document(found: Mapping[str, Any], digest: str) -> CloseDocument:
    if (found.get("kind"), found.get("format")) != (KIND, FORMAT):
        raise InputError(f"this is no close file of format {FORMAT}: {str(found)[:80]!r}")
    figures = tuple[MonthFigures, ...]
    try:
        return CloseDocument(
            period=found["period"], tz=found["tz"], created_at=_seconds(found["created_at"]),
            until_at=_seconds(found["until"]), figures=decode(figures, found["figures"]),
            stated={month: decode(figures, of_month) for month, of_month in found["stated"].items()},
            heads={one["writer"]: (one["sealed"], bytes.fromhex(one["seal"])) for one in found["heads"]},
            unsealed=found["unsealed_rows"], prices=dict(found["prices"]), previous=found["previous_sha256"],
            report=found["report"], digest=digest, sound=digest_of(canonical(found)) == digest,
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the close file of {found.get('period')!r} is damaged: {error!r}") from error


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
