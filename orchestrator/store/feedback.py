"""What is learned of a run after it ended: feedback, what people say of hand-offs, what spot checks found.

Each is appended, never written over. A failure that became known evicts the answers behind it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, and_, select

from orchestrator.errors import InputError
from orchestrator.records import Json
from orchestrator.store import again, answers, cells, closes, seals
from orchestrator.store.entries import FeedbackSource, entry
from orchestrator.store.outcomes import contents_of
from orchestrator.store.statements import Row, Transaction, inserting, table
from orchestrator.store.tables import Feedback, HandOff, OutcomeRow, Run, StepRow

_hand_off, _run, _outcome, _step = table(HandOff), table(Run), table(OutcomeRow), table(StepRow)
_FEEDBACK = inserting(
    Feedback, "feedback_id", "run_id", "source", "success", "reason", "at", "sealed_by", "seal_no", "seal"
)


@entry
class StoredHandOff:
    """A task given to a person, with what was said where it is still kept (`task`, `draft:STEP`, …). `done_again`: it
    was taken back, and no person resolved it. `rule` is what gave it away."""

    run_id: str
    pipeline: str
    tenant: str
    step: str
    reason: str
    created_at: float
    resolved_at: float | None
    contents: Mapping[str, Json]
    done_again: bool = False
    rule: str | None = None


def record(
    transaction: Transaction, run_id: str, success: bool, reason: str, source: FeedbackSource, at: float | None
) -> None:
    """Append what was learned of a run. Raises InputError where no such run has ended, or `success` is neither True nor
    False (a text would count as one and read as the other)."""
    if success not in (True, False):
        raise InputError(f"success is {success!r}: give True or False")
    if transaction.execute(select(_outcome.c.run_id).where(_outcome.c.run_id == run_id)).first() is None:
        raise InputError(f"no run {run_id!r} with an outcome in this store", hint="see `orchestrator explain RUN_ID`")
    append_said(transaction, [(run_id, source, bool(success), reason)], transaction.now if at is None else at)


def append_said(transaction: Transaction, said: Sequence[tuple[str, FeedbackSource, bool, str]], at: float) -> None:
    """Words of one moment, as (run id, source, success, reason), each a row of its own."""
    append(transaction, [(f"f_{secrets.token_hex(8)}", *one, at) for one in said])


def append(transaction: Transaction, rows: Sequence[Row]) -> None:
    """Rows of (id, run id, source, success, reason, at): the one place where feedback is written. Raises InputError
    for the success of a run whose task was done again; then nothing was written."""
    again.refuse_success(transaction, [run_id for _, run_id, source, success, _, _ in rows
                                       if success and source != "spot_check"])
    cells.take_out(transaction, [run_id for _, run_id, *_ in rows])
    rows = closes.book(transaction, rows)
    places = seals.seal(transaction, "feedback", [(*row[:4], row[5]) for row in rows])
    transaction.many(_FEEDBACK, [
        (*row, place.writer, place.number, place.link) for row, place in zip(rows, places, strict=True)
    ])
    answers.evict(transaction, [run_id for _, run_id, _, success, _, _ in rows if not success])


# -- hand-offs ---------------------------------------------------------------------------------------------------------


def handoffs(connection: Connection, pipeline: str | None, open_only: bool) -> list[StoredHandOff]:
    """Tasks given to people, oldest first, with what is kept of them."""
    h = _hand_off.c
    decided = and_(_step.c.run_id == h.run_id, _step.c.step == h.step)
    wanted = (
        select(_hand_off, _run.c.task_key, _step.c.rule).join(_run, _run.c.run_id == h.run_id)
        .outerjoin(_step, decided).order_by(h.created_at, h.run_id)
    )
    if open_only:
        wanted = wanted.where(h.resolved_at.is_(None))
    if pipeline is not None:
        wanted = wanted.where(h.pipeline == pipeline)
    rows = connection.execute(wanted).all()
    contents = contents_of(connection, [row.run_id for row in rows])
    return [
        StoredHandOff(
            run_id=row.run_id, pipeline=row.pipeline, tenant=row.tenant, step=row.step, reason=row.reason,
            created_at=row.created_at, resolved_at=row.resolved_at, contents=contents.get(row.run_id, {}),
            done_again=again.is_aside(row.task_key), rule=row.rule,
        )
        for row in rows
    ]
