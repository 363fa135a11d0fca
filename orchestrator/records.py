"""What the house speaks of: tasks, calls, drafts, signals, decisions, verdicts, outcomes.

Frozen records without I/O. Every other module may import this one; it imports none of them.
Units stand in the names: `_ms` milliseconds, `_s` seconds, `_nano` 1e-9 of a currency unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

Json = Any
Features = Mapping[str, float | None]
"""The numbers kept of a task and its draft, by name; None: it could not be measured."""
Role = Literal["draft", "sample", "judge", "repair", "redo", "guard", "spot_check", "baseline"]
Action = Literal["accept", "redraft", "escalate", "spot_check", "hand_off", "decline"]
Mode = Literal["cascade", "shadow", "draft_only", "validate_only"]
ValidateMode = Literal["judge", "repair", "redo"]
Status = Literal["accepted", "approved", "repaired", "redone", "handed_off", "declined", "failed"]
VerdictKind = Literal["approved", "repaired", "redone", "rejected"]
Location = Literal["local", "remote"]
SuccessSource = Literal["require", "feedback", "label", "proof", "spot_check", "validator", "status", "unknown"]
Provenance = Literal["provider", "priced", "estimated", "allocated", "unsettled", "unpriced", "cache"]
CallState = Literal["intent", "settled", "unsettled"]
ServiceTier = Literal["batch", "flex", "priority", "other"]
"""What a provider bills at other prices than its standard ones, which are None. `other`: one that no book prices."""

AFTERWARDS: tuple[Role, ...] = ("spot_check", "baseline")
"""Calls that may be made when their run is long over, even by another process: no part of its outcome's cost."""
SERVED: frozenset[Status] = frozenset({"accepted", "approved", "repaired", "redone"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to be done. `id` is the idempotency key; without one, the content is the key.

    `expected` is the right answer where it is known (a label); None means unknown.
    """

    input: Mapping[str, Json]
    id: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    expected: Json = None

    @property
    def tenant(self) -> str:
        return str(self.meta.get("tenant", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call in disjoint classes: they sum to the bill.

    `input` excludes cached reads, cache writes and audio; `output` excludes reasoning and audio. `cache_write` lives
    for minutes (or as long as the provider says nothing of), `cache_write_1h` for an hour: they have two prices.
    `estimated` is True where the provider gave no usage and it was inferred.
    """

    input: int = 0
    input_audio: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    output_audio: int = 0
    reasoning: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.prompt + self.output + self.output_audio + self.reasoning

    @property
    def prompt(self) -> int:
        """All that was read, cached or not: what a price tier "above N tokens" is judged by."""
        return self.input + self.input_audio + self.cache_read + self.cache_write + self.cache_write_1h


TOKEN_CLASSES: tuple[str, ...] = (
    "input", "input_audio", "cache_read", "cache_write", "cache_write_1h", "output", "output_audio", "reasoning",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An exact amount: integer billionths of a currency unit."""

    nano: int
    currency: str = "USD"

    @property
    def amount(self) -> Decimal:
        return Decimal(self.nano).scaleb(-9)

    def __str__(self) -> str:
        return f"{self.amount.normalize():f} {self.currency}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Summary of an answer's token log-probabilities (natural log, <= 0); the list itself is not kept.

    `n` tokens; `mean`, `total`; quantiles `q0` (the minimum), `q10`, `q25`, `q50`; `margin_mean` and
    `margin_min` of top-1 minus top-2 (None where only the chosen token's was given).
    """

    n: int
    mean: float
    total: float
    q0: float
    q10: float
    q25: float
    q50: float
    margin_mean: float | None = None
    margin_min: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One rendered model request, before any provider's dialect: what a cache key is made of.

    `messages` are OpenAI-shaped dicts. `schema` is the JSON Schema the answer must match, or None for text.
    `sample` is the index of a redraft or agreement sample (0 the first): it selects the seed.
    """

    messages: Sequence[Mapping[str, Json]]
    schema: Mapping[str, Json] | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    sample: int = 0
    logprobs: bool = False
    thinking: Literal["off", "low", "medium", "high"] | None = None
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model returned for a Request. Durable as soon as it arrives.

    `text` is the answer without thinking. `finish_reason` is `stop`, `length`, `content_filter`,
    `tool_calls` or `other`. `logprobs` covers the whole answer, `value_logprobs` only the tokens
    of field values (not braces, keys or punctuation). `cost` is set only where the provider itself returned one.
    `tier` is the tier the provider says it served (None: standard).
    """

    text: str
    finish_reason: str
    usage: Usage
    model: str
    response_id: str | None = None
    endpoint: str = ""
    logprobs: TokenLogprobs | None = None
    value_logprobs: TokenLogprobs | None = None
    cost: Money | None = None
    latency_ms: float = 0.0
    tier: ServiceTier | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One measurement of a draft. A signal that raised is not ok, whatever its value."""

    name: str
    value: Json = None
    ok: bool = True
    reason: str = ""
    time_ms: float = 0.0
    required: bool = False
    proof: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A parsed answer of the drafter: `value` is None where the text did not parse."""

    value: Json
    text: str
    parsed: bool
    answer: Answer
    sample: int = 0


class Fate(NamedTuple):
    """What one rule makes of a draft that comes to it, with the chance that it is drawn (1.0: it draws nothing)."""

    action: Action
    chance: float = 1.0
    to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy said, by which rule, and why, in words.

    `certified` is False where the threshold is a plain number. `mode` and `to` override the step's validate.

    `look` is the propensity of the draft: the probability, over all draws of its policy, that the validator comes to
    see it (docs/policies.md); None where it is drawn again. `propensity` is the probability of a spot check, given that
    the draft is accepted (None where no sampling rule was reached). `compared`: could the draft, by some draws, come to
    the rule that compares its confidence? None of the three depends on what was drawn. `fates` are those of all rules
    that could decide, until the decision is bounded by what is possible.
    """

    action: Action
    rule: str
    explanation: str
    confidence: float | None = None
    threshold: float | None = None
    certified: bool = False
    propensity: float | None = None
    spot_check: bool = False
    mode: ValidateMode | None = None
    to: str | None = None
    message: str | None = None
    forbid: frozenset[str] = frozenset()
    look: float | None = None
    compared: bool | None = None
    fates: tuple[Fate, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the validator said of a draft."""

    kind: VerdictKind
    value: Json = None
    reasons: tuple[str, ...] = ()
    mode: ValidateMode = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One billed model request, as the ledger holds it. `cost` None means unknown, never zero."""

    call_id: str
    run_id: str
    step: str
    role: Role
    model: str
    attempt: int = 1
    sample: int = 0
    usage: Usage | None = None
    cost: Money | None = None
    provenance: Provenance = "unpriced"
    state: CallState = "settled"
    latency_ms: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How one step of a run ended."""

    step: str
    status: Status
    value: Json = None
    decision: Decision | None = None
    verdict: Verdict | None = None
    signals: Mapping[str, Signal] = field(default_factory=dict)
    draft_ok: bool | None = None
    attempts: int = 0
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a task ended, and whether it was a success.

    `success` is None while it is unknown. `cost_usd` is None where any of its calls could not be priced
    (or is billed in another currency: see `costs`). `resumed` says that it was read back from the store. `again_of` are
    earlier runs of the task, the oldest first, that gave no answer and that this one took the place of.
    """

    run_id: str
    status: Status
    id: str | None = None
    value: Json = None
    success: bool | None = None
    success_source: SuccessSource = "unknown"
    decision: Decision | None = None
    verdict: Verdict | None = None
    steps: Mapping[str, StepResult] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()
    costs: tuple[Money, ...] = ()
    cost_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    degraded: bool = False
    resumed: bool = False
    error: str | None = None
    again_of: tuple[str, ...] = ()
