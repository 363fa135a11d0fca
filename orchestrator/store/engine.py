"""The store: what is durable of every run, and all that it can be asked. One object a process; many processes may share
one database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from orchestrator.config.budget import Span, Who
from orchestrator.records import Json, Mode, Money
from orchestrator.store import (
    allocations,
    answers,
    baselines,
    budget_limits,
    budget_standings,
    calls,
    cells,
    closes,
    events,
    feedback,
    lapses,
    learned,
    leases,
    outcomes,
    resolutions,
    retention,
    runs,
    spending,
    spot_checks,
)
from orchestrator.store.answers import CacheStats
from orchestrator.store.baselines import BaselineEntry
from orchestrator.store.budget_standings import BudgetStanding
from orchestrator.store.closes import ClosedMonth
from orchestrator.store.connect import StorePlace, locate
from orchestrator.store.database import Database
from orchestrator.store.entries import (
    CallIntent,
    CallSettlement,
    Claimed,
    ConfigEntry,
    FeedbackSource,
    OutcomeEntry,
    PriceRecord,
    RunClaim,
    SpotCheckState,
    StoredAnswer,
    StoredOutcome,
)
from orchestrator.store.events import StoredEvent
from orchestrator.store.feedback import StoredHandOff
from orchestrator.store.lapses import CheckedDraft, InUse, StoredLapse, TaskCounts
from orchestrator.store.learned import Ended, FeedbackEntry, FeedbackTaken
from orchestrator.store.leases import Recovered
from orchestrator.store.resolutions import Refused, Resolution
from orchestrator.store.retention import Forgotten
from orchestrator.store.spending import SpentSoFar
from orchestrator.store.spot_checks import Keys, PendingSpotCheck
from orchestrator.store.statements import Transaction


class Store(Database):
    """Runs, calls, answers and outcomes, durable before they are reported as such.

    Every method raises StoreError where the database fails; then nothing of that operation was written.
    """

    def __init__(self, place: StorePlace, clock: Callable[[], float], lease_s: float) -> None:
        """Blocks; `Store.open` is the door."""
        super().__init__(place, clock, lease_s)
        self._configs, self._prices = set[str](), set[str]()  # that are known to be there

    @classmethod
    async def open(
        cls, url: str = "sqlite:///orchestrator.db", *, clock: Callable[[], float] = time.time, lease_s: float = 30.0
    ) -> Store:
        """Open (and where needed make or migrate) the store at `url`: `sqlite:///FILE`, `postgresql://…`, or
        `memory:`, a private one that goes on close. What lapsed owners left is recovered.

        Raises StoreError for a store that can't be opened and StoreTooNew for one of a newer version.
        """
        return await asyncio.to_thread(cls, locate(url), clock, lease_s)

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
            await self._write(allocations.record_gpu_hours, prices)

    async def claim(self, claims: Sequence[RunClaim]) -> list[Claimed]:
        """Claim a group of tasks in one commit; one answer each, in their order."""
        return await self._writer.submit(runs.claim, claims)

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

    async def set_budget(
        self, who: Who, limits: Sequence[tuple[Span, Money, Money | None]], *, new: bool = False
    ) -> None:
        """Limit what `who` may spend: (span, limit, soft limit), in force in every process from now on. Raises
        InputError where the store has never seen `who` (unless `new`), or has no price in that currency."""
        for currency in sorted({limit.currency for _, limit, _ in limits}):
            await self._read(budget_limits.check, who, currency, new)
        await self._write(budget_limits.set_limits, who, limits)

    async def remove_budget(self, who: Who, spans: Sequence[Span]) -> list[Span]:
        """Take limits away; returns those there were. Raises InputError where there was none."""
        return await self._write(budget_limits.remove_limits, who, spans)

    async def budgets(self, *, tasks: bool = False) -> list[BudgetStanding]:
        """Every budget as it stands; `tasks`: those of tasks under way, too."""
        return await self._read(budget_standings.standings, self._clock(), tasks)

    async def spent_so_far(self, pipeline: str, mode: Mode = "cascade") -> SpentSoFar:
        """What the pipeline's latest answered runs in this mode have cost."""
        return await self._read(spending.latest, pipeline, mode)

    async def recall(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], StoredAnswer]:
        """The unexpired answers among (tenant, memo key) pairs."""
        return await self._read(answers.recall, keys, self._clock())

    async def cache_stats(self, pipeline: str | None = None, tenant: str | None = None) -> CacheStats:
        return await self._read(answers.cache_stats, pipeline, tenant, self._clock())

    async def cache_purge(
        self, pipeline: str | None = None, tenant: str | None = None, *, expired_only: bool = False
    ) -> int:
        """Remove answers from the cache; returns how many."""
        return await self._write(answers.cache_purge, pipeline, tenant, expired_only)

    # -- outcomes ----------------------------------------------------------------------------------------------------

    async def finish(self, records: Sequence[OutcomeEntry]) -> tuple[str, ...]:
        """Record the outcomes of a group in one commit. Returns the run ids that had one already; those are ignored."""
        return await self._writer.submit(outcomes.finish, records)

    async def stored_outcome(self, run_id: str) -> StoredOutcome | None:
        """A run's outcome with steps, calls, content, and what was learned since; None while it has none."""
        return (await self._read(outcomes.load, [run_id])).get(run_id)

    async def record_feedback(
        self, run_id: str, *, success: bool, reason: str = "", source: FeedbackSource = "feedback",
        at: float | None = None,
    ) -> None:
        """Append what was learned of a run; a failure evicts its answers. Raises InputError for an unknown run."""
        await self._write(feedback.record, run_id, success, reason, source, at)

    async def record_feedbacks(self, entries: Sequence[FeedbackEntry]) -> FeedbackTaken:
        """The same for many at once, in one commit. What was said before, word for word, is not said again. The runs
        must have ended: see `ended_runs`."""
        return await self._write(learned.take, entries, self.digest)

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
        """Close a hand-off with a person's value. Raises InputError where none is open, or the value breaks the
        output schema of its step."""
        await self.resolve_handoffs([Resolution(run_id=run_id, value=value, success=success, reason=reason)])

    async def resolve_handoffs(self, wanted: Sequence[Resolution]) -> None:
        """The same for many, in one commit: all of them, or none."""
        await self._write(resolutions.resolve, wanted)

    async def refused_resolutions(self, wanted: Sequence[Resolution]) -> list[Refused | None]:
        """For each, in their order, what stands against it; None where nothing does."""
        return await self._read(resolutions.refusals, wanted)

    async def pending_spot_checks(self, pipeline: str, limit: int = 100, without: Keys = ()) -> list[PendingSpotCheck]:
        """Spot checks still to be made, save those `without` and of processes that live: they become ours."""
        return await self._write(spot_checks.take, pipeline, limit, without)

    async def count_pending_spot_checks(self, pipeline: str) -> int:
        """How many are still to be made, by this process or whichever comes next."""
        return await self._write(spot_checks.count, pipeline)

    async def settle_spot_check(
        self, run_id: str, step: str, *, draft_ok: bool | None, state: SpotCheckState = "done"
    ) -> None:
        """Close a spot check; what it found becomes feedback. Twice changes nothing."""
        await self._write(spot_checks.settle, run_id, step, state, draft_ok)

    async def record_baseline(self, entry: BaselineEntry) -> None:
        """Keep how the validator's own answer compares; a second one of the same run is passed over."""
        await self._write(baselines.record, entry)

    # -- certificates in use -----------------------------------------------------------------------------------------

    async def tasks_within(self, used: InUse, spans: Sequence[tuple[float, float]]) -> list[TaskCounts]:
        """How many tasks came to a certificate's rule, for each span by when they ended: (after, up to)."""
        return await self._read(lapses.tasks_within, used, spans)

    async def checked_drafts(self, used: InUse, after: float) -> list[CheckedDraft]:
        """The spot checks of the drafts that a certificate let through after then, answered or not, oldest first."""
        return await self._read(lapses.checked_drafts, used, after)

    async def lapses(self, pipeline: str | None = None) -> list[StoredLapse]:
        """The certificates that spot checks revoked."""
        return await self._read(lapses.listed, pipeline)

    async def record_lapse(
        self, pipeline: str, step: str, certificate: str, reason: str, since: float | None = None
    ) -> bool:
        """Revoke a certificate for every process, its event in the same commit; False where it was revoked already."""
        return await self._write(lapses.trip, pipeline, step, certificate, reason, since)

    async def claim_lapse_notice(self, pipeline: str, step: str, certificate: str) -> bool:
        """True for the one process that is to run the hook."""
        return await self._write(lapses.claim_notice, pipeline, step, certificate)

    # -- upkeep ------------------------------------------------------------------------------------------------------

    async def forget(
        self, *, task_keys: Sequence[str] = (), run_ids: Sequence[str] = (), tenant: str | None = None
    ) -> Forgotten:
        """Erase what was said in these runs, on disk too; accounts stay. Raises InputError where nothing is named."""
        forgotten = await self._write(retention.forget, task_keys, run_ids, tenant)
        await asyncio.to_thread(self._scrub)
        return forgotten

    async def sweep(self) -> int:
        """Erase content and answers past their time; returns how many rows. The writer does a bounded part of this
        with each renewal of its lease."""
        swept = await self._write_all(spot_checks.expire) + await self._write_all(retention.sweep)
        if swept:
            await asyncio.to_thread(self._scrub)
        return swept

    async def count_runs(self) -> int:
        """Count the runs that wait to be counted, so that a report need not read them one by one; returns how many.
        The writer does a bounded part of this as runs end, and with each renewal of its lease."""
        return await self._write_all(cells.count)

    async def close_hours(self) -> int:
        """Spread the bills of rented GPUs' hours that have ended over their calls; returns how many hours were closed.
        The writer does a bounded part of this with each renewal of its lease."""
        return await self._write_all(allocations.close_hours)

    async def _write_all(self, part: Callable[[Transaction], int]) -> int:
        """Commit after commit of `part`, until it finds nothing more to do; how much was done."""
        total = 0
        while done := await self._write(part):
            total += done
        return total

    async def recover(self) -> Recovered:
        """Settle what lapsed owners left. The writer does the same with each renewal of its lease."""
        return await self._write(leases.recover)

    async def close_month(
        self, month: ClosedMonth, stated: Mapping[str, int], by: closes.Counted | None = None
    ) -> None:
        """Keep what a month comes to, for good; `stated`: how much of what was booked of earlier ones it states; `by`:
        what was known as it was read. Raises InputError for a month that can't be closed (any more), MonthChanged for
        one of which more is known by now; then nothing was changed."""
        await self._write(closes.record, month, stated, by)

    async def record_event(self, pipeline: str, kind: str, detail: str = "") -> None:
        await self._write(events.record, pipeline, kind, detail)

    async def events(self, pipeline: str | None = None, *, since: float = 0.0, limit: int = 100) -> list[StoredEvent]:
        return await self._read(events.listed, pipeline, since, limit)

    async def escalation_share(self, pipeline: str, since: float) -> tuple[int, int]:
        """Outcomes since then, and how many of them escalated."""
        return await self._read(events.escalation_share, pipeline, since)
