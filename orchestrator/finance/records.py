"""What a report holds: plain frozen records. Money is exact; None is not known, and never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.lapsed import Lapsed
from orchestrator.finance.period import Period
from orchestrator.finance.rates import Estimated, Method
from orchestrator.records import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """`by` names columns (pipeline, version, owner, cost_center, mode, tenant) or tags that a pipeline allow-lists."""

    pipeline: str | None = None
    by: tuple[str, ...] = ("pipeline",)
    period: Period = field(default_factory=Period)
    confidence: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What a success is in one pipeline: the check it must pass, and how long feedback may still change it."""

    pipeline: str
    require: str | None
    feedback_window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Runs whose success is known from one source (or unknown), and how many of them succeeded."""

    name: str
    runs: int
    successes: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Money of one currency. `total` is the numerator of cost per success: all calls but those of the baseline and
    of calibrations, which stand apart.

    `total` None: not one call of known cost. `waste` is what known failures cost; `unsettled_bound` what calls
    without an answer can have cost at most, which is in no other figure.
    """

    currency: str
    total: Money | None
    by_role: Mapping[str, Money]
    baseline: Money | None
    calibration: Money | None
    waste: Money
    saved: Money
    unsettled_bound: Money | None
    per_success: CostPerSuccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Successes among this period's runs that nobody looked at, from spot checks of others like them.

    `low` to `high` is of these very runs, by `method`; `unanswered` checks count as no success in `successes` and
    `low`, and as successes in `high`.
    """

    unchecked: int
    checked: int
    right: int
    unanswered: int
    strata: int
    successes: float
    low: float
    high: float
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """Known successes as they stood at the period's end, and what feedback since then added and took away."""

    then: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One group of runs. `successes` are the known ones; `not_estimated` runs are unknown and stay so.

    `long_run_rate` is of runs like these, of which the period's are a sample; its interval holds whatever the runs
    that are not estimated were.
    """

    group: Mapping[str, str]
    runs: int
    successes: int
    failures: int
    sources: tuple[Source, ...]
    statuses: Mapping[str, int]
    estimate: Estimate | None
    not_estimated: int
    long_run_rate: Estimated | None
    escalated: int
    cache_hits: int
    degraded: int
    maturing: int
    restated: Restated | None
    calls: int
    unpriced_calls: int
    unsettled_calls: int
    unbounded_calls: int
    in_flight_calls: int
    spend: tuple[Spend, ...]

    @property
    def escalation_rate(self) -> float | None:
        return self.escalated / self.runs if self.runs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`totals` are sums per currency over all lines, the baseline apart."""

    query: ReportQuery
    created_at: float
    definitions: tuple[Definition, ...]
    lines: tuple[Line, ...]
    totals: tuple[Money, ...]
    unpriced_calls: int
    unsettled_calls: int
    lapses: tuple[Lapsed, ...] = ()
