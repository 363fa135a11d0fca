"""Every error of the house.

    OrchestratorError                 exit_code 1
    ├── InputError                    exit_code 2: the user's files or arguments are wrong
    │   ├── ConfigError               a pipeline, policy, price book or certificate file
    │   ├── TaskError                 a task that can't be taken (malformed, oversized, wrong types)
    │   │   └── DuplicateTask         the same id with other content
    │   ├── ConfigChanged             an open run began under another configuration
    │   ├── ExpressionError           a CEL expression that does not compile
    │   └── ResidencyError            something remote where only local is allowed
    ├── StoreError                    the store can't be read or written (full disk, read-only, lock)
    │   └── StoreTooNew               a database written by a newer version    exit_code 2
    ├── BudgetExceeded                a reservation that does not fit
    ├── UnpricedCall                  a call without a price where a budget or --strict-prices applies
    ├── CostReached                   a call that does not fit the sum of `run --max-cost`
    ├── EscalationPaused              `limits.escalation` was reached and says `pause`
    ├── Cancelled                     a run given up by its caller
    └── ModelError                    a call that gave no answer
        ├── ContextOverflow           the request is longer than the model takes; never retried
        ├── RequestRefused            4xx: the request itself is wrong; never retried
        │   ├── AuthRefused           401, 403: the key is wrong
        │   └── AddressRefused        a local model's address that is not local (models/network.py)  exit_code 2
        ├── BadAnswer                 the server's reply is not the protocol: broken JSON, empty choice, other model
        └── Outage                    retried, and what `on_*_outage` decides upon
            ├── RateLimited           429, with `retry_after_s` where the server named it
            ├── ServerFailed          5xx
            ├── CallTimedOut          no complete answer within the time-out
            ├── ConnectionLost        refused, reset, closed mid-answer or mid-stream
            └── CircuitOpen           this endpoint failed too often; not asked until it cools    exit_code 3

Each class has `retryable` (may the same request be sent again), `hint` (what to change) and `exit_code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.records import ServiceTier, Usage


class OrchestratorError(Exception):
    """Base of all errors raised on purpose. `hint` says what to change."""

    retryable: bool = False
    exit_code: int = 1
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint


class InputError(OrchestratorError):
    exit_code = 2


class ConfigError(InputError):
    """A configuration file is wrong. `file`, `line` (from 1) and `key` say where, as far as known."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{where}{message}", hint=hint)
        self.file, self.line, self.key = file, line, key


class TaskError(InputError):
    pass


class DuplicateTask(TaskError):
    hint = "give the changed task a new id, or remove the older one with `orchestrator forget --task ID`"


class ConfigChanged(InputError):
    hint = "give --resume-with-changes to go on under the new configuration, or put the old one back"


class ExpressionError(InputError):
    pass


class ResidencyError(InputError):
    pass


class StoreError(OrchestratorError):
    pass


class StoreTooNew(StoreError):
    exit_code = 2
    hint = "this store was written by a newer version of draftgate: upgrade the package, or name another --store"


class BudgetExceeded(OrchestratorError):
    """`for_now`: there is room for the call, once calls in flight have settled below what they reserve. `of_task`: the
    budget is that of one task: it begins anew at no time."""

    hint = "raise `budget:` in the pipeline, or wait for the next UTC day"

    def __init__(
        self, message: str, *, hint: str | None = None, for_now: bool = False, of_task: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.for_now, self.of_task = for_now, of_task


class UnpricedCall(OrchestratorError):
    hint = "add the model to the price book: `orchestrator prices pin`"


class CostReached(OrchestratorError):
    """The task is left open: it did not end, and the same command goes on with it."""

    hint = "give a higher --max-cost to go on"


class EscalationPaused(OrchestratorError):
    hint = "the share of escalated tasks is above `limits.escalation`: look at `orchestrator report`, then resume"


class Cancelled(OrchestratorError):
    exit_code = 130


class ModelError(OrchestratorError):
    """A call without an answer. `usage` is what the provider billed for it, where it said so, with the tier, the
    model that answered and the response's id as far as they were told;
    `sent` is False where the request certainly never left (nothing can have been billed)."""

    tier: ServiceTier | None = None
    answered: str | None = None
    response_id: str | None = None

    def __init__(
        self, message: str, *, hint: str | None = None, usage: Usage | None = None, sent: bool = True,
        endpoint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.usage, self.sent, self.endpoint = usage, sent, endpoint

    def told(self, head: Mapping[str, Any], tier: ServiceTier | None) -> None:
        """Keep what the beginning of a reply told of who answered it: `id` and `model`."""
        self.tier = tier
        self.answered, self.response_id = (
            value if isinstance(value := head.get(key), str) and value else None for key in ("model", "id")
        )


class ContextOverflow(ModelError):
    hint = "shorten the input or serve the model with a larger context (max_model_len)"


class RequestRefused(ModelError):
    pass


class AuthRefused(RequestRefused):
    hint = "check the API key named in the pipeline's models section"


class BadAnswer(ModelError):
    retryable = True


class Outage(ModelError):
    retryable = True
    exit_code = 3


class RateLimited(Outage):
    def __init__(self, message: str, *, retry_after_s: float | None = None, **kw: object) -> None:
        super().__init__(message, **kw)  # type: ignore[arg-type]  # the same keywords as ModelError
        self.retry_after_s = retry_after_s


class ServerFailed(Outage):
    pass


class CallTimedOut(Outage):
    hint = "raise the model's `timeout:`"


class ConnectionLost(Outage):
    pass


class CircuitOpen(Outage):
    def __init__(self, message: str, *, retry_after_s: float | None = None, **kw: object) -> None:
        super().__init__(message, **kw)  # type: ignore[arg-type]  # the same keywords as ModelError
        self.retry_after_s = retry_after_s
