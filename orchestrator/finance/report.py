"""The report: what each pipeline's successful outcomes cost, and how much of that is measured.

ledger -> cells of like runs, sums of calls -> lines -> table, JSON or CSV (render.py)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from orchestrator.errors import InputError
from orchestrator.finance.configured import CALIBRATION, Configured, fitted_steps, read_configs
from orchestrator.finance.cost import cost_per_success
from orchestrator.finance.evidence import SOURCES
from orchestrator.finance.lapsed import read_lapses
from orchestrator.finance.rates import long_run_rate, own_successes
from orchestrator.finance.read import (
    COLUMNS,
    CallSum,
    Group,
    Readable,
    RunRow,
    Saved,
    Scope,
    feedback_since,
    read_calls,
    read_runs,
    read_savings,
)
from orchestrator.finance.records import Definition, Estimate, Line, Report, ReportQuery, Restated, Source, Spend
from orchestrator.finance.success import Cell, Tally, tally
from orchestrator.records import Money

BASELINE = "baseline"
APART = (BASELINE, CALIBRATION)
Row = TypeVar("Row", CallSum, Saved, RunRow)


def build_report(store: Readable, query: ReportQuery | None = None, *, now: float | None = None) -> Report:
    """Read the ledger once, in one consistent view. Raises InputError where `by` names what reports may not show."""
    query = query or ReportQuery()
    now = time.time() if now is None else now
    scope = Scope(pipeline=query.pipeline, by=query.by, period=query.period)
    with store.read() as connection:
        configs = read_configs(connection, query.pipeline)
        _check_keys(query.by, configs)
        lapses = read_lapses(connection, query.pipeline, query.period)
        calls, savings = read_calls(connection, scope), read_savings(connection, scope)
        asked: dict[str, Any] = {"windows": _windows(configs), "fitted": fitted_steps(configs), "now": now}
        codes = sorted({c.currency for c in calls if c.currency} | {s.currency for s in savings}) or ["USD"]
        runs = {code: read_runs(connection, scope, currency=code, **asked) for code in codes}
        then = None
        if (until := query.period.until_at) is not None and until <= now and feedback_since(connection, until):
            then = read_runs(connection, scope, currency=codes[0], as_of=until, **asked)
    groups = sorted({row.group for row in runs[codes[0]]} | {row.group for row in calls})
    lines = tuple(
        _line(
            query, dict(zip(query.by, group, strict=True)), _of(calls, group), _of(savings, group),
            {code: _of(rows, group) for code, rows in runs.items()}, None if then is None else _of(then, group),
        )
        for group in groups
    )
    return Report(
        query=query, created_at=now, definitions=_definitions(configs), lines=lines, totals=_totals(lines),
        unpriced_calls=sum(line.unpriced_calls for line in lines),
        unsettled_calls=sum(line.unsettled_calls for line in lines), lapses=lapses,
    )


def _of(rows: Iterable[Row], group: Group) -> list[Row]:
    return [row for row in rows if row.group == group]


def _check_keys(by: Sequence[str], configs: Sequence[Configured]) -> None:
    allowed = {*COLUMNS, *(tag for config in configs for tag in config.tags)}
    for name in by:
        if name not in allowed:
            raise InputError(
                f"reports can't be grouped by {name!r}: the keys are {', '.join(sorted(allowed))}",
                hint="list the key of `meta` under `tags:` in the pipeline, and it may be shown",
            )
    if len(set(by)) < len(by):
        raise InputError(f"--by names a key twice: {', '.join(by)!r}")


def _windows(configs: Iterable[Configured]) -> dict[float, list[str]]:
    windows: dict[float, list[str]] = {}
    for config in configs:
        windows.setdefault(config.feedback_window_s, []).append(config.config_id)
    return windows


def _definitions(configs: Iterable[Configured]) -> tuple[Definition, ...]:
    """The present one of each pipeline."""
    present = {config.pipeline: config for config in configs}
    return tuple(
        Definition(pipeline=name, require=c.require, feedback_window_s=c.feedback_window_s)
        for name, c in sorted(present.items())
    )


def _line(
    query: ReportQuery, group: Mapping[str, str], calls: Sequence[CallSum], savings: Sequence[Saved],
    by_currency: Mapping[str, Sequence[RunRow]], then: Sequence[RunRow] | None,
) -> Line:
    rows = next(iter(by_currency.values()))  # counts are the same in every currency
    cells = _cells(rows)
    counts = tally(cells)
    missing = sum(c.unpriced for c in calls if c.role not in APART)
    used = {c.currency for c in calls} | {s.currency for s in savings}
    codes = [code for code in by_currency if code in used] or list(by_currency)[:1]
    return Line(
        group=group, runs=counts.runs, successes=counts.known_right, failures=counts.known_wrong,
        sources=_sources(rows, counts.runs), statuses=_statuses(rows),
        estimate=_estimate(cells, counts, query.confidence), not_estimated=counts.not_estimated,
        long_run_rate=long_run_rate(cells, query.confidence),
        escalated=sum(r.escalated for r in rows), cache_hits=sum(r.from_cache for r in rows),
        degraded=sum(r.degraded for r in rows), maturing=sum(r.maturing for r in rows),
        restated=_restated(counts, then), calls=sum(c.calls for c in calls),
        unpriced_calls=sum(c.unpriced for c in calls),
        unsettled_calls=sum(c.unsettled for c in calls), unbounded_calls=sum(c.unbounded for c in calls),
        in_flight_calls=sum(c.in_flight for c in calls),
        spend=tuple(
            _spend(query, code, [c for c in calls if c.currency == code], savings, by_currency[code], missing)
            for code in codes
        ),
    )


def _cells(rows: Iterable[RunRow]) -> list[Cell]:
    return [
        Cell(runs=r.runs, success=r.success, propensity=r.propensity, unanswered=r.unanswered, cost=r.cost,
             cost_squares=r.cost_squares, cost_cubes=r.cost_cubes, bound=r.bound, confidences=r.confidences)
        for r in rows
    ]


def _sources(rows: Sequence[RunRow], runs: int) -> tuple[Source, ...]:
    counts = {name: [0, 0] for name in SOURCES}
    for row in rows:
        counts[row.source][0] += row.runs
        counts[row.source][1] += row.runs if row.success else 0
    return tuple(
        Source(name=name, runs=n, successes=right, share=n / runs) for name, (n, right) in counts.items() if n
    )


def _statuses(rows: Iterable[RunRow]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + row.runs
    return dict(sorted(counts.items()))


def _estimate(cells: Sequence[Cell], counts: Tally, confidence: float) -> Estimate | None:
    found = own_successes(cells, confidence)
    if found is None:
        return None
    return Estimate(
        unchecked=counts.unchecked, checked=sum(s.checked for s in counts.strata),
        right=sum(s.right for s in counts.strata), unanswered=counts.unanswered, strata=len(counts.strata),
        successes=found.value, low=found.low, high=found.high, method=found.method,
    )


def _restated(counts: Tally, then: Sequence[RunRow] | None) -> Restated | None:
    if then is None:
        return None
    closed = tally(_cells(then)).known_right
    return None if closed == counts.known_right else Restated(then=closed, now=counts.known_right)


def _spend(
    query: ReportQuery, code: str, calls: Sequence[CallSum], savings: Sequence[Saved], rows: Sequence[RunRow],
    missing: int,
) -> Spend:
    own = [c for c in calls if c.role not in APART]
    known = sum(c.priced for c in own) > 0 or (not own and not missing)
    total = sum(c.cost for c in own)
    roles = sorted({c.role for c in own if c.priced})
    unsettled = [c for c in calls if c.unsettled > c.unbounded]
    return Spend(
        currency=code,
        total=Money(nano=total, currency=code) if known else None,
        by_role={role: Money(nano=sum(c.cost for c in own if c.role == role), currency=code) for role in roles},
        baseline=_apart(calls, BASELINE, code), calibration=_apart(calls, CALIBRATION, code),
        waste=Money(nano=sum(r.cost for r in rows if r.success is False), currency=code),
        saved=Money(nano=sum(s.nano for s in savings if s.currency == code), currency=code),
        unsettled_bound=Money(nano=sum(c.bound for c in unsettled), currency=code) if unsettled else None,
        per_success=cost_per_success(
            total if known else None, _cells(rows), missing_costs=missing, confidence=query.confidence
        ),
    )


def _apart(calls: Iterable[CallSum], role: str, code: str) -> Money | None:
    priced = [c.cost for c in calls if c.role == role and c.priced]
    return Money(nano=sum(priced), currency=code) if priced else None


def _totals(lines: Iterable[Line]) -> tuple[Money, ...]:
    sums: dict[str, int] = {}
    for spend in (spend for line in lines for spend in line.spend):
        if spend.total is not None:
            sums[spend.currency] = sums.get(spend.currency, 0) + spend.total.nano
    return tuple(Money(nano=nano, currency=code) for code, nano in sorted(sums.items()))
