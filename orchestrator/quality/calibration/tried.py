"""What a certificate was tried on, so that a second try on the same records is known for what it is.

Trying until one passes would pass by luck: the j-th try on overlapping records is tested at δ·2⁻ʲ. The first one, which
does not know that it will be followed, spends δ: together they are wrong with probability at most 1.5 δ.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.config.fingerprint import differences, draft_fingerprint
from orchestrator.quality.calibration.evidence import Asked, Known

if TYPE_CHECKING:
    from orchestrator.store.lapses import Change

ID_BYTES = 5
"""Enough to tell millions of records apart; two that collide make a try count as a second one, never as a first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """`attempt` is what `certify` takes: 0 the first. `note` says what of the records was tried on before."""

    attempt: int
    note: str = ""


def this_try(
    asked: Asked, known: Sequence[Known], before: Mapping[str, Any] | None, fingerprint: Mapping[str, str],
    change: Change | None = None,
) -> Try:
    """Which try on these records this is, by what the certificate in place says of the ones before. Tasks that were
    drafted anew after a `change`, which revoked a certificate, are other records than they were."""
    tried = (before or {}).get("tried_on")
    if not isinstance(tried, Mapping) or before is None:
        return Try(attempt=asked.attempt or 0)
    if asked.attempt is not None:
        return Try(attempt=asked.attempt)
    same = known if tried.get("since") == _since(change) else [one for one in known if one.id == one.run]
    overlap = len(unpacked(tried["records"]) & digests(same))
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


def tried_on(this: Try, asked: Asked, known: Sequence[Known], change: Change | None = None) -> dict[str, Any]:
    """What the certificate file says of it: digests of ids, cut short, from which no id can be read. `drafts` tells the
    same tasks drafted anew from what they were drafted before; `since` is the `change` that they came after."""
    drafts = hashlib.blake2b("\n".join(sorted(one.run for one in known)).encode(), digest_size=16).hexdigest()
    return {
        "attempt": this.attempt, "digest": _digest(asked, known), "records": packed(digests(known)),
        "drafts": f"b2:{drafts}", "since": _since(change),
    }


def digests(known: Sequence[Known]) -> set[bytes]:
    return {hashlib.blake2b(one.id.encode(), digest_size=ID_BYTES).digest() for one in known}


def _rounded(score: float | None) -> str:
    """Another machine's arithmetic ends in other digits, and is no other confidence."""
    return "-" if score is None else f"{score:.9g}"


def _since(change: Change | None) -> float | None:
    return None if change is None else change.since


def packed(records: set[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(records))).decode()


def unpacked(records: str) -> set[bytes]:
    found = base64.b64decode(records)
    return {found[i : i + ID_BYTES] for i in range(0, len(found), ID_BYTES)}


def _digest(asked: Asked, known: Sequence[Known]) -> str:
    """The same for the same question asked of the same records with the same scores: asking it again tells nothing new,
    whichever way these records and scores came about."""
    rows = sorted(f"{one.id} {_rounded(one.score)} {one.draft_ok} {one.validator_ok} {one.propensity}" for one in known)
    question = f"{asked.max_regret} {asked.confidence} {asked.loss} {asked.gate} {asked.seed}"
    return "b2:" + hashlib.blake2b("\n".join([question, *rows]).encode(), digest_size=16).hexdigest()
