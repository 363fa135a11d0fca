"""What goes into the store, and what of runs and calls comes out of it: frozen to the type checker, without SQL.

Times are UTC epoch seconds (`_at`, `_until`); money is exact; `bytes` are JSON written by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, dataclass_transform

from orchestrator.records import (
    Action,
    Answer,
    Call,
    CallState,
    Json,
    Money,
    Provenance,
    Role,
    ServiceTier,
    Status,
    SuccessSource,
    Usage,
    VerdictKind,
)

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def entry(of: type[T]) -> type[T]:
    """A dataclass that the type checker holds frozen. Python's own way of freezing makes one three times as dear to
    make, and half a dozen with 60 fields are made for every task."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(of)


ClaimKind = Literal["new", "resumed", "done", "busy", "conflict", "config_changed"]
SpotCheckState = Literal["pending", "done", "unanswered", "forbidden"]
FeedbackSource = Literal["feedback", "spot_check", "hand_off"]


# -- runs -------------------------------------------------------------------------------------------------------------


@entry
class ConfigEntry:
    """A pipeline's configuration as it stands; `body_json` holds no secret."""

    config_id: str
    pipeline: str
    version: str
    owner: str
    cost_center: str
    mode: str
    body_json: str
    created_at: float


@entry
class Again:
    """Which tasks are to be done again, of those whose last run gave no answer: `rules` are what it was handed off or
    failed by; of `statuses`, all are."""

    rules: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset()


@entry
class RunClaim:
    """A task that wants to run. `task_key` and `task_digest` are keyed digests of its id and its content.

    `content` is the task as JSON, kept until `keep_until` (None: for ever, unless the outcome says 0).
    With `config_strict`, an open run of another configuration is reported as `config_changed` and left alone.
    What ended as `again` says is done again, by a new run.
    """

    run_id: str
    pipeline: str
    tenant: str
    task_key: str
    task_digest: str
    config_id: str
    tags: Mapping[str, Json] = field(default_factory=dict)
    content: bytes | None = None
    keep_until: float | None = None
    config_strict: bool = False
    again: Again | None = None


@entry
class Claimed:
    """What became of a claim: `run_id` is the run that holds this task key, which may be an earlier one.

    new: inserted. resumed: an open run, now ours. done: it has `outcome`. busy: another live process has it.
    conflict: the key was used for other content. config_changed: open under another configuration, untouched.
    `again_of` are the runs of the task that a run which is to be made does again, the oldest first.
    """

    run_id: str
    kind: ClaimKind
    outcome: StoredOutcome | None = None
    again_of: tuple[str, ...] = ()


@entry
class PriceRecord:
    """A price that calls are priced by: `version` is its name and the digest of its body."""

    version: str
    model: str
    body_json: str
    created_at: float


# -- calls ------------------------------------------------------------------------------------------------------------


@entry
class Covered:
    """The calls that a budget counts: those begun from `since` until `until`, of what is named."""

    since: float
    until: float | None = None
    pipeline: str | None = None
    tenant: str | None = None
    cost_center: str | None = None


@entry
class BudgetLine:
    """One budget a call must fit: `scope` is as `config/budget.py` writes it. From `soft` on there is a warning. Where
    its account is not open yet, it opens with what the ledger holds of the calls `covered` (None: nothing)."""

    scope: str
    limit: Money
    soft: Money | None = None
    covered: Covered | None = None


@entry
class CallIntent:
    """A call about to leave. `bound` is the most it can cost; every line of `budgets` reserves it."""

    call_id: str
    run_id: str
    pipeline: str
    step: str
    role: Role
    attempt: int
    sample: int
    model: str
    provider: str
    endpoint: str
    request_key: str
    bound: Money | None = None
    budgets: tuple[BudgetLine, ...] = ()
    budget_day: str | None = None
    account: str | None = None
    tenant: str = ""
    cost_center: str = ""


@entry
class AnswerKeep:
    """An answer to keep under `memo_key`: the request key where the cache may serve it, else `RUN_ID:request key`."""

    tenant: str
    memo_key: str
    answer: Answer
    expires_at: float | None = None


@entry
class CallSettlement:
    """What came back. A `cost` of None is unknown: the intent's bound then counts as spent.

    `costs` are the billionths of each of TOKEN_CLASSES that sum to `cost`, where it was priced by them.
    """

    call_id: str
    state: CallState
    ended_at: float
    model_answered: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    usage: Usage | None = None
    tier: ServiceTier | None = None
    cost: Money | None = None
    costs: tuple[int, ...] | None = None
    price_version: str | None = None
    provenance: Provenance = "unpriced"
    latency_ms: float | None = None
    keep: AnswerKeep | None = None


@entry
class StoredAnswer:
    """A durable answer, the signals measured on it (as they were handed in; None: not yet), and what made it."""

    answer: Answer
    signals: bytes | None
    call_id: str
    run_id: str
    cost: Money | None


# -- outcomes ---------------------------------------------------------------------------------------------------------


@entry
class StepEntry:
    """What was decided in one step, on what numbers. `features` are the numbers kept of its draft, as JSON:
    an array in the order of the configuration's names, without content."""

    step: str
    status: Status
    action: Action | None = None
    rule: str | None = None
    explanation: str | None = None
    confidence: float | None = None
    threshold: float | None = None
    certified: bool = False
    propensity: float | None = None
    verdict: VerdictKind | None = None
    draft_ok: bool | None = None
    attempts: int = 0
    from_cache: bool = False
    look: float | None = None
    compared: bool | None = None
    features: bytes = b"[]"


@entry
class HandOffEntry:
    step: str
    reason: str


@entry
class SpotCheckEntry:
    step: str
    propensity: float


@entry
class EndedRun:
    """How a run ended. `source_run_id` is the run whose answers were served from the cache, `again_of` are those whose
    task it did again."""

    run_id: str
    pipeline: str
    tenant: str
    config_id: str
    status: Status
    ended_at: float
    success: bool | None = None
    success_source: SuccessSource = "unknown"
    escalated: bool = False
    degraded: bool = False
    from_cache: bool = False
    error: str | None = None
    cost: Money | None = None
    saved: Money | None = None
    tags: Mapping[str, Json] = field(default_factory=dict)
    steps: tuple[StepEntry, ...] = ()
    source_run_id: str | None = None
    again_of: tuple[str, ...] = ()


@entry
class OutcomeEntry(EndedRun):
    """All that is recorded of a run's end, in one commit.

    `contents` are (kind, JSON) pairs: `value`, `value:STEP`, `draft:STEP`. `keep_until` is their retention: None
    for ever, 0 only as long as a hand-off or spot check needs them. `signals` are (tenant, memo key, bytes) to lay
    beside the answers they were measured on.
    """

    contents: tuple[tuple[str, bytes], ...] = ()
    keep_until: float | None = None
    handoff: HandOffEntry | None = None
    spot_checks: tuple[SpotCheckEntry, ...] = ()
    signals: tuple[tuple[str, str, bytes], ...] = ()


@entry
class StoredOutcome(EndedRun):
    """An outcome read back. `success` and its source take later feedback into account, by the precedence of
    docs/outcomes.md. `value` is a person's resolution where there is one; `value_kept` is False once content was
    erased.
    """

    value: Json = None
    value_kept: bool = False
    contents: Mapping[str, Json] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
