"""The most that drafting a task and having the validator do it anew can cost, retries included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.canonical import stable
from orchestrator.cascade.keys import TOKENS_OVERHEAD
from orchestrator.cascade.model import Model
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.errors import InputError
from orchestrator.records import Money, Task, Usage

if TYPE_CHECKING:
    from orchestrator.config.prices import PriceEntry
    from orchestrator.pipeline import Collected

UNKNOWN = 1 << 62
ASKED = 2
"""A validator's unreadable answer is asked for once more."""


@dataclass(frozen=True, slots=True)
class _Asks:
    """One model of one step: up to `times` requests of `fixed` input tokens beyond the task's bytes."""

    entry: PriceEntry
    times: int
    fixed: int
    output: int

    def most(self, size_bytes: int) -> int:
        usage = Usage(input=size_bytes + self.fixed, output=self.output)
        return self.times * self.entry.cost(usage).nano


@dataclass(frozen=True, slots=True)
class TaskBound:
    """In billionths of one currency. Linear in the task's bytes: no token is shorter than a byte."""

    drafts: tuple[_Asks, ...]
    validations: tuple[_Asks, ...]
    unpriced: tuple[str, ...]
    currency: str

    def of(self, task: Task) -> int:
        """Drafted, and validated."""
        return self.of_draft(task) + _most(self.validations, task)

    def of_draft(self, task: Task) -> int:
        return _most(self.drafts, task)

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


def _most(asks: Sequence[_Asks], task: Task) -> int:
    size = len(stable(task.input)) + len(stable(task.meta))
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
        entry = _price(step.validator, rt)
        if entry is None or entry.currency != currency:
            raise InputError(
                f"validator {step.validator.client.name!r} has no price in {currency}: what it costs can't be bounded",
                hint="add it to the price book: `orchestrator prices pin`",
            )
        validations.append(_Asks(entry, ASKED * _tries(step.validator), _fixed(step), step.validator.config.max_tokens))
        drafting = _price(step.drafter, rt)
        if drafting is None or drafting.currency != currency:
            unpriced.append(step.drafter.client.name)
            continue
        times = step.config.draft.max_attempts * step.signals.samples * _tries(step.drafter)
        drafts.append(_Asks(drafting, times, _fixed(step), step.drafter.config.max_tokens))
    return TaskBound(tuple(drafts), tuple(validations), tuple(unpriced), currency)


def _tries(model: Model) -> int:
    return model.config.retries + 1


def _fixed(step: Step) -> int:
    """Input tokens of a request beyond its task: an upper limit. Values of the steps before stand in later prompts."""
    loaded = step.loaded
    text = len((loaded.prompt or "").encode()) + len((loaded.system or "").encode())
    return text + len(stable(loaded.output_schema or {})) + TOKENS_OVERHEAD + 64


def _price(model: Model, rt: Runtime) -> PriceEntry | None:
    book = rt.loaded.book
    if book is None:
        return None
    at = datetime.fromtimestamp(rt.clock(), UTC)
    return book.entry(model.client.name, at) or (book.entry(model.config.price, at) if model.config.price else None)
