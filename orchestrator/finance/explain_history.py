"""What was said of a run's success, in order of time, and which word counts now, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.finance.explain_calls import iso
from orchestrator.finance.explain_seals import Seals
from orchestrator.records import SERVED
from orchestrator.store.evidence import feedback, outcome
from orchestrator.store.success import PRECEDENCE, Known, effective, said


@dataclass(frozen=True, slots=True)
class _Said:
    """A piece of evidence as it was recorded: `by` outcome, or the source of a row of feedback."""

    known: Known
    by: str
    run_id: str
    reason: str | None = None
    row: str = ""


def history(
    connection: Connection, ended: dict[str, Any], source_run_id: str | None, seals: Seals
) -> list[dict[str, Any]]:
    """Each piece of evidence: `source`, `by`, `success`, `at`, the run it is of, its reason and seal, whether it
    `counts`, and why."""
    known = _of_run(connection, ended, own=True)
    if ended["from_cache"] and ended["status"] in SERVED and source_run_id is not None:
        wanted = select(outcome).where(outcome.c.run_id == source_run_id)
        origin = connection.execute(wanted).mappings().one_or_none()
        if origin is not None:
            inherited = _of_run(connection, dict(origin), own=False)
            known += [one for one in inherited if one.known.source not in ("require", "status")]
    counting = effective(one.known for one in known)
    return [
        {"source": one.known.source, "by": one.by, "success": one.known.success, "at": iso(one.known.at),
         "run_id": one.run_id, "reason": one.reason, "counts": one.known is counting, "why": _why(one.known, counting),
         "seal": seals.of("outcome" if one.by == "outcome" else "feedback", one.row)}
        for one in sorted(known, key=lambda one: (one.known.at, one.by != "outcome", one.row))
    ]


def _of_run(connection: Connection, ended: dict[str, Any], *, own: bool) -> list[_Said]:
    run_id = ended["run_id"]
    first = Known(ended["success"], ended["success_source"], ended["ended_at"], own)
    wanted = select(feedback).where(feedback.c.run_id == run_id).order_by(  # of two at one moment as reports do
        feedback.c.at.desc(), feedback.c.feedback_id.desc()
    )
    later = [
        _Said(Known(row.success, said(row.source), row.at, own), row.source, run_id, row.reason or None,
              row.feedback_id)
        for row in connection.execute(wanted)
    ]
    return [_Said(first, "outcome", run_id, row=run_id), *later]


def _why(one: Known, counting: Known) -> str:
    if one.success is None:
        return "it says nothing of success"
    if one is counting:
        return f"{one.source} comes before {', '.join(PRECEDENCE[PRECEDENCE.index(one.source) + 1 :])}"
    if one.source != counting.source:
        return f"{counting.source} comes before {one.source}"
    if one.own != counting.own:
        return "what is known of the run itself comes before what is known of the run it was served from"
    return "a later word of the same source replaced it"
