"""The tables. Ledger rows hold digests and numbers; what people and models said stands in `content` alone.

Money is an integer of billionths beside its currency. Times are UTC epoch seconds (`_at`). Columns named
`_json` hold canonical JSON without content (settings, signals' numbers, tags that are allow-listed).

Indices are few, because each costs on every write; most are partial: they hold open work or set values only.

What the store keeps of itself is in `own_tables`, what reports are read from in `line_tables`.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Index, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

ASKED_AGAIN = "sample > 0 AND role IN ('judge', 'repair')"
"""Calls that ask once more for a verdict that could not be read: few, and counted in an index of all of them."""


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class Config(SQLModel, table=True):
    """A pipeline's configuration as it stood, by digest: what a run ran under. Holds no secret."""

    __tablename__: ClassVar[str] = "config"
    config_id: str = Field(primary_key=True)
    pipeline: str = Field(index=True)
    version: str
    owner: str
    cost_center: str
    mode: str
    body_json: str
    created_at: float


class Run(SQLModel, table=True):
    """A task taken in. `task_key` is the keyed digest of its id (or of line and content). A run whose task was done
    again has its own id behind it; `again_of` are those that this run did again, parted by spaces (`again.py`)."""

    __tablename__: ClassVar[str] = "run"
    __table_args__ = (
        UniqueConstraint("pipeline", "tenant", "task_key"),
        _partial("run_source", "source_run_id", where="source_run_id IS NOT NULL"),
        _partial("run_again", "created_at", where="again_of IS NOT NULL"),
    )
    run_id: str = Field(primary_key=True)
    pipeline: str
    tenant: str
    task_key: str
    task_digest: str
    config_id: str
    owner_id: str
    done: bool = False
    created_at: float
    source_run_id: str | None = None
    tags_json: str = "{}"
    again_of: str | None = None


class CallRow(SQLModel, table=True):
    """One attempt at one model: `intent` before it leaves, `settled` by what came back, `unsettled` by recovery.

    `scopes` names the budgets that hold its reservation, parted by spaces. A token class not told apart is NULL.
    `seal` is its link in the chain of the writer `sealed_by` (NULL: its owner), the `seal_no`-th.
    """

    __tablename__: ClassVar[str] = "call"
    __table_args__ = (
        _partial("call_open", "owner_id", where="state = 'intent'"),
        _partial("call_ended", "ended_at", where="ended_at IS NOT NULL"),
        _partial("call_asked_again", "ended_at", "sample", "role", "run_id", "request_key", where=ASKED_AGAIN),
    )
    call_id: str = Field(primary_key=True)
    run_id: str = Field(index=True)
    pipeline: str
    step: str
    role: str
    attempt: int
    sample: int
    model: str
    model_answered: str | None = None  # where it is another than `model`
    provider: str
    endpoint: str
    response_id: str | None = None
    request_key: str
    owner_id: str
    state: str = "intent"
    started_at: float
    ended_at: float | None = None
    latency_ms: float | None = None
    finish_reason: str | None = None
    error: str | None = None
    input_tokens: int | None = None
    input_audio_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    output_audio_tokens: int | None = None
    reasoning_tokens: int | None = None
    tier: str | None = None
    cost_nano: int | None = Field(default=None, sa_type=BigInteger)
    currency: str | None = None
    price_version: str | None = None
    provenance: str | None = None
    bound_nano: int | None = Field(default=None, sa_type=BigInteger)
    bound_currency: str | None = None
    budget_day: str | None = None
    scopes: str | None = None
    account: str | None = None
    sealed_by: str | None = None
    seal_no: int | None = None
    seal: bytes | None = Field(default=None, sa_type=LargeBinary)


class AnswerRow(SQLModel, table=True):
    """A durable answer, by the key of its request: the memo that is the cache and that resuming reads.

    `memo_key` is the request key where the cache may serve it, else `RUN_ID:request key`, for resuming only.
    """

    __tablename__: ClassVar[str] = "answer"
    __table_args__ = (_partial("answer_expires", "expires_at", where="expires_at IS NOT NULL"),)
    tenant: str = Field(primary_key=True)
    memo_key: str = Field(primary_key=True)
    call_id: str
    run_id: str = Field(index=True)
    pipeline: str = ""
    created_at: float
    expires_at: float | None = None
    cost_nano: int | None = Field(default=None, sa_type=BigInteger)
    currency: str | None = None
    answer: bytes = Field(sa_type=LargeBinary)
    signals: bytes | None = Field(default=None, sa_type=LargeBinary)


class StepRow(SQLModel, table=True):
    """What was decided in one step, on what numbers. `place`: its turn in the run. Earlier versions kept no `look`."""

    __tablename__: ClassVar[str] = "step"
    __table_args__: ClassVar[dict[str, bool]] = {"sqlite_with_rowid": False}
    run_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    place: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    status: str
    action: str | None = None
    rule: str | None = None
    explanation: str | None = None
    confidence: float | None = None
    threshold: float | None = None
    certified: bool = False
    propensity: float | None = None
    verdict: str | None = None
    draft_ok: bool | None = None
    attempts: int = 0
    from_cache: bool = False
    features_json: str = "[]"
    look: float | None = None
    compared: bool | None = None


class OutcomeRow(SQLModel, table=True):
    """How a run ended. One row a run; what is learned later stands in `feedback`."""

    __tablename__: ClassVar[str] = "outcome"
    __table_args__ = (Index("outcome_ended", "ended_at", "pipeline", "escalated"),)
    run_id: str = Field(primary_key=True)
    pipeline: str
    tenant: str = ""
    config_id: str
    status: str
    success: bool | None = None
    success_source: str = "unknown"
    escalated: bool = False
    degraded: bool = False
    from_cache: bool = False
    error: str | None = None
    ended_at: float
    cost_nano: int | None = Field(default=None, sa_type=BigInteger)
    currency: str | None = None
    saved_nano: int | None = Field(default=None, sa_type=BigInteger)
    saved_currency: str | None = None
    tags_json: str = "{}"
    sealed_by: str | None = None
    seal_no: int | None = None
    seal: bytes | None = Field(default=None, sa_type=LargeBinary)


class Feedback(SQLModel, table=True):
    """Append-only: what was learned of a run after it ended. `source` is feedback, spot_check or hand_off."""

    __tablename__: ClassVar[str] = "feedback"
    feedback_id: str = Field(primary_key=True)
    run_id: str = Field(index=True)
    source: str = "feedback"
    success: bool
    reason: str = ""
    at: float = Field(index=True)
    sealed_by: str | None = None
    seal_no: int | None = None
    seal: bytes | None = Field(default=None, sa_type=LargeBinary)


class SpotCheck(SQLModel, table=True):
    """An accepted draft chosen for a look by the validator, with the probability it was chosen with."""

    __tablename__: ClassVar[str] = "spot_check"
    __table_args__ = (_partial("spot_check_pending", "created_at", where="state = 'pending'"),)
    run_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    propensity: float
    state: str = "pending"
    draft_ok: bool | None = None
    owner_id: str = ""
    created_at: float
    ended_at: float | None = None


class HandOff(SQLModel, table=True):
    """A task given to a person. The input and the best draft stand in `content`."""

    __tablename__: ClassVar[str] = "hand_off"
    __table_args__ = (_partial("hand_off_open", "created_at", where="resolved_at IS NULL"),)
    run_id: str = Field(primary_key=True)
    pipeline: str
    tenant: str = ""
    step: str = ""
    reason: str
    created_at: float
    resolved_at: float | None = None


class Content(SQLModel, table=True):
    """What was said, as JSON: `kind` is task, value, `value:STEP`, `draft:STEP` or resolved. Goes at `keep_until`."""

    __tablename__: ClassVar[str] = "content"
    __table_args__ = (_partial("content_until", "keep_until", where="keep_until IS NOT NULL"),)
    run_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    tenant: str = ""
    body: bytes = Field(sa_type=LargeBinary)
    keep_until: float | None = None


class Budget(SQLModel, table=True):
    """Spent and reserved of one budget in one bucket of time: `scope` is as `config/budget.py` writes it.

    `ends_at` is when the bucket is over. A warning was given at `warned_at`, and a call refused first at `refused_at`.
    """

    __tablename__: ClassVar[str] = "budget"
    scope: str = Field(primary_key=True)
    currency: str
    limit_nano: int = Field(sa_type=BigInteger)
    spent_nano: int = Field(default=0, sa_type=BigInteger)
    reserved_nano: int = Field(default=0, sa_type=BigInteger)
    overrun_nano: int = Field(default=0, sa_type=BigInteger)
    soft_nano: int | None = Field(default=None, sa_type=BigInteger)
    ends_at: float | None = None
    warned_at: float | None = None
    refused_at: float | None = None


class Price(SQLModel, table=True):
    """A price as it stood when a call was priced by it, by name and digest of its body: `verify` needs no file."""

    __tablename__: ClassVar[str] = "price"
    version: str = Field(primary_key=True)
    model: str
    body_json: str
    created_at: float


class Event(SQLModel, table=True):
    """Something the people on call would want to know: a limit reached, a certificate lapsed, a circuit opened."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (Index("event_by_pipeline", "pipeline", "at"),)
    event_id: str = Field(primary_key=True)
    pipeline: str
    kind: str
    detail: str = ""
    at: float


class Lapse(SQLModel, table=True):
    """A certificate revoked for ever. `told_at`: when a process took the hook upon itself; `since`: of the evidence."""

    __tablename__: ClassVar[str] = "lapse"
    pipeline: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    certificate: str = Field(primary_key=True)
    reason: str
    at: float
    told_at: float | None = None
    since: float | None = None
