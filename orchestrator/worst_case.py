"""What a run can cost at most: every task drafted as often as allowed, and escalated."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.cascade.keys import TOKENS_OVERHEAD
from orchestrator.cascade.model import Model
from orchestrator.cascade.prompts import JUDGE_INSTRUCTIONS, REPAIR_INSTRUCTIONS
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.records import Money, Usage
from orchestrator.task_file import Size

FENCES = 64
ASKED = 2
"""A verdict is asked for at most twice, and so is a validator's own answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """`costs` per currency, the most that all tasks together can cost; `unpriced` models are not in it."""

    costs: tuple[Money, ...]
    unpriced: tuple[str, ...]


def worst_case(size: Size, rt: Runtime) -> WorstCase:
    """An upper bound before retries: no token is shorter than a byte, each task is drafted `max_attempts` times,
    validated in the step's mode, rejected and redone. Linear in lines and bytes, so the file is only counted."""
    sums: dict[str, int] = {}
    unpriced: set[str] = set()
    for step in rt.steps:
        for model, usage in _calls(step, size, baseline=rt.config.baseline > 0):
            cost = _cost(model, usage, rt)
            if cost is None:
                unpriced.add(model.client.name)
            else:
                sums[cost.currency] = sums.get(cost.currency, 0) + cost.nano
    costs = tuple(Money(nano=n, currency=c) for c, n in sorted(sums.items()))
    return WorstCase(costs=costs, unpriced=tuple(sorted(unpriced)))


def _calls(step: Step, size: Size, *, baseline: bool) -> Iterable[tuple[Model, Usage]]:
    prompt = len((step.loaded.prompt or "").encode()) + len((step.loaded.system or "").encode())
    schema = len(str(step.loaded.output_schema or ""))
    fixed = prompt + schema + TOKENS_OVERHEAD
    drafts = step.config.draft.max_attempts * step.signals.samples
    yield step.drafter, _usage(size, drafts, fixed, step.drafter.config.max_tokens)
    if step.validator is not None:
        most = step.validator.config.max_tokens
        draft_bytes = step.drafter.config.max_tokens * 8
        check = fixed + schema + max(len(JUDGE_INSTRUCTIONS), len(REPAIR_INSTRUCTIONS)) + draft_bytes + FENCES
        yield step.validator, _usage(size, ASKED, check, most)
        yield step.validator, _usage(size, ASKED + baseline, fixed, most)


def _usage(size: Size, times: int, fixed: int, output: int) -> Usage:
    return Usage(input=times * (size.size_bytes + size.lines * fixed), output=times * size.lines * output)


def _cost(model: Model, usage: Usage, rt: Runtime) -> Money | None:
    book = rt.loaded.book
    if book is None:
        return None
    at = datetime.fromtimestamp(rt.clock(), UTC)
    entry = book.entry(model.client.name, at) or (book.entry(model.config.price, at) if model.config.price else None)
    return entry.cost(usage) if entry else None
