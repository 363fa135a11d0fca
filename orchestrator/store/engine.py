"""The store: what is durable of every run. One object a process; many processes may share one database.

Writing goes to the one writer thread and returns once it is on disk; reading has connections of its own. Longer than
300 lines because all that a store can be asked stands here, a line or two each.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.config.budget import Span, Who
from orchestrator.records import Call, Json, Money
from orchestrator.store import (
    allocations,
    answers,
    baselines,
    budget_limits,
    budget_standings,
    budgets,
    calls,
    cells,
    closes,
    events,
    feedback,
    lapses,
    learned,
    leases,
    migrations,
    outcomes,
    retention,
    runs,
    spending,
)
from orchestrator.store.baselines import BaselineEntry
from orchestrator.store.budget_standings import BudgetStanding
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.connect import Place, locate, reading_engine, scrub_log, store_error, writing_engine
from orchestrator.store.entries import (
    CacheStats,
    CallIntent,
    CallSettlement,
    Claimed,
    ConfigEntry,
    FeedbackSource,
    Forgotten,
    OutcomeEntry,
    PendingSpotCheck,
    PriceRecord,
    Recovered,
    RunClaim,
    SpotCheckState,
    StoredAnswer,
    StoredBudget,
    StoredEvent,
    StoredHandOff,
    StoredOutcome,
    StoredRun,
)
from orchestrator.store.lapses import CheckedDraft, HourOfTasks, InUse, StoredLapse
from orchestrator.store.learned import Ended, FeedbackEntry, FeedbackTaken
from orchestrator.store.spending import SpentSoFar
from orchestrator.store.statements import Transaction
from orchestrator.store.writer import Flow, Writer, alone

T = TypeVar("T")

READERS = 4

_record_feedback, _resolve, _evict = alone(feedback.record), alone(feedback.resolve), alone(answers.evict)
_purge, _sweep, _forget = alone(answers.cache_purge), alone(retention.sweep), alone(retention.forget)
_record_event, _leave, _recover = alone(events.record), alone(leases.leave), alone(leases.recover)
_take_spot_checks, _settle_spot_check = alone(feedback.take_spot_checks), alone(feedback.settle_spot_check)
_take_feedback, _record_baseline = alone(learned.take), alone(baselines.record)
_count, _close_month = alone(cells.count), alone(closes.record)
_close_hours, _record_gpu_hours = alone(allocations.close_hours), alone(allocations.record_gpu_hours)
_set_limits, _remove_limits = alone(budget_limits.set_limits), alone(budget_limits.remove_limits)
_trip, _claim_notice = alone(lapses.trip), alone(lapses.claim_notice)

ORDER: tuple[Flow, ...] = (
    runs.record_config, runs.record_price, runs.claim, calls.intend, calls.settle, answers.keep_signals,
    outcomes.finish,
)
"""A run's life. Within one commit an intent comes before its settlement, even where both were queued at once."""


def pulse(transaction: Transaction, payloads: Sequence[Any]) -> list[None]:
    """What each process does for the store with every renewal of its lease."""
    open_up(transaction)
    allocations.close_hours(transaction)
    return [None] * len(payloads)


def open_up(transaction: Transaction) -> None:
    """The same as it opens the store: no hours are closed before a pipeline has said what its book has of them."""
    leases.renew(transaction)
    leases.recover(transaction)
    retention.sweep(transaction)
    cells.count(transaction)


class Store:
    """Runs, calls, answers and outcomes, durable before they are reported as such.

    Every method raises StoreError where the database fails; then nothing of that operation was written.
    """

    def __init__(self, place: Place, clock: Callable[[], float], lease_s: float) -> None:
        """Opens synchronously; `Store.open` is the door."""
        self.place, self.owner_id = place, leases.new_owner_id()
        self._clock, self._configs, self._prices = clock, set[str](), set[str]()
        with _said_plainly(place):
            self._writing = writing_engine(place)
            try:
                self._connection = self._begin(clock(), lease_s)
            except BaseException:  # Ctrl-C too: a store that is not open leaves nothing behind
                self._writing.dispose()
                place.remove()
                raise
        self.engine: Engine = reading_engine(place, size=READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="orchestrator-reader")
        self._writer = Writer(
            self._connection, name=place.name, owner_id=self.owner_id, clock=clock, lease_s=lease_s, order=ORDER,
            beat=pulse, beat_s=lease_s / 3,
        )
        self._writer.start()

    def _begin(self, now: float, lease_s: float) -> Connection:
        """Bring the schema up to date, take a lease, recover what others left."""
        migrations.migrate(self._writing, self.place.name)
        connection = self._writing.connect()
        try:
            with connection.begin():
                self.secret = migrations.secret(connection)
                self._keyed = hashlib.blake2b(key=self.secret, digest_size=16)
                first = Transaction(connection=connection, owner_id=self.owner_id, now=now, lease_s=lease_s)
                open_up(first)
        except BaseException:  # the same
            connection.close()
            raise
        return connection

    @classmethod
    async def open(
        cls, url: str = "sqlite:///orchestrator.db", *, clock: Callable[[], float] = time.time, lease_s: float = 30.0
    ) -> Store:
        """Open (and where needed make or migrate) the store at `url`: `sqlite:///FILE`, `postgresql://…`, or
        `memory:`, a private one that goes on close. What lapsed owners left is recovered.

        Raises StoreError for a store that can't be opened and StoreTooNew for one of a newer version.
        """
        return await asyncio.to_thread(cls, locate(url), clock, lease_s)

    async def aclose(self) -> None:
        """Commit what is queued, give up the lease and close. Calls left open become `unsettled`."""
        try:
            await self._write(_leave)
        finally:
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        self._connection.close()
        self._writing.dispose()
        self.engine.dispose()
        self.place.remove()

    async def _write(self, flow: Flow, *payload: Any) -> Any:
        return await self._writer.submit(flow, payload)

    async def _read(self, look_up: Callable[..., T], *arguments: Any) -> T:
        def run() -> T:
            with self.read() as connection:
                return look_up(connection, *arguments)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that only reads, with one consistent view: for reports. Blocks; not for the event loop."""
        with _said_plainly(self.place), self.engine.connect() as connection:
            yield connection

    def digest(self, data: bytes) -> str:
        """Keyed digest: equal data gives equal digests in this store, and tells nothing outside of it."""
        keyed = self._keyed.copy()  # which costs less than another one with the key
        keyed.update(data)
        return "b2:" + keyed.hexdigest()

    # -- runs --------------------------------------------------------------------------------------------------------

    async def record_config(self, config: ConfigEntry) -> None:
        """Make a configuration known, once."""
        if config.config_id not in self._configs:
            await self._writer.submit(runs.record_config, config)
            self._configs.add(config.config_id)

    async def record_gpu_hours(self, prices: Sequence[PriceRecord]) -> None:
        """Make known what a price book says of rented GPUs: each of its entries by the GPU hour. Hours without a call
        are billed by the book that came last."""
        if prices:
            await self._write(_record_gpu_hours, prices)

    async def claim(self, claims: Sequence[RunClaim]) -> list[Claimed]:
        """Claim a group of tasks in one commit; one answer each, in their order."""
        claimed: list[Claimed] = await self._writer.submit(runs.claim, claims)
        return claimed

    async def find_run(self, pipeline: str, tenant: str, task_key: str) -> StoredRun | None:
        return await self._read(runs.find, pipeline, tenant, task_key)

    # -- calls and answers -------------------------------------------------------------------------------------------

    async def intend(self, intent: CallIntent) -> None:
        """Make an intent durable and reserve its bound. Raises BudgetExceeded, and then nothing is reserved."""
        await self._writer.submit(calls.intend, intent)

    async def settle(self, settlement: CallSettlement, price: PriceRecord | None = None) -> None:
        """Record what came back of a call, and keep its answer. Settling twice changes nothing. `price` is what it
        was priced by: kept once, no later than the call."""
        if price is None or price.version in self._prices:
            await self._writer.submit(calls.settle, settlement)
            return
        priced = self._writer.submit(runs.record_price, price)
        await asyncio.gather(priced, self._writer.submit(calls.settle, settlement))
        self._prices.add(price.version)

    async def calls_of(self, run_id: str) -> list[Call]:
        return (await self._read(calls.calls_of, [run_id]))[run_id]

    async def budget(self, scope: str) -> StoredBudget | None:
        return await self._read(budgets.budget_of, scope)

    async def set_budget(
        self, who: Who, limits: Sequence[tuple[Span, Money, Money | None]], *, new: bool = False
    ) -> None:
        """Limit what `who` may spend: (span, limit, soft limit), in force in every process from now on. Raises
        InputError where the store has never seen `who` (unless `new`), or has no price in that currency."""
        for currency in sorted({limit.currency for _, limit, _ in limits}):
            await self._read(budget_limits.check, who, currency, new)
        await self._write(_set_limits, who, limits)

    async def remove_budget(self, who: Who, spans: Sequence[Span]) -> list[Span]:
        """Take limits away; returns those there were. Raises InputError where there was none."""
        removed: list[Span] = await self._write(_remove_limits, who, spans)
        return removed

    async def budgets(self, *, tasks: bool = False) -> list[BudgetStanding]:
        """Every budget as it stands; `tasks`: those of tasks under way, too."""
        return await self._read(budget_standings.standings, self._clock(), tasks)

    async def spent_so_far(self, pipeline: str) -> SpentSoFar:
        """What the pipeline's latest runs have cost."""
        return await self._read(spending.latest, pipeline)

    async def recall(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """The unexpired answers among (tenant, memo key) pairs."""
        return await self._read(answers.recall, keys, self._clock())

    async def keep_signals(self, rows: Sequence[tuple[str, str, bytes]]) -> None:
        """Lay signals beside the answers at (tenant, memo key)."""
        await self._writer.submit(answers.keep_signals, rows)

    async def evict(self, run_id: str) -> int:
        """Remove the answers a run made or was served; returns how many. A known failure does this by itself."""
        evicted: int = await self._write(_evict, run_id)
        return evicted

    async def cache_stats(self, pipeline: str | None = None, tenant: str | None = None) -> CacheStats:
        return await self._read(answers.cache_stats, pipeline, tenant, self._clock())

    async def cache_purge(
        self, pipeline: str | None = None, tenant: str | None = None, *, expired_only: bool = False
    ) -> int:
        """Remove answers from the cache; returns how many."""
        purged: int = await self._write(_purge, pipeline, tenant, expired_only)
        return purged

    # -- outcomes ----------------------------------------------------------------------------------------------------

    async def finish(self, records: Sequence[OutcomeEntry]) -> tuple[str, ...]:
        """Record the outcomes of a group in one commit. Returns the run ids that had one already; those are ignored."""
        ignored: tuple[str, ...] = await self._writer.submit(outcomes.finish, records)
        return ignored

    async def stored_outcome(self, run_id: str) -> StoredOutcome | None:
        """A run's outcome with steps, calls, content, and what was learned since; None while it has none."""
        return (await self._read(outcomes.load, [run_id])).get(run_id)

    async def record_feedback(
        self, run_id: str, *, success: bool, reason: str = "", source: FeedbackSource = "feedback",
        at: float | None = None,
    ) -> None:
        """Append what was learned of a run; a failure evicts its answers. Raises InputError for an unknown run."""
        await self._write(_record_feedback, run_id, success, reason, source, at)

    async def record_feedbacks(self, entries: Sequence[FeedbackEntry]) -> FeedbackTaken:
        """The same for many at once, in one commit. What was said before, word for word, is not said again. The runs
        must have ended: see `ended_runs`."""
        taken: FeedbackTaken = await self._write(_take_feedback, entries, self.digest)
        return taken

    async def ended_runs(self, run_ids: Sequence[str]) -> dict[str, Ended]:
        """Those of the runs that have an outcome, and when they ended."""
        return await self._read(learned.ended_runs, run_ids)

    async def runs_of_tasks(self, pipeline: str, tenant: str, task_ids: Sequence[str]) -> dict[str, str]:
        """The run id of each task id that this pipeline and tenant took in."""
        keys = {self.digest(b"id:" + task_id.encode()): task_id for task_id in task_ids}
        found = await self._read(learned.runs_of_tasks, pipeline, tenant, list(keys))
        return {keys[key]: run_id for key, run_id in found.items()}

    async def handoffs(self, *, pipeline: str | None = None, open_only: bool = True) -> list[StoredHandOff]:
        return await self._read(feedback.handoffs, pipeline, open_only)

    async def resolve_handoff(self, run_id: str, *, value: Json, success: bool, reason: str = "") -> None:
        """Close a hand-off with a person's value. Raises InputError where none is open."""
        await self._write(_resolve, run_id, value, success, reason)

    async def pending_spot_checks(self, pipeline: str, limit: int = 100) -> list[PendingSpotCheck]:
        """Spot checks still to be made by this process, those of lapsed owners included: they become ours."""
        pending: list[PendingSpotCheck] = await self._write(_take_spot_checks, pipeline, limit)
        return pending

    async def settle_spot_check(
        self, run_id: str, step: str, *, draft_ok: bool | None, state: SpotCheckState = "done"
    ) -> None:
        """Close a spot check; what it found becomes feedback. Twice changes nothing."""
        await self._write(_settle_spot_check, run_id, step, state, draft_ok)

    async def record_baseline(self, entry: BaselineEntry) -> None:
        """Keep how the validator's own answer compares; a second one of the same run is passed over."""
        await self._write(_record_baseline, entry)

    # -- certificates in use -----------------------------------------------------------------------------------------

    async def tasks_by_hour(self, used: InUse, since: int) -> list[HourOfTasks]:
        """The tasks that came to a certificate's rule, by the hour they ended in, from hour `since` on."""
        return await self._read(lapses.tasks_by_hour, used, since)

    async def checked_drafts(self, used: InUse) -> list[CheckedDraft]:
        """The spot checks of the drafts that a certificate let through, answered or not."""
        return await self._read(lapses.checked_drafts, used)

    async def lapses(self, pipeline: str | None = None) -> list[StoredLapse]:
        """The certificates that spot checks revoked."""
        return await self._read(lapses.listed, pipeline)

    async def record_lapse(self, pipeline: str, step: str, certificate: str, reason: str) -> bool:
        """Revoke a certificate for every process, its event in the same commit; False where it was revoked already."""
        tripped: bool = await self._write(_trip, pipeline, step, certificate, reason)
        return tripped

    async def claim_lapse_notice(self, pipeline: str, step: str, certificate: str) -> bool:
        """True for the one process that is to run the hook."""
        mine: bool = await self._write(_claim_notice, pipeline, step, certificate)
        return mine

    # -- upkeep ------------------------------------------------------------------------------------------------------

    async def forget(
        self, *, task_keys: Sequence[str] = (), run_ids: Sequence[str] = (), tenant: str | None = None
    ) -> Forgotten:
        """Erase what was said in these runs, on disk too; accounts stay. Raises InputError where nothing is named."""
        forgotten: Forgotten = await self._write(_forget, task_keys, run_ids, tenant)
        await asyncio.to_thread(self._scrub)
        return forgotten

    async def sweep(self) -> int:
        """Erase content and answers past their time; returns how many rows. The writer does a bounded part of this
        with each renewal of its lease."""
        total = 0
        while swept := await self._write(_sweep):
            total += swept
        if total:
            await asyncio.to_thread(self._scrub)
        return total

    def _scrub(self) -> None:
        with _said_plainly(self.place):
            scrub_log(self._writing)

    async def count_runs(self) -> int:
        """Count the runs that wait to be counted, so that a report need not read them one by one; returns how many.
        The writer does a bounded part of this as runs end, and with each renewal of its lease."""
        total = 0
        while counted := await self._write(_count):
            total += counted
        return total

    async def close_hours(self) -> int:
        """Spread the bills of rented GPUs' hours that have ended over their calls; returns how many hours were closed.
        The writer does a bounded part of this with each renewal of its lease."""
        total = 0
        while closed := await self._write(_close_hours):
            total += closed
        return total

    async def recover(self) -> Recovered:
        """Settle what lapsed owners left. The writer does the same with each renewal of its lease."""
        recovered: Recovered = await self._write(_recover)
        return recovered

    async def close_month(
        self, month: ClosedMonth, stated: Mapping[str, int], by: closes.Known | None = None
    ) -> None:
        """Keep what a month comes to, for good; `stated`: how much of what was booked of earlier ones it states; `by`:
        what was known as it was read. Raises InputError for a month that can't be closed (any more), MonthChanged for
        one of which more is known by now; then nothing was changed."""
        await self._write(_close_month, month, stated, by)

    async def record_event(self, pipeline: str, kind: str, detail: str = "") -> None:
        await self._write(_record_event, pipeline, kind, detail)

    async def events(
        self, pipeline: str | None = None, *, since: float = 0.0, limit: int = 100
    ) -> list[StoredEvent]:
        return await self._read(events.listed, pipeline, since, limit)

    async def escalation_share(self, pipeline: str, since: float) -> tuple[int, int]:
        """Outcomes since then, and how many of them escalated."""
        return await self._read(events.escalation_share, pipeline, since)


@contextmanager
def _said_plainly(place: Place) -> Iterator[None]:
    """Whatever the driver raises, callers know one error: StoreError."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise store_error(error, place.name) from error
