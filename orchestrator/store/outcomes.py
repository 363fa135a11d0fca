"""Outcomes: how a run ended, in one commit with all that belongs to it; exactly one a run.

**What is learned later never changes an outcome's row**: it is appended as feedback, and weighed when read.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import Connection, select

from orchestrator.records import SERVED, Json
from orchestrator.store import again, answers, cells, closes, events, retention, seals
from orchestrator.store.calls import calls_of, money
from orchestrator.store.entries import OutcomeEntry, StepEntry, StoredOutcome
from orchestrator.store.statements import Row, Transaction, among, chunks, inserting, table, updating, upserting
from orchestrator.store.success import Known, effective, said
from orchestrator.store.tables import Content, Feedback, HandOff, OutcomeRow, Run, SpotCheck, StepRow

log = logging.getLogger(__name__)

_run, _outcome, _step = table(Run), table(OutcomeRow), table(StepRow)
_feedback, _content = table(Feedback), table(Content)

_DONE_OR_NOT = (
    select(_run.c.run_id, _run.c.done).where(among(_run.c.run_id)).order_by(_run.c.run_id).with_for_update()
)
_OF_RUNS = (
    select(_outcome, _run.c.source_run_id, _run.c.again_of).join(_run, _run.c.run_id == _outcome.c.run_id)
    .where(among(_outcome.c.run_id))
)
_SOURCES = select(_outcome).where(among(_outcome.c.run_id))
_LEARNED = (  # the last word first: of two at one moment, the one that reports take
    select(_feedback).where(among(_feedback.c.run_id)).order_by(_feedback.c.at.desc(), _feedback.c.feedback_id.desc())
)
_SAID = select(_content.c.run_id, _content.c.kind, _content.c.body).where(among(_content.c.run_id))
_STEPS = select(_step).where(among(_step.c.run_id)).order_by(_step.c.run_id, _step.c.place)
_OUTCOME = inserting(
    OutcomeRow, *seals.OUTCOME, "error", "sealed_by", "seal_no", "seal",
)
_STEP = inserting(
    StepRow, "run_id", "step", "place", "status", "action", "rule", "explanation", "confidence", "threshold",
    "certified", "propensity", "verdict", "draft_ok", "attempts", "from_cache", "features_json",
    "look", "compared",
)
_CONTENT = upserting(Content, "run_id", "kind", "tenant", "body", "keep_until")
_HAND_OFF = inserting(HandOff, "run_id", "pipeline", "tenant", "step", "reason", "created_at")
_SPOT_CHECK = inserting(SpotCheck, "run_id", "step", "propensity", "state", "owner_id", "created_at")
_DONE = updating(Run, "done", "source_run_id", by=["run_id"])


def finish(transaction: Transaction, groups: Sequence[Sequence[OutcomeEntry]]) -> list[tuple[str, ...]]:
    """Record outcomes with their steps, content, hand-offs and spot checks. Gives each group the run ids that had an
    outcome already: theirs is ignored, and reported as an event."""
    ended = _ended(transaction, [entry.run_id for group in groups for entry in group])
    entries: dict[str, OutcomeEntry] = {}
    ignored: list[tuple[str, ...]] = []
    for group in groups:
        late = []
        for entry in group:
            if entry.run_id in ended or entry.run_id in entries:
                late.append(entry.run_id)
                _report_second(transaction, entry)
            else:
                entries[entry.run_id] = entry
        ignored.append(tuple(late))
    _write(transaction, list(entries.values()))
    return ignored


def _ended(transaction: Transaction, run_ids: Sequence[str]) -> set[str]:
    """Which runs have an outcome; their rows are locked, so that none gets its second meanwhile."""
    return {
        run_id
        for some in chunks(sorted(run_ids))
        for run_id, done in transaction.rows(_DONE_OR_NOT, {"among": some})
        if done
    }


def _report_second(transaction: Transaction, entry: OutcomeEntry) -> None:
    detail = f"run {entry.run_id} has an outcome already: {entry.status!r} was ignored"
    log.warning("%s", detail)
    events.record(transaction, entry.pipeline, "second_outcome", detail)


def _write(transaction: Transaction, entries: Sequence[OutcomeEntry]) -> None:
    closes.followers_learned(transaction, cells.take_out_followers(transaction, [e.run_id for e in entries]))
    rows = [_outcome_values(e) for e in entries]
    places = seals.seal(transaction, "outcome", [seals.outcome_values(*one) for one in zip(entries, rows, strict=True)])
    transaction.many(_OUTCOME, [
        (*row, e.error, place.writer, place.number, place.link)
        for e, row, place in zip(entries, rows, places, strict=True)
    ])
    transaction.many(_STEP, [_step_row(e.run_id, i, s) for e in entries for i, s in enumerate(e.steps)])
    transaction.many(_CONTENT, [
        (e.run_id, kind, e.tenant, body, e.keep_until)
        for e in entries if retention.keeps(transaction, e) for kind, body in e.contents
    ])
    transaction.many(_HAND_OFF, [
        (e.run_id, e.pipeline, e.tenant, e.handoff.step, e.handoff.reason, e.ended_at)
        for e in entries if e.handoff is not None
    ])
    transaction.many(_SPOT_CHECK, [
        (e.run_id, c.step, c.propensity, "pending", transaction.owner_id, e.ended_at)
        for e in entries for c in e.spot_checks
    ])
    transaction.many(_DONE, [(True, e.source_run_id, e.run_id) for e in entries])
    answers.keep_signals(transaction, [
        (signals, tenant, key, run_id)
        for e in entries for tenant, key, signals in e.signals if retention.outlives(e, key)
        for run_id in {e.run_id, e.source_run_id} if run_id
    ])
    retention.after_finish(transaction, entries)
    cells.queue(transaction, [e.run_id for e in entries])


def _outcome_values(e: OutcomeEntry) -> Row:
    """In the order of `seals.OUTCOME`."""
    cost = (e.cost.nano, e.cost.currency) if e.cost is not None else (None, None)
    saved = (e.saved.nano, e.saved.currency) if e.saved is not None else (None, None)
    return (
        e.run_id, e.pipeline, e.tenant, e.config_id, e.status, e.success, e.success_source, e.escalated, e.degraded,
        e.from_cache, e.ended_at, *cost, *saved, plain_json(e.tags),
    )


def _step_row(run_id: str, place: int, s: StepEntry) -> Row:
    return (
        run_id, s.step, place, s.status, s.action, s.rule, s.explanation, s.confidence, s.threshold, s.certified,
        s.propensity, s.verdict, s.draft_ok, s.attempts, s.from_cache,
        s.features.decode(), s.look, s.compared,
    )


def plain_json(values: Mapping[str, Json]) -> str:
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS, default=str).decode() if values else "{}"


# -- reading -----------------------------------------------------------------------------------------------------------


def load(connection: Connection, run_ids: Sequence[str]) -> dict[str, StoredOutcome]:
    """The outcomes of those runs that have one, with steps, calls, content, and what was learned since."""
    loaded: dict[str, StoredOutcome] = {}
    for some in chunks(run_ids):
        rows = connection.execute(_OF_RUNS, {"among": some}).all()
        known = _known(connection, rows)
        contents = contents_of(connection, some)
        steps, calls = _steps(connection, some), calls_of(connection, some)
        for row in rows:
            learned = effective([*known[row.run_id], *_of_source(row, known)])
            loaded[row.run_id] = _stored(row, learned, contents.get(row.run_id, {}), steps, calls)
    return loaded


def _known(connection: Connection, rows: Sequence[Any]) -> dict[str, list[Known]]:
    """What is known of each run's success, and of the runs that cache hits were served from."""
    known: dict[str, list[Known]] = {row.run_id: [_first(row)] for row in rows}
    sources = sorted({row.source_run_id for row in rows if row.source_run_id} - set(known))
    for row in connection.execute(_SOURCES, {"among": sources}) if sources else ():
        known[row.run_id] = [_first(row)]
    for some in chunks(list(known)):
        for row in connection.execute(_LEARNED, {"among": some}):
            known[row.run_id].append(Known(row.success, said(row.source), row.at))
    return known


def _of_source(row: Any, known: Mapping[str, list[Known]]) -> list[Known]:
    """What is known of the answer a cache hit was served from: not what its source run required or how it ended."""
    if not row.from_cache or row.status not in SERVED:
        return []
    inherited = (one for one in known.get(row.source_run_id, ()) if one.source not in ("require", "status"))
    return [replace(one, own=False) for one in inherited]


def _first(row: Any) -> Known:
    return Known(row.success, row.success_source, row.ended_at)


def contents_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, dict[str, Json]]:
    """What is still kept of each run, by kind."""
    contents: dict[str, dict[str, Json]] = {}
    for some in chunks(run_ids):
        for row in connection.execute(_SAID, {"among": some}):
            contents.setdefault(row.run_id, {})[row.kind] = orjson.loads(row.body)
    return contents


def _steps(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[StepEntry]]:
    steps: dict[str, list[StepEntry]] = {}
    for row in connection.execute(_STEPS, {"among": run_ids}).mappings():
        fields = {name: value for name, value in row.items() if name != "place"}
        run_id, features = fields.pop("run_id"), fields.pop("features_json").encode()
        steps.setdefault(run_id, []).append(StepEntry(**fields, features=features))
    return steps


def _stored(
    row: Any, learned: Known, contents: Mapping[str, Json], steps: Mapping[str, list[StepEntry]],
    calls: Mapping[str, Any],
) -> StoredOutcome:
    said = steps.get(row.run_id, [])
    shown = next((kind for kind in _values(row.status, said) if kind in contents), "")
    return StoredOutcome(
        run_id=row.run_id, pipeline=row.pipeline, tenant=row.tenant, config_id=row.config_id, status=row.status,
        success=learned.success, success_source=learned.source, escalated=row.escalated, degraded=row.degraded,
        from_cache=row.from_cache, error=row.error, ended_at=row.ended_at, cost=money(row.cost_nano, row.currency),
        saved=money(row.saved_nano, row.saved_currency), tags=orjson.loads(row.tags_json),
        source_run_id=row.source_run_id, value=contents.get(shown), value_kept=bool(shown), contents=contents,
        steps=tuple(said), calls=tuple(calls[row.run_id]), again_of=again.earlier(row.again_of),
    )


def _values(status: str, steps: Sequence[StepEntry]) -> list[str]:
    """The kinds of content that may hold a run's value, the most telling first: what a person said, then the last
    step's, and that only where the run was served."""
    served = ["value", *(f"value:{step.step}" for step in reversed(steps))] if status in SERVED else []
    return ["resolved", *served]
