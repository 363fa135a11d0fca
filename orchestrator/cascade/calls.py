"""One billed model request, from intent to settlement: the only place that asks a model.

pick an endpoint -> wait for its gate -> write the intent (durable, budget reserved) -> ask -> settle (answer durable).
Each attempt is a call of its own. **No request leaves before its intent is durable, and none is repeated once its
answer is.** A cancelled or timed-out call is settled too: the provider may bill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.cascade.keys import request_key, upper_bound
from orchestrator.cascade.model import Model
from orchestrator.cascade.pricing import Bill, Pricing, believable, price_record
from orchestrator.cascade.purse import Purse
from orchestrator.cascade.reservation import Budgets
from orchestrator.cascade.run import Run, new_id
from orchestrator.config.budget import BudgetConfig
from orchestrator.config.prices import PriceBook
from orchestrator.errors import BudgetExceeded, ConnectionLost, ModelError, StoreError
from orchestrator.records import Answer, Call, Money, Request, Role, Usage
from orchestrator.store.entries import AnswerKeep, CallIntent, CallSettlement

if TYPE_CHECKING:
    from orchestrator.store.engine import Store
    from orchestrator.store.entries import StoredAnswer
    from orchestrator.telemetry import Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, where it is durable (`memo_key`), and the signals that are kept with it."""

    answer: Answer
    memo_key: str
    signals: bytes | None = None


Cacheable = Callable[[Answer], bool]


@dataclass(frozen=True, slots=True)
class _Question:
    """What a run asks of a model, on its way to an answer."""

    run: Run
    step: str
    role: Role
    model: Model
    request: Request
    key: str
    cacheable: Cacheable


class Caller:
    """Asks models on behalf of runs, by the book. One a pipeline and event loop."""

    def __init__(
        self, *, store: Store, pipeline: str, book: PriceBook | None, budget: BudgetConfig, cache_ttl_s: float | None,
        keep_s: float | None, clock: Callable[[], float], cost_center: str = "", telemetry: Telemetry | None = None,
    ) -> None:
        """`cache_ttl_s` None: no cache. `keep_s`: how long an answer is kept for resuming; None: none is kept."""
        self._store, self._pipeline, self._cost_center = store, pipeline, cost_center
        self._pricing, self._budgets = Pricing(book), Budgets(pipeline, budget)
        self._cache_ttl_s, self._keep_s, self._clock = cache_ttl_s, keep_s, clock
        self._telemetry = telemetry
        self.purse: Purse | None = None
        self._flights: dict[tuple[str, str], asyncio.Future[Answered]] = {}

    # -- the memo ------------------------------------------------------------------------------------------------

    def key(self, model: Model, request: Request) -> str:
        """The keyed digest of the canonical request: messages, schema, model, revision, parameters, sample."""
        return self._store.digest(request_key(model.identity, request))

    def memo_keys(self, run: Run, key: str) -> list[str]:
        """Where a durable answer may be: under its own key where the cache is on, under the run's when it resumed, and
        under those of the runs that it does again."""
        keys = [key] if self._cache_ttl_s is not None else []
        own = [f"{run.run_id}:{key}"] if run.resumed else []
        return [*keys, *own, *(f"{run_id}:{key}" for run_id in run.again_of)]

    async def recall(self, wanted: Sequence[tuple[Run, str]]) -> dict[tuple[str, str], Answered]:
        """Durable answers for (run, request key) pairs, in one look-up: keyed by (run id, request key)."""
        places = [(run.task.tenant, memo) for run, key in wanted for memo in self.memo_keys(run, key)]
        if not places:
            return {}
        found = await self._store.recall(places)
        answers: dict[tuple[str, str], Answered] = {}
        for run, key in wanted:
            for memo in self.memo_keys(run, key):
                stored = found.get((run.task.tenant, memo))
                if stored is not None:
                    answers[run.run_id, key] = self._from_memo(run, memo, stored)
                    break
        return answers

    def _from_memo(self, run: Run, memo_key: str, stored: StoredAnswer) -> Answered:
        if stored.run_id != run.run_id and stored.run_id not in run.again_of:
            if stored.cost is not None:
                run.saved.append(stored.cost)
            run.source_run_id = stored.run_id
            run.recalled = True
        return Answered(answer=stored.answer, memo_key=memo_key, signals=stored.signals)

    # -- asking --------------------------------------------------------------------------------------------------

    async def ask(
        self, run: Run, step: str, role: Role, model: Model, request: Request, *, cacheable: Cacheable,
        recall: bool = True,
    ) -> Answered:
        """The answer to `request`: from the memo, from an identical request already in flight, or from the model.

        Raises ModelError when all attempts failed; BudgetExceeded, UnpricedCall, CostReached before anything is sent.
        """
        key = self.key(model, request)
        if recall and (known := (await self.recall([(run, key)])).get((run.run_id, key))):
            return known
        question = _Question(run, step, role, model, request, key, cacheable)
        return await (self._retrying if self._cache_ttl_s is None else self._single_flight)(question)

    async def _single_flight(self, question: _Question) -> Answered:
        run, key = question.run, question.key
        place = (run.task.tenant, key)
        if (flight := self._flights.get(place)) is not None:
            await asyncio.wait([flight])  # however it ends: a leader's failure is not the follower's
            stored = (await self.recall([(run, key)])).get((run.run_id, key))
            if stored is not None:
                return stored
        mine: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._flights[place] = mine
        try:
            answered = await self._retrying(question)
        except BaseException as error:  # cancelled too: the flight ends for its followers
            if isinstance(error, Exception):
                mine.set_exception(error)
                mine.exception()  # retrieved: a flight nobody follows must not warn
            else:
                mine.cancel()
            raise
        else:
            mine.set_result(answered)
            return answered
        finally:
            if self._flights.get(place) is mine:
                del self._flights[place]

    async def _retrying(self, question: _Question) -> Answered:
        """Attempts under the model's retry rules and total deadline; the last error is raised as it is."""
        model = question.model
        model.check_size(question.request)
        deadline = time.monotonic() + model.config.deadline
        attempts = 0

        async def once() -> Answered:
            nonlocal attempts
            attempts += 1
            left = deadline - time.monotonic()
            async with question.run.slots or contextlib.nullcontext():
                return await self._held(question, attempts, left)

        answered: Answered = await model.retrying(once)
        return answered

    async def _held(self, question: _Question, attempt: int, left_s: float) -> Answered:
        """One attempt, once the run's purse holds what it can cost at most. Waiting for that takes no time from it."""
        most = upper_bound(question.request, question.model.config)
        bound = self._pricing.bound(question.model, question.request, most, self._clock())
        async with contextlib.nullcontext() if self.purse is None else self.purse.holding(bound):
            return await self._gated(question, attempt, left_s, most, bound)

    async def _gated(
        self, question: _Question, attempt: int, left_s: float, most: Usage | None, bound: Money | None
    ) -> Answered:
        model, request = question.model, question.request
        gate = model.pool.pick()
        async with gate.enter(tokens=most.total if most else request.max_tokens) as entry:
            give_up = time.monotonic() + left_s
            while True:
                intent = self._intent(question, attempt, gate.endpoint, bound)
                try:
                    answered = await self._asked(question, intent, give_up - time.monotonic())
                except BudgetExceeded as refusal:
                    await self._budgets.room(refusal, give_up)
                else:
                    entry.used(answered.answer.usage.total)
                    return answered

    async def _asked(self, question: _Question, intent: CallIntent, left_s: float) -> Answered:
        run, model = question.run, question.model
        started = time.perf_counter()
        timeout_s = max(0.001, min(model.config.timeout, left_s))
        sent = False
        try:
            await self._store.intend(intent)
            sent = True
            answer = believable(await model.client.complete(
                question.request, call_id=intent.call_id, endpoint=intent.endpoint, timeout_s=timeout_s
            ))
        except (BudgetExceeded, StoreError):
            raise
        except ModelError as error:
            await _through(self._settle_failed(question, intent, error, time.perf_counter() - started), intent.call_id)
            raise
        except BaseException as error:  # cancelled, mostly: what was sent may be billed, so it is settled
            lost = ConnectionLost(f"given up before an answer came: {type(error).__name__}", sent=sent)
            await _through(self._settle_failed(question, intent, lost, time.perf_counter() - started), intent.call_id)
            raise
        memo_key = intent.request_key
        keep = self._cache_ttl_s is not None and question.cacheable(answer)
        if not keep:
            memo_key = f"{run.run_id}:{intent.request_key}"
        await self._settle(question, intent, answer, memo_key, self._cache_ttl_s if keep else None)
        return Answered(answer=answer, memo_key=memo_key)

    # -- the ledger ----------------------------------------------------------------------------------------------

    def _intent(self, question: _Question, attempt: int, endpoint: str, bound: Money | None) -> CallIntent:
        run, model, now = question.run, question.model, self._clock()
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        return CallIntent(
            call_id=new_id("c", now), run_id=run.run_id, pipeline=self._pipeline, step=question.step,
            role=question.role, attempt=attempt, sample=question.request.sample, model=model.client.name,
            provider=model.config.kind, endpoint=endpoint, request_key=question.key, bound=bound,
            budgets=self._budgets.lines(run, model, bound, now), budget_day=day, account=model.config.account,
            tenant=run.task.tenant, cost_center=self._cost_center,
        )

    async def _settle(
        self, question: _Question, intent: CallIntent, answer: Answer, memo_key: str, ttl_s: float | None
    ) -> None:
        now = self._clock()
        kept_s = self._keep_s if ttl_s is None else ttl_s
        keep = None if kept_s is None else AnswerKeep(
            tenant=intent.tenant, memo_key=memo_key, answer=answer, expires_at=now + kept_s
        )
        bill = self._pricing.answered(question.model, answer, now)
        await self._record(question, intent, bill, answer.latency_ms, now, answer=answer, keep=keep)

    async def _settle_failed(
        self, question: _Question, intent: CallIntent, error: ModelError, seconds: float
    ) -> None:
        now = self._clock()
        bill = self._pricing.failed(question.model, error, now)
        await self._record(question, intent, bill, seconds * 1000, now, error=error)

    async def _record(
        self, question: _Question, intent: CallIntent, bill: Bill, latency_ms: float, now: float, *,
        answer: Answer | None = None, keep: AnswerKeep | None = None, error: ModelError | None = None,
    ) -> None:
        run = question.run
        if self.purse is not None:
            self.purse.spend(bill.cost, intent.bound)
        said = None if error is None else f"{type(error).__name__}: {error}"[:500]
        answered, response_id = (error.answered, error.response_id) if error else (None, None)
        if answer is not None:
            answered, response_id = answer.model, answer.response_id
        run.calls.append(Call(
            call_id=intent.call_id, run_id=run.run_id, step=intent.step, role=intent.role, model=intent.model,
            attempt=intent.attempt, sample=intent.sample, usage=bill.usage, cost=bill.cost,
            provenance=bill.provenance, state=bill.state, latency_ms=latency_ms, error=said,
        ))
        settlement = CallSettlement(
            call_id=intent.call_id, state=bill.state, model_answered=answered, response_id=response_id,
            finish_reason=answer.finish_reason if answer else None, error=said, usage=bill.usage, tier=bill.tier,
            cost=bill.cost, costs=bill.costs, price_version=bill.price.version_id if bill.price else None,
            provenance=bill.provenance, latency_ms=latency_ms, ended_at=now, keep=keep,
        )
        try:
            await self._store.settle(settlement, price_record(bill.price, now) if bill.price else None)
            self._budgets.settled()
        finally:  # the span of a cancelled call ends, too; one that can't be written costs no settlement
            if self._telemetry is not None:
                run.spans = self._telemetry.called(run.spans, run.task.meta, intent, question.request, settlement)


async def _through(write: Coroutine[None, None, None], call_id: str) -> None:
    """Finish a ledger write even when the caller is cancelled meanwhile; the cancellation follows after.

    An intent or settlement that is awaited plainly needs none of this: it is queued before its first await.
    """
    task = asyncio.ensure_future(write)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:  # retrieved: no traceback on stderr
            said = error if isinstance(error, StoreError) else type(error).__name__
            log.warning("call %s was given up, and is not settled: %s", call_id, said)
        raise
