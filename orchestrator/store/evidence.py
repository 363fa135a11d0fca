"""Whether each run was a success, as SQL: the precedence of docs/outcomes.md, written once, in order.

A run served from the cache follows its source run, at each level after its own evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Subquery,
    and_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
)

from orchestrator.records import SERVED
from orchestrator.store.statements import table
from orchestrator.store.tables import Feedback, OutcomeRow, Run, SpotCheck, StepRow

outcome = table(OutcomeRow)
run = table(Run)
feedback = table(Feedback)
step = table(StepRow)
spot_check = table(SpotCheck)

RunIds = Select[tuple[str]]

PEOPLE = ("feedback", "hand_off")
CHECKS = ("spot_check",)
SOURCES = ("require", "feedback", "status", "label", "proof", "spot_check", "validator", "unknown")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Columns over `joined`, one row a run: `source` and `success` of the evidence that counts, and `propensity`
    where the run is unknown, or would be but for its spot check, and one sampling rule could have drawn it: then also
    the `step` that did and the `confidence` logged there. `unanswered`: it was drawn and could not be looked at.
    `wanted` is the condition that it is one of the runs asked for."""

    joined: FromClause
    source: ColumnElement[str]
    success: ColumnElement[bool]
    propensity: ColumnElement[float]
    unanswered: ColumnElement[bool]
    step: ColumnElement[str]
    confidence: ColumnElement[float]
    wanted: ColumnElement[bool]


def evidence(as_of: float | None = None, among: RunIds | None = None) -> Evidence:
    """The evidence of every run, or of those `among`, leaving out feedback of `as_of` or later, and sources of
    cached answers that ended then."""
    origin = outcome.alias("origin")
    origin_id = case((outcome.c.from_cache, run.c.source_run_id))
    own, own_check, theirs, their_check = (
        feedback.alias(name) for name in ("own", "own_check", "theirs", "their_check")
    )
    sampled = _sampled(among)
    joined: FromClause = outcome.join(run, run.c.run_id == outcome.c.run_id)
    had_ended = literal(True) if as_of is None else origin.c.ended_at < as_of
    joined = joined.outerjoin(origin, and_(origin.c.run_id == origin_id, had_ended))
    joined = joined.outerjoin(sampled, sampled.c.run_id == outcome.c.run_id)
    for word, sources, run_id in (
        (own, PEOPLE, outcome.c.run_id), (own_check, CHECKS, outcome.c.run_id),
        (theirs, PEOPLE, origin_id), (their_check, CHECKS, origin_id),
    ):
        joined = joined.outerjoin(word, word.c.feedback_id == _latest(sources, as_of, run_id))

    def recorded(name: str, row: FromClause) -> tuple[ColumnElement[bool], str, ColumnElement[bool]]:
        return row.c.success_source == name, name, row.c.success

    def later(name: str, row: FromClause) -> tuple[ColumnElement[bool], str, ColumnElement[bool]]:
        return row.c.success.is_not(None), name, row.c.success

    levels = [
        recorded("require", outcome),
        later("feedback", own), recorded("feedback", outcome),
        (outcome.c.status.not_in(SERVED), "status", literal(False)),
        later("feedback", theirs), recorded("feedback", origin),
        recorded("label", outcome), recorded("label", origin),
        recorded("proof", outcome), recorded("proof", origin),
        later("spot_check", own_check), recorded("spot_check", outcome),
        later("spot_check", their_check), recorded("spot_check", origin),
        recorded("validator", outcome), recorded("validator", origin),
    ]
    source = case(*((met, name) for met, name, _ in levels), else_="unknown")
    success = case(*((met, value) for met, _, value in levels), else_=null())
    # what a run would be without its check must not depend on the check: a checked run that another step escalated
    # stands for none of the unchecked. What is found out at once comes first: few runs could have been drawn, and to
    # find out the source of all others twice more was most of what this query cost
    drawable = and_(
        sampled.c.rules == 1, outcome.c.from_cache.is_(False),
        outcome.c.success_source.in_(("spot_check", "unknown")), source.in_(("spot_check", "unknown")),
    )
    return Evidence(
        joined, source, success, propensity=case((drawable, sampled.c.propensity)),
        unanswered=and_(drawable, source == "unknown", _unanswered(outcome.c.run_id)),
        step=case((drawable, sampled.c.step)), confidence=case((drawable, sampled.c.confidence)),
        wanted=_within(run.c.run_id, among),
    )


def _within(run_id: ColumnElement[str], among: RunIds | None) -> ColumnElement[bool]:
    return literal(True) if among is None else run_id.in_(among)


def _latest(sources: Sequence[str], as_of: float | None, run_id: ColumnElement[Any]) -> ScalarSelect[str]:
    """The last word of these sources on a run. Rows are only ever added: an earlier one is overruled, not gone."""
    said = feedback.alias("said")
    wanted = select(said.c.feedback_id).where(said.c.run_id == run_id, said.c.source.in_(sources))
    if as_of is not None:
        wanted = wanted.where(said.c.at < as_of)
    last = wanted.order_by(said.c.at.desc(), said.c.feedback_id.desc()).limit(1)
    return last.correlate_except(said).scalar_subquery()


def _sampled(among: RunIds | None) -> Subquery:
    """With what probability a run was drawn, and by how many steps' rules: more than one is not a plain sample."""
    return (
        select(
            step.c.run_id, func.max(step.c.propensity).label("propensity"),
            func.count(step.c.propensity).label("rules"), func.max(step.c.step).label("step"),
            func.max(step.c.confidence).label("confidence"),
        )
        .where(step.c.propensity.is_not(None), _within(step.c.run_id, among))
        .group_by(step.c.run_id)
        .subquery("sampled")
    )


def _unanswered(run_id: ColumnElement[str]) -> ColumnElement[bool]:
    """It was drawn and could not be looked at: a class of its own, of unknown success."""
    refused = or_(
        spot_check.c.state.in_(("unanswered", "forbidden")),
        and_(spot_check.c.state == "done", spot_check.c.draft_ok.is_(None)),
    )
    return exists().where(spot_check.c.run_id == run_id, refused)
