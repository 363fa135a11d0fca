"""Feedback in bulk: from a file of outcomes that people learned later.

**A file is written in one commit, and saying the same twice changes nothing**: what is said is known by a digest of
itself. The time makes it another word: without one, a word that was overruled since is not said again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from orchestrator.canonical import stable
from orchestrator.store.closes import APART_S
from orchestrator.store.feedback import append
from orchestrator.store.statements import Row, Transaction, among, chunks, table
from orchestrator.store.tables import Feedback, OutcomeRow, Run

MOST = 100_000
"""Rows of one commit: some seconds that other processes wait for."""

_feedback, _outcome, _run = table(Feedback), table(OutcomeRow), table(Run)
_ENDED = select(_outcome.c.run_id, _outcome.c.config_id, _outcome.c.ended_at).where(among(_outcome.c.run_id))
_BY_KEY = select(_run.c.task_key, _run.c.run_id).where(
    _run.c.pipeline == bindparam("of_pipeline"), _run.c.tenant == bindparam("of_tenant"), among(_run.c.task_key)
)
_KNOWN = select(_feedback.c.feedback_id).where(among(_feedback.c.feedback_id))
_SAID = (
    select(_feedback.c.run_id, _feedback.c.success)
    .where(among(_feedback.c.run_id), _feedback.c.source != "spot_check")
    .order_by(_feedback.c.at, _feedback.c.feedback_id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackEntry:
    """What is to be recorded of one run. `at` None: now."""

    run_id: str
    success: bool
    reason: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackTaken:
    """`recorded` rows are new; `known` ones were said before. Of these, the runs that someone has overruled since and
    that stay so are `overruled`: to say it again, a row needs a time."""

    recorded: int = 0
    known: int = 0
    overruled: tuple[str, ...] = ()

    def __add__(self, other: FeedbackTaken) -> FeedbackTaken:
        return FeedbackTaken(
            recorded=self.recorded + other.recorded, known=self.known + other.known,
            overruled=(*self.overruled, *other.overruled),
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that can be spoken of: the configuration it ran under, and when it ended."""

    config_id: str
    ended_at: float


def ended_runs(connection: Connection, run_ids: Sequence[str]) -> dict[str, Ended]:
    """Those of the runs that have an outcome."""
    return {
        run_id: Ended(config_id, ended_at)
        for some in chunks(run_ids)
        for run_id, config_id, ended_at in connection.execute(_ENDED, {"among": some})
    }


def runs_of_tasks(connection: Connection, pipeline: str, tenant: str, task_keys: Sequence[str]) -> dict[str, str]:
    """The run of each task key that the pipeline and tenant have."""
    return {
        key: run_id
        for some in chunks(task_keys)
        for key, run_id in connection.execute(
            _BY_KEY, {"of_pipeline": pipeline, "of_tenant": tenant, "among": some}
        )
    }


def tenants_of_task(connection: Connection, pipeline: str, task_key: str) -> list[str]:
    """Under which tenants the pipeline has a run of this task key; empty for the tenant of runs without one."""
    wanted = select(_run.c.tenant).where(_run.c.pipeline == pipeline, _run.c.task_key == task_key).distinct()
    return sorted(connection.execute(wanted).scalars())


def runs_that_hold(
    connection: Connection, task_key: str, pipeline: str | None, tenant: str | None
) -> list[tuple[str, str, str]]:
    """(run id, pipeline, tenant) of the latest run of each task of this key; None: of whichever pipeline or tenant."""
    wanted = select(_run.c.run_id, _run.c.pipeline, _run.c.tenant).where(_run.c.task_key == task_key)
    if pipeline is not None:
        wanted = wanted.where(_run.c.pipeline == pipeline)
    if tenant is not None:
        wanted = wanted.where(_run.c.tenant == tenant)
    rows = connection.execute(wanted.order_by(_run.c.pipeline, _run.c.tenant, _run.c.created_at))
    return [(row.run_id, row.pipeline, row.tenant) for row in rows]


def take(
    transaction: Transaction, entries: Sequence[FeedbackEntry], digest: Callable[[bytes], str]
) -> FeedbackTaken:
    """Append those entries that were not said before, in their order. The runs must have ended."""
    ids = [_id(entry, digest) for entry in entries]
    known = {id_ for some in chunks(ids) for id_ in transaction.execute(_KNOWN, {"among": some}).scalars()}
    rows: list[Row] = []
    repeated: list[FeedbackEntry] = []
    spoken: dict[str, int] = {}
    for id_, entry in zip(ids, entries, strict=True):
        if id_ in known:
            repeated.append(entry)
            continue
        known.add(id_)
        at = entry.at
        if at is None:
            at = transaction.now + APART_S * spoken.get(entry.run_id, 0)
            spoken[entry.run_id] = spoken.get(entry.run_id, 0) + 1
        rows.append((id_, entry.run_id, "feedback", entry.success, entry.reason, at))
    append(transaction, rows)
    return FeedbackTaken(recorded=len(rows), known=len(repeated), overruled=_overruled(transaction, entries, repeated))


def _id(entry: FeedbackEntry, digest: Callable[[bytes], str]) -> str:
    said = stable([entry.run_id, entry.success, entry.reason, entry.at])
    return "f_" + digest(said).partition(":")[2]


def _overruled(
    transaction: Transaction, entries: Sequence[FeedbackEntry], repeated: Sequence[FeedbackEntry]
) -> tuple[str, ...]:
    """The runs of which the file's last word was said before, without a time, and is not what counts now."""
    if not repeated:
        return ()
    again = {entry.run_id for entry in repeated if entry.at is None}
    last = {entry.run_id: entry.success for entry in entries if entry.run_id in again}
    counts: dict[str, bool] = {}
    for some in chunks(sorted(again)):
        counts.update({row.run_id: row.success for row in transaction.execute(_SAID, {"among": some})})
    return tuple(run_id for run_id, success in last.items() if counts.get(run_id) != success)


def late(
    entries: Sequence[FeedbackEntry], ended: Mapping[str, Ended], windows: Mapping[str, float], now: float
) -> int:
    """How many entries come after the feedback window of their run; `windows` are seconds by configuration."""
    return sum(
        (now if entry.at is None else entry.at) > run.ended_at + windows.get(run.config_id, float("inf"))
        for entry in entries if (run := ended.get(entry.run_id)) is not None
    )
