"""What is known of runs, and what they cost, summed from their own rows: the measure of what the cells say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Float, Subquery, and_, case, cast, func, literal, or_, select

from orchestrator.finance.configured import CALIBRATION, Fitted, config
from orchestrator.finance.records import ReportQuery
from orchestrator.finance.scope import Group, call, ended, group_of, keys_of, with_config, within
from orchestrator.store.cells import costs_by_currency
from orchestrator.store.evidence import Evidence, RunIds, evidence, outcome, run


class RunKind(NamedTuple):
    """What runs have in common that stand in one row of a report's reading."""

    group: Group
    source: str
    success: bool | None
    propensity: float | None
    unanswered: bool
    status: str


@dataclass(slots=True)
class RunSums:
    """Sums over runs of one kind, costs in one currency. `bound` is the largest of those that have one."""

    runs: int = 0
    cost: int = 0
    squares: float = 0.0
    cubes: float = 0.0
    bound: int = 0
    unbounded: int = 0
    confident: int = 0
    confidences: float = 0.0
    confidence_squares: float = 0.0
    confidence_costs: float = 0.0
    escalated: int = 0
    from_cache: int = 0
    degraded: int = 0
    maturing: int = 0
    saved: int = 0

    def add(self, other: RunSums, sign: int = 1) -> None:
        bound = max(self.bound, other.bound)
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        self.bound = bound


Kinds = dict[RunKind, RunSums]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of runs: sums of one currency, the confidences that are `fitted` probabilities, and how many are
    still maturing `now`, by feedback `windows` in seconds with their config ids."""

    currency: str
    windows: Mapping[float, Sequence[str]] = field(default_factory=dict)
    fitted: Fitted = field(default_factory=dict)
    now: float = 0.0


def merge(kinds: Kinds, more: Kinds, sign: int = 1) -> None:
    for kind, sums in more.items():
        kinds.setdefault(kind, RunSums()).add(sums, sign)


def sums_of_rows(
    connection: Connection, query: ReportQuery, asked: Asked, *, among: RunIds | None = None, as_of: float | None = None
) -> Kinds:
    """Of the runs that ended in the period, or of those of them that are `among`; as was known before `as_of`."""
    known = evidence(as_of, among)
    keys = keys_of(connection, query.by)
    costs = _run_costs(query, asked.currency, among)
    cost = func.coalesce(costs.c.cost, 0)
    flags: dict[str, ColumnElement[Any]] = {
        "escalated": outcome.c.escalated, "from_cache": outcome.c.from_cache, "degraded": outcome.c.degraded,
        "maturing": _maturing(asked),
    }
    each = (
        select(
            *keys, known.source.label("source"), known.success.label("success"),
            known.propensity.label("propensity"), case((known.unanswered, 1), else_=0).label("unanswered"),
            outcome.c.status, _confidence(known, asked.fitted).label("f"), cost.label("cost"),
            cast(cost, Float).label("real"), func.coalesce(costs.c.bound, 0).label("bound"),
            case((costs.c.unbounded > 0, 1), else_=0).label("unbounded"),
            case((outcome.c.saved_currency == asked.currency, outcome.c.saved_nano), else_=0).label("saved"),
            *(case((flag, 1), else_=0).label(name) for name, flag in flags.items()),
        )
        .select_from(with_config(known.joined).outerjoin(costs, costs.c.run_id == outcome.c.run_id))
        .where(known.wanted, ended(outcome.c.ended_at, query), config.c.mode != CALIBRATION)
        .subquery("each")
    )
    c = each.c
    by = [*(c[key.name] for key in keys), c.source, c.success, c.propensity, c.unanswered, c.status]
    bounded = case((c.unbounded == 0, c.bound), else_=0)
    sums = select(*by, func.count(), func.sum(c.cost), func.sum(c.real * c.real), func.sum(c.real * c.real * c.real),
                  func.max(bounded), func.sum(c.unbounded), func.count(c.f), func.sum(c.f), func.sum(c.f * c.f),
                  func.sum(c.f * c.real), *(func.sum(c[name]) for name in (*flags, "saved"))).group_by(*by)
    return dict(_kind(row, len(keys)) for row in connection.execute(sums))


def _kind(row: Any, keys: int) -> tuple[RunKind, RunSums]:
    source, success, propensity, unanswered, status, *numbers = row[keys:]
    kind = RunKind(group_of(row[:keys]), source, None if success is None else bool(success), propensity,
                   bool(unanswered), status)
    sums = RunSums(*(number or 0 for number in numbers))
    return kind, exact(sums)


def exact(sums: RunSums) -> RunSums:
    """Counts and money as int, powers as float, whatever the driver gave."""
    defaults = RunSums()
    for name in RunSums.__slots__:
        setattr(sums, name, type(getattr(defaults, name))(getattr(sums, name)))
    return sums


def _run_costs(query: ReportQuery, currency: str, among: RunIds | None) -> Subquery:
    """What each run cost and could have cost, in one currency: by the rule that cells are counted by."""
    ours = among
    if ours is None:
        ours = select(outcome.c.run_id).where(within(outcome.c.ended_at, query.period))
    each = costs_by_currency(call.c.run_id.in_(ours)).subquery("by_currency")
    return select(each).where(each.c.currency == currency).subquery("costs")


def _maturing(asked: Asked) -> ColumnElement[bool]:
    """Feedback may still come: the run ended less than its pipeline's feedback window ago."""
    young = [
        and_(run.c.config_id.in_(ids), outcome.c.ended_at > asked.now - window)
        for window, ids in sorted(asked.windows.items())
    ]
    return or_(literal(False), *young)


def _confidence(known: Evidence, fitted: Fitted) -> ColumnElement[float]:
    """The logged confidence where it is a fitted probability; a raw signal is none."""
    ours = [and_(known.step == step, run.c.config_id.in_(ids)) for step, ids in sorted(fitted.items())]
    return case((and_(or_(literal(False), *ours), known.confidence.between(0.0, 1.0)), known.confidence))
