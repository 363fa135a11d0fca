"""What a report's total is made of: by model, by day, by cost centre, by step and role, and what needs attention.

call lines of the ledger -> charges (a day's calls that are alike) -> sums of them, each per currency

Days are UTC days whatever the report's time zone: prices, budgets and providers' invoices go by them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, TypeVar

from orchestrator.finance.attention import Finding
from orchestrator.finance.configured import APART
from orchestrator.finance.money_sums import total
from orchestrator.finance.scope import COLUMNS, Group
from orchestrator.records import TOKEN_CLASSES, Money

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """Calls of one UTC day that are alike in all of these. `role` is calibration for all that calibrations asked.

    `tokens` by class, without zeros. `cost` None: unknown. `costs` by token class, which sum to `cost`; None where it
    was not priced by class. `allocated` is the share of the GPU's bill, of a local model with `gpu_hour`: that of
    `pending` calls, whose hours have not closed, is their usage cost. `bound` is what the calls without an answer can
    have cost at most. `late` calls were settled after the GPU's hour was closed, and bear nothing of its bill.
    """

    day: date
    pipeline: str
    version: str
    owner: str
    cost_center: str
    mode: str
    tenant: str
    tags: Mapping[str, str]
    step: str
    role: str
    provider: str
    model: str
    account: str | None
    tier: str | None
    state: str
    provenance: str | None
    price_version: str | None
    currency: str | None
    calls: int
    tokens: Mapping[str, int]
    cost: Money | None
    costs: Mapping[str, Money] | None
    allocated: Money | None
    bound: Money | None
    unpriced: int
    unsettled: int
    in_flight: int
    unbounded: int
    late: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """What a rented GPU cost in hours of one UTC day in which it answered nothing."""

    day: date
    model: str
    price_version: str
    cost: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Charges alike in `group`, of one currency (None: no call of them has a price or a bound). Calls of unknown cost
    stand with those of known cost where these are of one currency.

    `cost` is their part of the report's total, `apart` what baseline and calibration cost; None is unknown. `by_class`
    is both by token class, `unclassed` the rest, whose price is not by token. `provenance` counts calls. All other
    counts are of both, too, and those that begin with apart say how much of them is.
    """

    group: Mapping[str, str]
    currency: str | None
    calls: int
    tokens: Mapping[str, int]
    cost: Money | None
    apart: Money | None
    by_class: Mapping[str, Money]
    unclassed: Money | None
    allocated: Money | None
    bound: Money | None
    provenance: Mapping[str, int]
    unpriced: int
    unsettled: int
    in_flight: int
    apart_calls: int = 0
    apart_tokens: Mapping[str, int] = field(default_factory=dict)
    apart_unpriced: int = 0
    apart_unsettled: int = 0

    @property
    def at_least(self) -> bool:
        """Is the cost of some calls unknown, so that there is more to `cost` than it says."""
        return self.unpriced + self.unsettled > self.apart_unpriced + self.apart_unsettled

    @property
    def apart_at_least(self) -> bool:
        """The same of `apart`."""
        return self.apart_unpriced + self.apart_unsettled > 0

    @property
    def parts(self) -> tuple[Sum | None, Sum | None]:
        """What is in the report's total, and what stands apart, as sums of their own, so that tokens times price is the
        cost beside them; None where there are no such calls."""
        if not self.apart_calls:
            return self, None
        if self.apart_calls == self.calls:
            return None, self
        own = replace(
            self, calls=self.calls - self.apart_calls, apart=None, unpriced=self.unpriced - self.apart_unpriced,
            tokens={n: k for n, whole in self.tokens.items() if (k := whole - self.apart_tokens.get(n, 0))},
            unsettled=self.unsettled - self.apart_unsettled, apart_calls=0, apart_tokens={}, apart_unpriced=0,
            apart_unsettled=0,
        )
        return own, replace(
            self, calls=self.apart_calls, cost=None, unpriced=self.apart_unpriced, tokens=self.apart_tokens,
            unsettled=self.apart_unsettled,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who is billed for the calls of one key: the names that the price book gives to an `account` of the ledger."""

    alias: str
    billing_account_id: str
    billing_account_name: str
    sub_account_id: str | None = None
    sub_account_name: str | None = None
    invoice_issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCount:
    """Runs that ended on one UTC day. `successes` are the known ones; `unknown` may be estimated, not here."""

    day: date
    pipeline: str
    cost_center: str
    runs: int
    successes: int
    failures: int
    unknown: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """`charges` hold everything that the sums are made of; FOCUS files are written from them."""

    by_model: tuple[Sum, ...] = ()
    by_day: tuple[Sum, ...] = ()
    by_cost_center: tuple[Sum, ...] = ()
    by_step: tuple[Sum, ...] = ()
    runs: tuple[RunCount, ...] = ()
    attention: tuple[Finding, ...] = ()
    accounts: tuple[Account, ...] = ()
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    idle: tuple[Idle, ...] = ()
    charges: tuple[Charge, ...] = ()


BY_MODEL = ("model", "provider")
BY_DAY = ("day", "role")
BY_COST_CENTER = ("cost_center", "pipeline")
BY_STEP = ("pipeline", "step", "role")


def sums(charges: Sequence[Charge], keys: Sequence[str]) -> tuple[Sum, ...]:
    """`charges` summed by the fields named, in their order."""
    alike: dict[tuple[str, ...], list[Charge]] = {}
    for one in charges:
        alike.setdefault((*(str(getattr(one, key)) for key in keys), one.currency or ""), []).append(one)
    for place in [place for place in alike if not place[-1]]:
        known = [other for other in alike if other[:-1] == place[:-1] and other[-1]]
        if len(known) == 1:
            alike[known[0]] += alike.pop(place)
    return tuple(_sum(dict(zip(keys, place, strict=False)), alike[place]) for place in sorted(alike))


def _sum(group: Mapping[str, str], charges: Sequence[Charge]) -> Sum:
    code = next((c.currency for c in charges if c.currency), None)
    own, apart = [c for c in charges if c.role not in APART], [c for c in charges if c.role in APART]
    classed = [c.costs for c in charges if c.costs is not None]
    provenance: dict[str, int] = {}
    for one in charges:
        name = one.provenance or one.state
        provenance[name] = provenance.get(name, 0) + one.calls
    return Sum(
        group=group, currency=code, calls=sum(c.calls for c in charges), tokens=_tokens(charges),
        cost=total(c.cost for c in own), apart=total(c.cost for c in apart),
        by_class={n: Money(nano=sum(c[n].nano for c in held), currency=code or "")
                  for n in TOKEN_CLASSES if (held := [c for c in classed if n in c])},
        unclassed=total(c.cost for c in charges if c.costs is None),
        allocated=total(c.allocated for c in charges), bound=total(c.bound for c in charges),
        provenance=dict(sorted(provenance.items())), unpriced=sum(c.unpriced for c in charges),
        unsettled=sum(c.unsettled for c in charges), in_flight=sum(c.in_flight for c in charges),
        apart_calls=sum(c.calls for c in apart), apart_tokens=_tokens(apart),
        apart_unpriced=sum(c.unpriced for c in apart), apart_unsettled=sum(c.unsettled for c in apart),
    )


def _tokens(charges: Iterable[Charge]) -> dict[str, int]:
    """By class, without zeros."""
    sums = dict.fromkeys(TOKEN_CLASSES, 0)
    for one in charges:
        for name, n in one.tokens.items():
            sums[name] += n
    return {name: n for name, n in sums.items() if n}


def group_of_charge(one: Charge, by: Sequence[str]) -> Group:
    """The group of a report that a charge belongs to: by its own fields, or tags."""
    return tuple(str(getattr(one, key)) if key in COLUMNS else one.tags.get(key, "") for key in by)


def counted_runs(runs: Iterable[RunCount], by: Callable[[RunCount], K]) -> dict[K, tuple[int, int]]:
    """Runs and known successes, by what `by` gives."""
    counts: dict[K, tuple[int, int]] = {}
    for one in runs:
        n, right = counts.get(by(one), (0, 0))
        counts[by(one)] = n + one.runs, right + one.successes
    return counts


def incomplete(charges: Iterable[Charge]) -> bool:
    """Is the cost of some of these calls unknown, baseline and calibration aside."""
    return any(one.unpriced + one.unsettled for one in charges if one.role not in APART)
