"""Certificates in use: what became of the tasks that came to their rule, and which of them spot checks revoked.

**A certificate lapses once**: the row, keyed by its digest, is written together with its event, and the
process that wins the row's `told_at` runs the hook.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, func, or_, select

from orchestrator.store import events
from orchestrator.store.entries import SpotCheckState
from orchestrator.store.statements import Transaction, inserting_new, table
from orchestrator.store.tables import Config, Lapse, OutcomeRow, SpotCheck, StepRow

_lapse, _config, _step = table(Lapse), table(Config), table(StepRow)
_outcome, _spot_check = table(OutcomeRow), table(SpotCheck)
_NEW = inserting_new(Lapse, "pipeline", "step", "certificate", "reason", "at", "since")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLapse:
    pipeline: str
    step: str
    certificate: str
    reason: str
    at: float
    told_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """When spot checks revoked a certificate, and from when on the evidence for it counted, both in epoch seconds: a
    draft made before `since` is no evidence of what drafts are like today."""

    certificate: str
    reason: str
    at: float
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InUse:
    """A certificate in use: the step whose rule compares with it, and the rules before that one. `certificate` is the
    digest that configurations carry, `earlier` the one that those of an earlier version do."""

    pipeline: str
    step: str
    certificate: str
    rules_before: tuple[str, ...]
    earlier: str | None = None

    @property
    def known_as(self) -> tuple[str, ...]:
        return (self.certificate,) if self.earlier is None else (self.certificate, self.earlier)


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks that came to the rule, and how many of them it accepted. Left out: answers from the cache, and drafts
    accepted without a chance of a spot check."""

    tasks: int = 0
    accepted: int = 0

    def __add__(self, other: TaskCounts) -> TaskCounts:
        return TaskCounts(self.tasks + other.tasks, self.accepted + other.accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedDraft:
    """A spot check of a draft that was accepted, by when its task ended."""

    ended_at: float
    propensity: float
    confidence: float | None
    state: SpotCheckState | str
    draft_ok: bool | None


def trip(
    transaction: Transaction, pipeline: str, step: str, certificate: str, reason: str, since: float | None = None
) -> bool:
    """Record that a certificate lapsed by evidence from `since` on, and the event with it. False where it had lapsed
    already."""
    if transaction.many(_NEW, [(pipeline, step, certificate, reason, transaction.now, since)]) != 1:
        return False
    events.record(transaction, pipeline, "certificate_lapsed", f"step {step}: {reason}")
    return True


def claim_notice(transaction: Transaction, pipeline: str, step: str, certificate: str) -> bool:
    """Take it upon this process to tell of a lapse. True for one process only, once."""
    c = _lapse.c
    mine = _lapse.update().where(
        c.pipeline == pipeline, c.step == step, c.certificate == certificate, c.told_at.is_(None)
    )
    return transaction.execute(mine.values(told_at=transaction.now)).rowcount == 1


def listed(connection: Connection, pipeline: str | None = None) -> list[StoredLapse]:
    """Lapses of a pipeline or of all, the oldest first. A store that is only read may be one of an earlier version."""
    c = _lapse.c
    wanted = select(c.pipeline, c.step, c.certificate, c.reason, c.at, c.told_at).order_by(c.at, c.pipeline, c.step)
    if pipeline is not None:
        wanted = wanted.where(c.pipeline == pipeline)
    return [StoredLapse(**row) for row in connection.execute(wanted).mappings()]


def changes(connection: Connection, pipeline: str, step: str) -> list[Change]:
    """Every time that a certificate of this step was revoked, in the order of the moments from which drafts count. An
    earlier version did not record that moment: then it is the one at which it was revoked."""
    c = _lapse.c
    since = func.coalesce(c.since, c.at).label("since")
    wanted = select(c.certificate, c.reason, c.at, since).where(c.pipeline == pipeline, c.step == step)
    return [Change(**row) for row in connection.execute(wanted.order_by(since, c.at)).mappings()]


def tasks_within(connection: Connection, used: InUse, spans: Sequence[tuple[float, float]]) -> list[TaskCounts]:
    """For each span: the tasks that ended after its first moment, and up to its second."""
    c = _step.c
    accepted, chance = c.action.in_(("accept", "spot_check")), c.propensity.is_not(None)
    counted = (
        select(
            func.coalesce(func.sum(case((and_(accepted, ~chance), 0), else_=1)), 0),
            func.coalesce(func.sum(case((and_(accepted, chance), 1), else_=0)), 0),
        )
        .select_from(_step.join(_outcome, _outcome.c.run_id == c.run_id))
        .where(
            _came_to_the_rule(connection, used), _outcome.c.ended_at > bindparam("after"),
            _outcome.c.ended_at <= bindparam("upto"),
        )
    )
    return [
        TaskCounts(*map(int, connection.execute(counted, {"after": after, "upto": upto}).one()))
        if after < upto else TaskCounts()
        for after, upto in spans
    ]


def checked_drafts(connection: Connection, used: InUse, after: float) -> list[CheckedDraft]:
    """The spot checks, answered or not, of accepted drafts whose task ended after then, in order of time."""
    s, ended_at = _spot_check.c, _outcome.c.ended_at
    # Checks are fewer than tasks; SQLite would go through the tasks, by the index that a plain comparison offers it.
    ended = ended_at if connection.dialect.name == "postgresql" else ended_at + 0.0
    joined = _spot_check.join(_step, and_(_step.c.run_id == s.run_id, _step.c.step == s.step))
    found = (
        select(ended_at, s.propensity, _step.c.confidence, s.state, s.draft_ok)
        .select_from(joined.join(_outcome, _outcome.c.run_id == s.run_id))
        .where(_came_to_the_rule(connection, used), ended > after)
        .order_by(ended, s.run_id)
    )
    return [CheckedDraft(**row) for row in connection.execute(found).mappings()]


def _came_to_the_rule(connection: Connection, used: InUse) -> ColumnElement[bool]:
    """Its own tasks, live, each counted once: a hit of the cache says nothing new."""
    return and_(
        _outcome.c.pipeline == used.pipeline,
        _outcome.c.config_id.in_(_configurations(connection, used)),
        _outcome.c.from_cache.is_(False),
        _step.c.step == used.step,
        _step.c.certified.is_(True),
        _step.c.from_cache.is_(False),
        _step.c.rule.not_in(used.rules_before),
    )


def _configurations(connection: Connection, used: InUse) -> Sequence[str]:
    """Those under which the certificate decided; in shadow, say, it does not."""
    c = _config.c
    carrying = or_(*(c.body_json.contains(one, autoescape=True) for one in used.known_as))
    return connection.execute(
        select(c.config_id).where(c.pipeline == used.pipeline, c.mode == "cascade", carrying)
    ).scalars().all()
