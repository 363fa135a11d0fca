"""What a run can cost at most, and what it will cost if it goes on as it did.

The most: every task drafted as often as allowed, and escalated in the way that costs most, among those that the mode,
the step's `validate:` and its policy's rules can take. The typical: the mean of the pipeline's latest answered runs in
the same mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.canonical import stable
from orchestrator.cascade.keys import asked_tier, upper_bound
from orchestrator.cascade.model import Model
from orchestrator.cascade.prompts import JUDGE_INSTRUCTIONS, REPAIR_INSTRUCTIONS, judge_schema, repair_schema
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.cascade.verdicts import ASKED_AGAIN
from orchestrator.config.policy import AfterRule, BeforeRule
from orchestrator.finance.phrases import counted
from orchestrator.records import Money, Request, Usage, ValidateMode
from orchestrator.store.spending import SpentSoFar
from orchestrator.task_file import Size

FENCES = 64
BYTES_PER_TOKEN = 8
"""Of a draft or value that stands in a later prompt: no tokenizer's mean is near it."""
ASKED = ASKED_AGAIN + 1
"""A verdict is asked for at most so often, and so is a validator's own answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """`costs` per currency, the most that all tasks together can cost; `unpriced` models are not in it."""

    costs: tuple[Money, ...]
    unpriced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Calls:
    """`times` requests to one model for each task; `room` bytes of input beyond the request and the task."""

    model: Model
    times: int
    request: Request
    room: int = 0


def worst_case(size: Size, rt: Runtime) -> WorstCase:
    """An upper bound before retries: no token is shorter than a byte, and a prompt says its task once. Linear in lines
    and bytes, so the file is only counted."""
    filled_in = defaults_size(rt.loaded.task_schema)
    size = replace(size, size_bytes=size.size_bytes + size.lines * filled_in, longest=size.longest + filled_in)
    sums: dict[str, int] = {}
    unpriced: set[str] = set()
    for step in rt.steps:
        certain = [*_drafts(step, rt), *_baseline(step, rt)]
        ways = [_priced(way, size, rt, unpriced) for way in _ways(step, rt)]
        for calls in (_priced(certain, size, rt, unpriced), _dearest(ways)):
            for currency, nano in calls.items():
                sums[currency] = sums.get(currency, 0) + nano
    costs = tuple(Money(nano=n, currency=c) for c, n in sorted(sums.items()))
    return WorstCase(costs=costs, unpriced=tuple(sorted(unpriced)))


def typical(tasks: int, seen: SpentSoFar | None) -> str:
    """What `tasks` cost at the mean of the runs so far, in words; nothing where there are none of either."""
    if seen is None or not seen.runs or not tasks:
        return ""
    costs = " + ".join(
        str(Money(nano=_significant(one.nano * tasks // seen.runs), currency=one.currency)) for one in seen.costs
    )
    mean = f"the mean of this pipeline's last {counted(seen.runs, 'answered run')} in this mode"
    return f"typical: {costs or 'nothing'} ({counted(tasks, 'task')} at {mean})"


def _significant(nano: int, digits: int = 3) -> int:
    scale = 10 ** max(0, len(str(nano)) - digits)
    return round(nano / scale) * scale if scale > 1 else nano


# -- which calls there can be ------------------------------------------------------------------------------------------


def _drafts(step: Step, rt: Runtime) -> Iterator[_Calls]:
    if rt.mode != "validate_only":
        times = step.config.draft.max_attempts * step.signals.samples
        request = bare_request(step, step.drafter, step.loaded.output_schema)
        yield _Calls(step.drafter, times, request, said_before(step, rt))


def _baseline(step: Step, rt: Runtime) -> Iterator[_Calls]:
    if rt.config.baseline > 0 and rt.mode == "cascade" and step.validator is not None:
        yield _redo(step, step.validator, rt, times=1)


def _ways(step: Step, rt: Runtime) -> Iterator[list[_Calls]]:
    """Each way that the task can take to a validator: one of them is taken."""
    if rt.mode == "draft_only":
        return
    own = step.config.validate_
    rules: tuple[BeforeRule | AfterRule, ...] = (*step.loaded.policy.before, *step.loaded.policy.after)
    for mode, to in {(None, None), *((rule.mode, rule.to) for rule in rules)}:
        if (model := rt.models[to] if to else step.validator) is None:
            continue
        yield [_redo(step, model, rt)]  # without a draft, and in shadow, that is what any escalation is
        if rt.mode == "cascade":
            yield list(_verdicts(step, model, rt, mode or (own.mode if own else "redo")))


def _verdicts(step: Step, model: Model, rt: Runtime, mode: ValidateMode) -> Iterator[_Calls]:
    if mode != "redo":
        words = JUDGE_INSTRUCTIONS if mode == "judge" else REPAIR_INSTRUCTIONS
        schema = judge_schema() if mode == "judge" else repair_schema(step.loaded.output_schema)
        draft = step.drafter.config.max_tokens * BYTES_PER_TOKEN + FENCES
        yield _Calls(model, ASKED, bare_request(step, model, schema, words), draft + said_before(step, rt))
        if step.config.validate_ is None or step.config.validate_.on_reject != "redo":
            return
    yield _redo(step, model, rt)


def _redo(step: Step, model: Model, rt: Runtime, times: int = ASKED) -> _Calls:
    return _Calls(model, times, bare_request(step, model, step.loaded.output_schema), said_before(step, rt))


def bare_request(step: Step, model: Model, schema: Mapping[str, Any] | None, words: str = "") -> Request:
    """The request without its task."""
    said = [{"role": "system", "content": (step.loaded.system or "") + words}]
    said.append({"role": "user", "content": step.loaded.prompt or ""})
    return model.request(said, schema)


def defaults_size(schema: Mapping[str, Any] | None) -> int:
    """Bytes that the defaults of a task schema can add to a task, their names with them."""
    size = 0
    for name, part in (schema or {}).get("properties", {}).items():
        if isinstance(part, Mapping):
            size += len(stable({name: part["default"]})) if "default" in part else defaults_size(part)
    return size


def said_before(step: Step, rt: Runtime) -> int:
    """Bytes of the earlier steps' values, where the prompt may say them."""
    models = [m for one in rt.steps[: step.index] for m in (one.drafter, one.validator) if m is not None]
    reads = any(name[:1] == ("steps",) for name in step.loaded.reads)
    return sum(m.config.max_tokens for m in models) * BYTES_PER_TOKEN if reads else 0


# -- what they cost ----------------------------------------------------------------------------------------------------


def _priced(calls: Iterable[_Calls], size: Size, rt: Runtime, unpriced: set[str]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for one in calls:
        cost = _cost(one, size, rt)
        if cost is None:
            unpriced.add(one.model.client.name)
        else:
            sums[cost.currency] = sums.get(cost.currency, 0) + cost.nano
    return sums


def _dearest(ways: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """In each currency on its own: which way is dearest in all is a matter of rates."""
    most: dict[str, int] = {}
    for way in ways:
        for currency, nano in way.items():
            most[currency] = max(most.get(currency, 0), nano)
    return most


def _cost(calls: _Calls, size: Size, rt: Runtime) -> Money | None:
    model, book = calls.model, rt.loaded.book
    each = upper_bound(calls.request, model.config)
    if book is None or each is None:
        return None
    entry = book.entry_of(
        asked=model.client.name, kind=model.config.kind, answered=None, price=model.config.price,
        at=datetime.fromtimestamp(rt.clock(), UTC),
    )
    fixed = each.input + calls.room
    most = Usage(
        input=calls.times * (size.size_bytes + size.lines * fixed), output=calls.times * size.lines * each.output
    )
    return entry.bound(most, asked_tier(calls.request, model.config), prompt=fixed + size.longest) if entry else None
