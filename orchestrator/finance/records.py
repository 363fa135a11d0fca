"""What a report holds: plain frozen records. Money is exact; None is not known, and never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.lapsed import Lapsed
from orchestrator.finance.period import Period
from orchestrator.finance.rates import Estimated, Method
from orchestrator.records import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportQuery:
    """`by` names columns (pipeline, version, owner, cost_center, mode, tenant) or tags that a pipeline allow-lists.

    `error_price`: what one wrong answer that was served costs whoever gets it, where that is to be counted.
    """

    pipeline: str | None = None
    by: tuple[str, ...] = ("pipeline",)
    period: Period = field(default_factory=Period)
    confidence: float = 0.95
    error_price: Money | None = None


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
class ErrorPriced:
    """Cost per success with a price on every wrong answer that was served: (spent + errors x price) / successes.

    `known` errors are served runs known to be wrong, `expected` ones those that spot checks let expect among the runs
    nobody looked at; `unknown` are served runs of which nothing is known: they count as errors in the figure.
    """

    price: Money
    known: int
    expected: float
    unknown: int
    per_success: CostPerSuccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison: its successes among the judged pairs, and what each of them cost. `unknown` are those
    of which the evidence does not say; `served` is how many gave an answer at all."""

    successes: int
    unknown: int
    served: int
    cost: Money
    per_success: CostPerSuccess
    with_errors: ErrorPriced | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The pairs of which something other than the validator says what was right: label, proof or feedback (`by`).

    `difference` is the cascade's rate of success less the baseline's, with its interval. Where the baseline's answer
    is unknown, `low` takes it for right and `high` for wrong, and `difference` is None.
    """

    pairs: int
    by: Mapping[str, int]
    cascade: Side
    baseline: Side
    difference: float | None
    low: float
    high: float
    method: Literal["square-and-add"] = "square-and-add"


@dataclass(frozen=True, slots=True, kw_only=True)
class Savings:
    """The cascade against the measured baseline, the validator alone, on the same tasks: those drawn for the baseline.

    `per_run` is what the baseline cost more than the cascade, spot checks included, on average; its interval is of the
    long run, by `method`: "student" (paired t) or "bounded" (Hoeffding, Maurer and Pontil), None where neither holds.
    `left_out` pairs have a cost that is unknown or in several currencies. Without `judged`, costs alone are compared:
    whether the answers were as good, nobody but the validator could say, and it does not judge itself.
    """

    currency: str
    pairs: int
    left_out: int
    cascade: Money
    baseline: Money
    per_run: Decimal
    low: Decimal | None
    high: Decimal | None
    method: Literal["student", "bounded"] | None
    judged: Judged | None
    note: str = ""

    @property
    def share(self) -> Decimal | None:
        """The saving as a part of what the baseline cost."""
        return 1 - self.cascade.amount / self.baseline.amount if self.baseline.nano else None

    @property
    def per_thousand(self) -> Decimal:
        return self.per_run * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeBill:
    """A line's money with the whole bill of its rented GPUs in place of their usage cost, idle time included.

    `idle` is what that adds; `pending` calls ran in hours that have not closed, and stand at their usage cost.
    `per_success` has an interval of this period's own figure only.
    """

    idle: Money
    total: Money
    pending: int
    per_success: CostPerSuccess


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Money of one currency. `total` is the numerator of cost per success: all calls but those of the baseline and
    of calibrations, which stand apart.

    `total` None: not one call of known cost. `waste` is what known failures cost; `unsettled_bound` what calls
    without an answer can have cost at most, which is in no other figure. `by_role`, `by_step` and `by_model` split
    the total, each anew: cost belongs to calls, success to whole runs, so no success is split with it.
    `whole_bill` stands beside the total where a rented GPU was used: the total holds its usage cost.
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
    by_step: Mapping[str, Money] = field(default_factory=dict)
    by_model: Mapping[str, Money] = field(default_factory=dict)
    with_errors: ErrorPriced | None = None
    whole_bill: WholeBill | None = None


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
    """One group of runs. `successes` are the known ones; `not_estimated` runs are unknown and stay so. `savings` is
    empty where no baseline was measured.

    `long_run_rate` is of runs like these, of which the period's are a sample; its interval holds whatever the runs
    that are not estimated were. Of the unpriced and unsettled calls, `apart_unknown_calls` are the baseline's and
    calibrations': their cost is missing from no total.
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
    savings: tuple[Savings, ...] = ()
    apart_unknown_calls: int = 0

    @property
    def name(self) -> str:
        """Of its group."""
        return ", ".join(value or "(none)" for value in self.group.values())

    @property
    def escalation_rate(self) -> float | None:
        return self.escalated / self.runs if self.runs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFigures:
    """One pipeline's month in the figures that are held against each other when it is closed, restated and verified.
    `spent` is all of its money by currency, baseline and calibration included; successes and failures are known ones.
    """

    pipeline: str
    runs: int
    successes: int
    failures: int
    calls: int
    unsettled: int
    spent: tuple[Money, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestatedMonth:
    """What is known now of a month that was closed, beside what was stated last, for one pipeline. `late` words of
    feedback on its runs came since."""

    month: str
    then: MonthFigures
    now: MonthFigures
    late: int

    @property
    def words(self) -> str:
        """Like: restated from 2026-11, order_lines: successes 977 -> 971, cost +0 USD; late feedback: 6."""
        pairs = [(name, getattr(self.then, name), getattr(self.now, name))
                 for name in ("successes", "failures", "runs", "calls", "unsettled")]
        moved = [f"{name} {then:,} -> {now:,}" for name, then, now in pairs if then != now or name == "successes"]
        before = {money.currency: money.nano for money in self.then.spent}
        after = {money.currency: money.nano for money in self.now.spent}
        for code in sorted({*before, *after}):
            more = Money(nano=after.get(code, 0) - before.get(code, 0), currency=code)
            moved.append(f"cost {'+' if more.nano >= 0 else ''}{more}")
        return (f"restated from {self.month}, {self.then.pipeline}: {', '.join(moved)}; late feedback: {self.late:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`totals` are sums per currency over all lines, the baseline apart. `restatements` are of months closed before."""

    query: ReportQuery
    created_at: float
    definitions: tuple[Definition, ...]
    lines: tuple[Line, ...]
    totals: tuple[Money, ...]
    unpriced_calls: int
    unsettled_calls: int
    lapses: tuple[Lapsed, ...] = ()
    restatements: tuple[RestatedMonth, ...] = ()
