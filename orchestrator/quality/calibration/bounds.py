"""The most that drafting a task and having the validator do it anew can cost, retries included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.canonical import stable
from orchestrator.cascade.admit import filled
from orchestrator.cascade.keys import asked_tier, upper_bound
from orchestrator.cascade.model import Model
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.verdicts import ASKED_AGAIN
from orchestrator.errors import InputError
from orchestrator.records import Money, ServiceTier, Task, Usage
from orchestrator.worst_case import bare_request, said_before

if TYPE_CHECKING:
    from orchestrator.cascade.collected import Collected
    from orchestrator.config.prices import PriceEntry

UNKNOWN = 1 << 62
ASKED = ASKED_AGAIN + 1
"""A validator's unreadable answer is asked for again."""


@dataclass(frozen=True, slots=True)
class _Asks:
    """One model of one step: up to `times` requests that cost no more than `each` and the task's bytes."""

    entry: PriceEntry
    tier: ServiceTier | None
    times: int
    each: Usage

    def most(self, size_bytes: int) -> int:
        bound = self.entry.bound(replace(self.each, input=self.each.input + size_bytes), self.tier)
        return UNKNOWN if bound is None else self.times * bound.nano


@dataclass(frozen=True, slots=True)
class TaskBound:
    """In billionths of one currency. Linear in the bytes of the task as it is sent, the defaults of its `schema` filled
    in: no token is shorter than a byte."""

    drafts: tuple[_Asks, ...]
    validations: tuple[_Asks, ...]
    unpriced: tuple[str, ...]
    currency: str
    schema: Mapping[str, Any] | None = None

    def of(self, task: Task) -> int:
        """Drafted, and validated."""
        return self.of_draft(task) + self._most(self.validations, task)

    def of_draft(self, task: Task) -> int:
        return self._most(self.drafts, task)

    def drafting(self, one: Collected) -> int:
        """What a draft cost."""
        return self.spent_on(one.spent, resumed=one.resumed, priced=not self.unpriced)

    def spent_on(self, cost: Money | None, *, resumed: bool, priced: bool) -> int:
        """What a run cost: nothing more where it was read back, for that was counted before. Where its models have a
        price, a cost that is unknown counts as more than any bound."""
        if resumed:
            return 0
        if cost is None:
            return UNKNOWN if priced else 0
        return cost.nano if cost.currency == self.currency or not cost.nano else UNKNOWN if priced else 0

    def _most(self, asks: Sequence[_Asks], task: Task) -> int:
        sent = filled(task, self.schema)
        size = len(stable(sent.input)) + len(stable(sent.meta))
        return sum(one.most(size) for one in asks)


def task_bounds(rt: Runtime, currency: str) -> TaskBound:
    """Raises InputError where a validator has no price in `currency`: then no sum could be kept. A drafter without a
    price costs nothing that could be counted, and is named."""
    drafts: list[_Asks] = []
    validations: list[_Asks] = []
    unpriced: list[str] = []
    for step in rt.steps:
        if step.validator is None:
            raise InputError(f"step {step.id!r} has no validator to ask", hint="validate: {model: …}")
        validation = _asks(step, step.validator, rt, ASKED)
        if validation is None or validation.entry.currency != currency:
            raise InputError(
                f"validator {step.validator.client.name!r} has no price in {currency}: what it costs can't be bounded",
                hint="add it to the price book: `orchestrator prices pin`",
            )
        validations.append(validation)
        drafting = _asks(step, step.drafter, rt, step.config.draft.max_attempts * step.signals.samples)
        if drafting is None or drafting.entry.currency != currency:
            unpriced.append(step.drafter.client.name)
            continue
        drafts.append(drafting)
    return TaskBound(tuple(drafts), tuple(validations), tuple(unpriced), currency, rt.loaded.task_schema)


def _asks(step: Step, model: Model, rt: Runtime, times: int) -> _Asks | None:
    """None where it has no price, or nothing bounds what it can be billed for."""
    request, book = bare_request(step, model, step.loaded.output_schema), rt.loaded.book
    each = upper_bound(request, model.config)
    if book is None or each is None:
        return None
    entry = book.entry_of(
        asked=model.client.name, kind=model.config.kind, answered=None, price=model.config.price,
        at=datetime.fromtimestamp(rt.clock(), UTC),
    )
    tier = asked_tier(request, model.config)
    if entry is None or entry.bound(each, tier) is None:
        return None
    each = replace(each, input=each.input + said_before(step, rt))
    return _Asks(entry, tier, times * (model.config.retries + 1), each)
