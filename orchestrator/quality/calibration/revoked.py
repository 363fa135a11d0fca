"""Where spot checks revoked a certificate of the step: drafts made before the change began tell nothing of today's.

**What a revoked certificate stood on certifies nothing any more.** Kept drafts and validations are made anew, under ids
of their own, without a look at cached answers; recorded drafts count from the beginning of the stretch on that the
evidence counted from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from orchestrator.config.certificate import certificate_digest, known_as
from orchestrator.errors import InputError
from orchestrator.quality.calibration.drafting import unnamed
from orchestrator.quality.calibration.evidence import Place
from orchestrator.records import Task
from orchestrator.store.copies import copy_id
from orchestrator.store.lapses import Change, changes
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import Run

if TYPE_CHECKING:
    from orchestrator.store.engine import Store

_run = table(Run)


def changes_of(store: Store, pipeline: str, step: str) -> tuple[Change, ...]:
    """Every time that a certificate of the step was revoked in this store, the latest change last."""
    with store.read() as connection:
        return tuple(changes(connection, pipeline, step))


def kept_before(place: Place, tasks: Sequence[Task]) -> int:
    """How many of these tasks have a draft that a calibration of before the change kept."""
    keys = {
        place.store.digest(f"calibrate:id:{copy_id('calibration', mark, name)}".encode()): name
        for name in map(unnamed, tasks) for mark in place.marks.earlier
    }
    r = _run.c
    query = select(r.task_key).where(r.pipeline == place.loaded.config.pipeline, r.done.is_(True), among(r.task_key))
    with place.store.read() as connection:
        rows = [row for some in chunks(list(keys)) for row in connection.execute(query, {"among": some})]
    return len({keys[row.task_key] for row in rows})


def left_out(change: Change | None, *, kept: int = 0, recorded: int = 0) -> tuple[str, ...]:
    """What is said of it, where drafts of before the change were left out."""
    said = [f"{kept:,} kept drafts are replaced by new ones"] if kept else []
    said += [f"{recorded:,} recorded drafts are left out"] if recorded else []
    return (f"{why(change)}: {', '.join(said)}",) if change is not None and said else ()


def not_revoked(certificate: Mapping[str, Any], changes: Sequence[Change]) -> None:
    """Raises InputError where this is the very certificate that one of the changes revoked, made again."""
    known = certificate_digest(certificate)
    if change := next((one for one in changes if one.certificate == known), None):
        raise InputError(
            f"this is the very certificate that spot checks revoked at {moment(change.at)}, made again from the same "
            f"drafts: {change.reason}",
            hint="bring other drafts: leave --since out, or give --labels FILE or --spend SUM",
        )


def is_revoked(certificate: Mapping[str, Any] | None, changes: Sequence[Change]) -> bool:
    return certificate is not None and any(one.certificate in known_as(certificate) for one in changes)


@dataclass(frozen=True, slots=True)
class Span:
    """The recorded drafts that count: of runs that ended in [since, until), in epoch seconds. `change`: the last one in
    what drafts are like; `asked`: the two were asked for, and are not all that follows from the change."""

    since: float = -math.inf
    until: float = math.inf
    change: Change | None = None
    asked: bool = False

    def __contains__(self, at: float) -> bool:
        return self.since <= at < self.until

    @property
    def words(self) -> str:
        since = f" since {moment(self.since)}" if self.since > -math.inf else ""
        return since + (f" until {moment(self.until)}" if self.until < math.inf else "")

    def why(self, outside: int) -> str:
        """Why there are fewer drafts than the ledger holds; empty where there are not."""
        if not outside:
            return ""
        told = f"{outside:,} recorded drafts {'outside --since and --until ' if self.asked else ''}are left out"
        return f"{why(self.change)}: {told}" if self.change and self.since == self.change.since else told

    def notes(self, outside: int) -> tuple[str, ...]:
        if self.change is not None and self.since < self.change.since:
            return (f"{why(self.change)}: as --since asks for, those from {moment(self.since)} on count all the same",)
        return tuple(filter(None, [self.why(outside)]))


def span_of(place: Place, since: float | None = None, until: float | None = None) -> Span:
    """From the last change on, unless another beginning is asked for."""
    change = place.changed
    begin = since if since is not None else -math.inf if change is None else change.since
    return Span(begin, math.inf if until is None else until, change, not since is until is None)


def why(change: Change) -> str:
    """The cause, in words that can stand alone."""
    found = " by what they found from then on" if change.since < change.at else ""
    return (
        f"drafts made before {moment(change.since)} tell nothing of today (spot checks revoked this step's certificate "
        f"at {moment(change.at)}{found})"
    )


def moment(at: float) -> str:
    """To the second, as `--since` reads it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
