"""What a certificate was tried on, so that a second try on the same records is known for what it is.

Trying until one passes would pass by luck: the j-th try on overlapping records is tested at δ·2⁻ʲ. The first one, which
does not know that it will be followed, spends δ: together they are wrong with probability at most 1.5 δ.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.fingerprint import differences, draft_fingerprint
from orchestrator.quality.calibration.evidence import Asked, Known

ID_BYTES = 5
"""Enough to tell millions of records apart; two that collide make a try count as a second one, never as a first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """`attempt` is what `certify` takes: 0 the first. `note` says what of the records was tried on before."""

    attempt: int
    note: str = ""


def this_try(
    asked: Asked, known: Sequence[Known], before: Mapping[str, Any] | None, fingerprint: Mapping[str, str]
) -> Try:
    """Which try on these records this is, by what the certificate in place says of the ones before."""
    tried = (before or {}).get("tried_on")
    if not isinstance(tried, Mapping) or before is None:
        return Try(attempt=asked.attempt or 0)
    if asked.attempt is not None:
        return Try(attempt=asked.attempt)
    overlap = len(unpacked(tried["records"]) & digests(known))
    if not overlap:
        return Try(attempt=0)
    if changed := differences(draft_fingerprint(before["fingerprint"]), draft_fingerprint(fingerprint)):
        return Try(attempt=0, note=(
            f"{overlap} of these records were tried on before, with other drafts ({', '.join(changed)} changed since). "
            "If that change was made by looking at them, the guarantee does not hold: calibrate on new ones"
        ))
    if tried["digest"] == _digest(asked, known):
        return Try(attempt=tried["attempt"])
    attempt = max(1, tried["attempt"]) + 1
    return Try(attempt=attempt, note=(
        f"try {attempt} on these records ({overlap} of {len(known)} were tried on before): it spends "
        f"{1 - asked.confidence:.4g} x 2^-{attempt} of error probability. New records, or --attempt 0 where the try "
        "before was none, spend all of it"
    ))


def tried_on(this: Try, asked: Asked, known: Sequence[Known]) -> dict[str, Any]:
    """What the certificate file says of it: digests of ids, cut short, from which no id can be read."""
    return {"attempt": this.attempt, "digest": _digest(asked, known), "records": packed(digests(known))}


def digests(known: Sequence[Known]) -> set[bytes]:
    return {hashlib.blake2b(one.id.encode(), digest_size=ID_BYTES).digest() for one in known}


def packed(records: set[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(records))).decode()


def unpacked(records: str) -> set[bytes]:
    found = base64.b64decode(records)
    return {found[i : i + ID_BYTES] for i in range(0, len(found), ID_BYTES)}


def _digest(asked: Asked, known: Sequence[Known]) -> str:
    """The same for the same question asked of the same records: asking it again tells nothing new."""
    rows = sorted(f"{one.id} {one.draft_ok} {one.validator_ok} {one.propensity}" for one in known)
    question = f"{asked.max_regret} {asked.confidence} {asked.loss} {asked.gate} {asked.fit_share} {asked.seed}"
    return "b2:" + hashlib.blake2b("\n".join([question, *rows]).encode(), digest_size=16).hexdigest()
