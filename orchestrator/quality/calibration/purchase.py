"""What a sum of money buys in records, told before any of it is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from orchestrator.errors import InputError
from orchestrator.quality.calibration.bounds import TaskBound
from orchestrator.quality.calibration.drafting import named, validated_id
from orchestrator.quality.calibration.evidence import Asked, Place
from orchestrator.quality.calibration.guarantees import best_guarantee, capital, needed, percent
from orchestrator.records import Money, Task
from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import CallRow, Run

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime

_run, _call = table(Run), table(CallRow)
VALIDATING = ("redo", "spot_check", "baseline")
DRAFTING = ("draft", "sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """`bound` is the most that one record can cost, `expected` what it costs by the average of `recorded` validations
    (None: none is recorded). `tasks` stand ready; `spent` of the sum is spent already. `takes` records are needed, of
    which a share is set apart to fit on. `fewer` says why some tasks were left out."""

    limit: Money
    spent: Money
    bound: Money
    expected: Money | None
    recorded: int
    tasks: int
    takes: int
    unpriced: tuple[str, ...] = ()
    fewer: str = ""

    @property
    def at_least(self) -> int:
        """Still to be bought for certain."""
        return min(self.tasks, max(0, self.limit.nano - self.spent.nano) // max(1, self.bound.nano))

    @property
    def likely(self) -> int:
        """Altogether, what was bought before included."""
        if self.expected is None:
            return self.at_least
        return max(self.at_least, min(self.tasks, self.limit.nano // max(1, self.expected.nano)))

    def words(self, asked: Asked) -> str:
        lines = [f"a record costs at most {self.bound}"]
        if self.expected is not None:
            lines[0] += f", and {self.expected} by the average of {self.recorded} recorded validations"
        if self.unpriced:
            lines.append(f"drafts by {', '.join(self.unpriced)} have no price and are not counted")
        if self.spent.nano:
            lines.append(f"{self.spent} of {self.limit} are spent already")
        count = f"{self.at_least:,}" if self.expected is None else f"{self.at_least:,} to {self.likely:,}"
        more = "" if self.expected is not None else " or, since most cost far less than the most, many more"
        records = "record" if count == "1" else "records"
        lines.append(f"{self.limit} buys {count} {records}{more}, of {self.tasks:,} tasks at hand")
        lines.append(
            f"at most {percent(asked.max_regret)} regret at {percent(asked.confidence)} confidence takes {self.takes} "
            "at least"
        )
        if self.likely:
            lines.append(f"{self.likely:,} can certify {best_guarantee(self.likely, asked.confidence)} at best")
        return "; ".join(lines)

    def check(self, asked: Asked) -> None:
        """Raises InputError where the tasks can't reach the guarantee, nor the sum by what records have cost so far.
        Where none is recorded, only a sum that is too little for a single one is refused: they are bought as it goes.
        """
        if self.tasks < self.takes:
            hint = "give more with --tasks FILE, or ask for less" + (f". {capital(self.fewer)}" if self.fewer else "")
            raise InputError(f"{self.words(asked)}: too few tasks", hint=hint)
        if self.expected is not None and self.likely < self.takes:
            enough = Money(nano=self.expected.nano * self.takes + self.bound.nano, currency=self.expected.currency)
            raise InputError(f"{self.words(asked)}: too little", hint=f"give {enough} or more, or ask for less")
        if not self.at_least and not self.spent.nano:
            raise InputError(f"{self.words(asked)}: too little for one", hint=f"give {self.bound} or more")

    def check_bought(self, records: int, spent: Money, asked: Asked) -> None:
        """Raises InputError where the sum was used up before there were enough records."""
        if records >= self.takes:
            return
        each = -(-spent.nano // records) if records else self.bound.nano
        enough = Money(nano=each * self.takes + self.bound.nano, currency=spent.currency)
        bought = "1 record" if records == 1 else f"{records:,} records"
        raise InputError(
            f"bought {bought} for {spent} of {self.limit}; at most {percent(asked.max_regret)} regret at "
            f"{percent(asked.confidence)} confidence takes {self.takes:,} at least; what is left may not pay for "
            "another",
            hint=f"what was bought is kept and counts: give {enough} in all, by what they cost so far, or ask for less",
        )


def purchase_of(place: Place, tasks: Sequence[Task], limit: Money, bound: TaskBound, rt: Runtime) -> Purchase:
    currency = limit.currency
    step = next(one for one in rt.steps if one.id == place.step.config.id)
    assert step.validator is not None
    mean, recorded = _mean_cost(place, step.validator.client.name, VALIDATING, currency)
    drafts, _ = _mean_cost(place, step.drafter.client.name, DRAFTING, currency)
    apart = place.asked.fit_share if place.fits else 0.0
    return Purchase(
        limit=limit, spent=Money(nano=_spent_before(place, tasks, currency), currency=currency),
        bound=Money(nano=max((bound.of(task) for task in tasks), default=1), currency=currency),
        expected=None if mean is None else Money(nano=mean + (drafts or 0), currency=currency), recorded=recorded,
        tasks=len(tasks), takes=-int(-needed(place.asked) // (1.0 - apart)), unpriced=bound.unpriced,
    )


def bought_before(place: Place, tasks: Sequence[Task]) -> frozenset[str]:
    """The tasks (by their calibration's id) that an earlier try had drafted and validated: they cost nothing more."""
    own = {place.store.digest(f"id:{validated_id(place, str(task.id))}".encode()): str(task.id)
           for task in named(tasks, place)}
    r = _run.c
    query = select(r.task_key).where(
        r.pipeline == place.loaded.config.pipeline, r.done.is_(True), among(r.task_key)
    )
    with place.store.read() as connection:
        rows = [row for some in chunks(list(own)) for row in connection.execute(query, {"among": some})]
    return frozenset(own[row.task_key] for row in rows)


def _mean_cost(place: Place, model: str, roles: Sequence[str], currency: str) -> tuple[int | None, int]:
    """(mean cost of a recorded call in these roles, in billionths, how many there are)."""
    c = _call.c
    query = select(func.avg(c.cost_nano), func.count(c.cost_nano)).where(
        c.pipeline == place.loaded.config.pipeline, c.step == place.step.config.id, c.model == model,
        c.role.in_(roles), c.currency == currency, c.cost_nano > 0,
    )
    with place.store.read() as connection:
        mean, count = connection.execute(query).one()
    return (int(mean), int(count)) if count else (None, 0)


def _spent_before(place: Place, tasks: Sequence[Task], currency: str) -> int:
    """What this calibration has spent already: a call of unknown cost at the most that it can have cost."""
    r, c = _run.c, _call.c
    keys = [
        place.store.digest(key.encode()) for task in named(tasks, place)
        for key in (f"calibrate:id:{task.id}", f"id:{validated_id(place, str(task.id))}")
    ]
    query = (
        select(func.coalesce(func.sum(func.coalesce(c.cost_nano, c.bound_nano, 0)), 0))
        .join(_run, r.run_id == c.run_id)
        .where(r.pipeline == place.loaded.config.pipeline, among(r.task_key),
               func.coalesce(c.currency, c.bound_currency) == currency)
    )
    with place.store.read() as connection:
        return sum(int(connection.execute(query, {"among": some}).scalar_one()) for some in chunks(keys))
