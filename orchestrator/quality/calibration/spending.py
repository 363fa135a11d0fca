"""Buy records: tasks drawn at random are drafted, and answered by the validator alone, for a given sum.

**Never more than the sum.** A task is begun only while what was spent, plus the most that all tasks under way can cost,
plus the most that it can cost, is within it. What an earlier try of the same command spent is counted first.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cascade.collected import spent_on
from orchestrator.errors import InputError
from orchestrator.quality.calibration.bills import Bills, bills
from orchestrator.quality.calibration.bounds import UNKNOWN, TaskBound, task_bounds
from orchestrator.quality.calibration.drafting import (
    decided_elsewhere,
    drafts,
    named,
    record_id,
    validations,
    with_kept,
)
from orchestrator.quality.calibration.elsewhere import Elsewhere
from orchestrator.quality.calibration.escalation_price import recorded_escalations
from orchestrator.quality.calibration.evidence import Evidence, Known, Place, Source, Unlabelled
from orchestrator.quality.calibration.from_ledger import unlabelled
from orchestrator.quality.calibration.labels import known
from orchestrator.quality.calibration.purchase import Purchase, bought_before, purchase_of
from orchestrator.quality.calibration.revoked import kept_before, left_out, why
from orchestrator.quality.calibration.sampling import sample
from orchestrator.records import Money, Outcome, Task

if TYPE_CHECKING:
    from orchestrator.cascade.collected import Collected

MOST_TRAFFIC = 2_000
"""Drafts without a validation, for the spread of their scores: more tell little more."""


@dataclass(slots=True)
class Purse:
    """A sum in billionths: what was spent, and what each task under way holds of it, by its id."""

    limit: int
    spent: int = 0
    held: dict[str, int] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, task_id: str, bound: int) -> bool:
        """Hold `bound` for a task; where it does not fit yet, wait for others to end. False: it never will."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(bound) or not self.held)
            if not self._fits(bound):
                return False
            self.held[task_id] = bound
            return True

    async def settle(self, task_id: str, spent: int) -> None:
        """A task ended: what it spent takes the place of what was held for it; where that is unknown, all that was."""
        async with self._changed:
            held = self.held.pop(task_id)
            self.spent += held if spent >= UNKNOWN else spent
            self._changed.notify_all()

    def _fits(self, bound: int) -> bool:
        return self.spent + sum(self.held.values()) + bound <= self.limit


def by_spending(
    limit: Money, tasks: Path | None = None, *, confirm: Callable[[str], bool] = lambda words: True,
    tell: Callable[[str], object] = lambda words: None,
) -> Source:
    """Sample the tasks of the file, else those whose content the store still keeps, and have them validated. `tell`
    gets the figures before anything is spent, and `confirm` is asked."""

    async def gather(place: Place) -> Evidence:
        drawn = await asyncio.to_thread(sample, place, tasks)
        purchase, bound = await _priced(place, drawn.tasks, limit)
        if tasks is None and place.changed is not None:
            purchase = replace(purchase, fewer=f"{why(place.changed)}: tasks of before are not drawn")
        left = left_out(place.changed, kept=await asyncio.to_thread(kept_before, place, drawn.tasks))
        tell("; ".join([*left, purchase.words(place.asked)]))
        purchase.check(place.asked)
        if not confirm(f"Spend up to {limit}?"):
            raise InputError("not started", hint="give --yes to start without being asked")
        purse = Purse(limit=limit.nano, spent=purchase.spent.nano)
        before = await asyncio.to_thread(bought_before, place, drawn.tasks)
        bought = await _buy(place, drawn.tasks, purse, bound, before)
        if bought.begun < len(drawn.tasks):
            purchase.check_bought(len(bought.known), Money(nano=purse.spent, currency=limit.currency), place.asked)
        if tasks is None:
            traffic = (await unlabelled(place, drawn.runs)).drafts
        else:
            traffic = await _draft_more(place, drawn.tasks[bought.begun:], purse, bound)
        spent = Money(nano=purse.spent, currency=limit.currency)
        if rest := _rest(bought, spent, limit):
            bought.notes.append(rest)
        return Evidence(
            source=f"{bought.drafted} tasks drawn at random, for {spent} of {limit}",
            tasks=bought.drafted, known=tuple(bought.known), reference="validator", notes=(*left, *bought.notes),
            traffic=traffic, escalations=await recorded_escalations(place), elsewhere=bought.elsewhere,
            fewer=purchase.fewer,
        )

    return gather


def _rest(bought: _Bought, spent: Money, limit: Money) -> str:
    """Why a sum was not used up although there were tasks left."""
    if not bought.too_dear or spent.nano >= limit.nano:
        return ""
    rest, most = (Money(nano=nano, currency=limit.currency) for nano in (limit.nano - spent.nano, bought.too_dear))
    return f"{rest} unspent: the next record could have cost {most}"


async def _priced(place: Place, tasks: Sequence[Task], limit: Money) -> tuple[Purchase, TaskBound]:
    from orchestrator.pipeline import Pipeline

    async with Pipeline(place.loaded, store=place.store, clients=place.clients, calibrating=True) as pipeline:
        rt = await pipeline.runtime()
        bound = task_bounds(rt, limit.currency)
        return await asyncio.to_thread(purchase_of, place, tasks, limit, bound, rt), bound


@dataclass(slots=True)
class _Bought:
    """The first `begun` of the sample's tasks were come to; `refused` could not be taken, `drafted` could. `too_dear`
    is the most that the one could cost which did not fit any more."""

    known: list[Known] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    begun: int = 0
    drafted: int = 0
    refused: int = 0
    too_dear: int = 0
    elsewhere: Elsewhere = field(default_factory=dict)


async def _buy(
    place: Place, tasks: Sequence[Task], purse: Purse, bound: TaskBound, before: AbstractSet[str]
) -> _Bought:
    """Draft in the sample's order; those that come to the rule go on to the validator, each under its reservation.
    What was bought `before` is read back, and needs none."""
    bought = _Bought()
    collected: dict[str, Collected] = {}
    others: list[Collected] = []
    answers: dict[str, Outcome] = {}

    async def affordable() -> AsyncGenerator[Task, None]:
        spent_up = False  # from then on no other task is begun, not even a smaller one that would fit: they are drawn
        for nth, task in enumerate(named(tasks, place), 1):
            if str(task.id) not in before:
                most = bound.of(task)
                if not spent_up and not await purse.take(str(task.id), most):
                    spent_up, bought.too_dear = True, most
                if spent_up:
                    continue
            bought.begun = nth
            yield task

    async def settle(one: Collected, validated: int = 0) -> None:
        if str(one.task.id) not in before:
            await purse.settle(str(one.task.id), bound.drafting(one) + validated)
        done()

    async def reaching() -> AsyncGenerator[Task, None]:
        async with contextlib.aclosing(drafts(place, affordable())) as each:
            async for one in each:
                bought.drafted += bool(one.run_id)
                bought.refused += not one.run_id
                if one.run_id and (place.asked.gate or (one.reached and one.undrafted is None)):
                    collected[str(one.task.id)] = one
                    yield one.task
                else:
                    if one.run_id:
                        others.append(one)
                    await settle(one)

    with place.bars("validating", len(tasks)) as done:
        async with contextlib.aclosing(validations(place, reaching())) as each:
            async for task_id, outcome in each:
                one = collected[task_id]
                await settle(one, bound.spent_on(spent_on(outcome), resumed=outcome.resumed, priced=True))
                answers[task_id] = outcome
    ids = {str(under.id): record_id(task) for task, under in zip(tasks, named(tasks, place), strict=True)}
    paid = await bills(place, [*(one.run_id for one in collected.values()), *(one.run_id for one in answers.values())])
    bought.notes.extend(paid.notes)
    bought.known = await _judged(place, ids, collected, answers, paid)
    bought.elsewhere = decided_elsewhere(await with_kept(place, others, ids), place)
    if bought.refused:
        bought.notes.append(f"{bought.refused} tasks could not be taken")
    if lost := len(collected) - len(bought.known):
        bought.notes.append(f"{lost} drafts could not be compared: no answer came, or no content is kept")
    return bought


async def _judged(
    place: Place, ids: Mapping[str, str], collected: Mapping[str, Collected], answers: Mapping[str, Outcome],
    paid: Bills,
) -> list[Known]:
    """Each draft compared with what the validator answered alone."""
    from orchestrator.cascade.compare import compile_compare

    compare = compile_compare(place.step.config.compare, place.loaded.config.allow_imports)
    found = []
    for one in await with_kept(place, list(collected.values()), ids):
        outcome = answers.get(str(one.collected.task.id))
        answer = outcome.steps.get(place.step.config.id) if outcome is not None else None
        if answer is not None and answer.value is not None and one.kept.value is not None:
            right = compare.same(one.kept.value, answer.value)
            record = known(one, draft_ok=right, answers=answers, paid=paid.costs)
            found.append(replace(record, validator_ok=True))
    return found


async def _draft_more(
    place: Place, tasks: Sequence[Task], purse: Purse, bound: TaskBound
) -> tuple[Unlabelled, ...]:
    """More of the sample, drafted alone: for what is left of the sum where drafts have a price."""
    more = tasks[:MOST_TRAFFIC] if place.asked.traffic else ()
    ids = {str(under.id): record_id(task) for task, under in zip(more, named(more, place), strict=True)}
    collected: list[Collected] = []

    async def affordable() -> AsyncGenerator[Task, None]:
        for task in named(more, place):
            if not await purse.take(str(task.id), bound.of_draft(task)):
                return
            yield task

    with place.bars("drafting", len(more)) as done:
        async with contextlib.aclosing(drafts(place, affordable())) as each:
            async for one in each:
                await purse.settle(str(one.task.id), bound.drafting(one))
                collected.append(one)
                done()
    return tuple(
        Unlabelled(id=one.id, score=one.collected.score, features=one.kept.features, meta=one.collected.task.meta)
        for one in await with_kept(place, collected, ids) if one.counts(place.asked.gate)
    )
