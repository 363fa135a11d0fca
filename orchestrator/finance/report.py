"""The report: what each pipeline's successful outcomes cost, and how much of that is measured.

ledger -> cells of like runs, sums of calls -> lines -> table, JSON or CSV (render.py)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, select

from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Charge, group_of_charge
from orchestrator.finance.charges import read_charges
from orchestrator.finance.configured import APART, Configured, fitted_steps, read_configs
from orchestrator.finance.idle import Beyond, beyond_usage
from orchestrator.finance.lapsed import read_lapses
from orchestrator.finance.money_sums import by_currency
from orchestrator.finance.paired import savings_of
from orchestrator.finance.pairs import PairRow, count_pairs, read_pairs
from orchestrator.finance.rates import long_run_rate, own_successes
from orchestrator.finance.records import Definition, Estimate, Line, Report, ReportQuery, Restated, Savings, Source
from orchestrator.finance.run_cells import RunRow, read_runs, saved_in_cells
from orchestrator.finance.run_rows import Asked
from orchestrator.finance.scope import COLUMNS, Group
from orchestrator.finance.spending import missing_of, spend_of
from orchestrator.finance.success import Cell, Tally, tally
from orchestrator.records import Money
from orchestrator.store.evidence import SOURCES, feedback
from orchestrator.store.statements import Readable

OF_CALLS = ("step", "role", "model", "provider", "endpoint", "account")
"""What a call has and a run has not: cost is split by it, success is not."""
One = TypeVar("One")
Grouped = TypeVar("Grouped", RunRow, PairRow)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What the ledger says, by group of the report. `runs` and `pairs` are by currency, their counts the same in each;
    `then` are the runs as they were known at the period's end, None where nothing was learned since."""

    calls: Mapping[Group, Sequence[Charge]]
    beyond: Mapping[tuple[Group, str], Beyond]
    saved: Mapping[tuple[Group, str], int]
    runs: Mapping[str, Mapping[Group, Sequence[RunRow]]]
    then: Mapping[Group, Sequence[RunRow]] | None
    pairs: Mapping[str, Mapping[Group, Sequence[PairRow]]]
    pair_counts: Mapping[Group, int]

    @property
    def groups(self) -> list[Group]:
        return sorted({*next(iter(self.runs.values())), *self.calls})


def build_report(store: Readable, query: ReportQuery | None = None, *, now: float | None = None) -> Report:
    """Read the ledger once, in one consistent view. Raises InputError where `by` names what reports may not show, and
    where errors are priced in a currency in which nothing was spent."""
    query = query or ReportQuery()
    now = time.time() if now is None else now
    with store.read() as connection:
        configs = read_configs(connection, query.pipeline)
        _check_keys(query.by, configs)
        rows = _read(connection, query, configs, now)
        lapses = read_lapses(connection, query.pipeline, query.period)
    lines = tuple(_line(query, group, rows) for group in rows.groups)
    _check_currency(query.error_price, lines)
    return Report(
        query=query, created_at=now, definitions=_definitions(configs), lines=lines,
        totals=by_currency(spend.total for line in lines for spend in line.spend),
        unpriced_calls=sum(line.unpriced_calls for line in lines),
        unsettled_calls=sum(line.unsettled_calls for line in lines), lapses=lapses,
    )


def _read(connection: Connection, query: ReportQuery, configs: Sequence[Configured], now: float) -> _Rows:
    calls = read_charges(connection, period=query.period, pipeline=query.pipeline, grain="period")
    saved = saved_in_cells(connection, query)
    codes = sorted({c.currency for c in calls if c.currency} | {code for _, code in saved}) or ["USD"]
    windows, fitted = _windows(configs), fitted_steps(configs)
    asked = {code: Asked(currency=code, windows=windows, fitted=fitted, now=now) for code in codes}
    runs = {code: read_runs(connection, query, asked[code]) for code in codes}
    then = None
    if (until := query.period.until_at) is not None and until <= now and _feedback_since(connection, until):
        then = read_runs(connection, query, asked[codes[0]], as_of=until)
    counts = count_pairs(connection, query)

    def group_of(one: Charge) -> Group:
        return group_of_charge(one, query.by)

    return _Rows(
        calls=_by_group(calls, group_of),
        beyond=beyond_usage(connection, query.period, query.pipeline, calls, group_of),
        saved=saved,
        runs={code: _grouped(rows) for code, rows in runs.items()}, then=None if then is None else _grouped(then),
        pairs={code: _grouped(read_pairs(connection, query, code)) for code in codes} if counts else {},
        pair_counts=counts,
    )


def _feedback_since(connection: Connection, at: float) -> bool:
    """May anything known at that time have been restated?"""
    return connection.execute(select(feedback.c.run_id).where(feedback.c.at >= at).limit(1)).first() is not None


def _grouped(rows: Iterable[Grouped]) -> dict[Group, list[Grouped]]:
    return _by_group(rows, lambda row: row.group)


def _by_group(rows: Iterable[One], group_of: Callable[[One], Group]) -> dict[Group, list[One]]:
    groups: dict[Group, list[One]] = {}
    for row in rows:
        groups.setdefault(group_of(row), []).append(row)
    return groups


def _check_keys(by: Sequence[str], configs: Sequence[Configured]) -> None:
    allowed = {*COLUMNS, *(tag for config in configs for tag in config.tags)}
    for name in by:
        if name in OF_CALLS and name not in allowed:
            raise InputError(
                f"reports can't be grouped by {name!r}: it is of calls, and success belongs to whole runs",
                hint="what each step, role and model cost stands under every line of the report",
            )
        if name not in allowed:
            raise InputError(
                f"reports can't be grouped by {name!r}: the keys are {', '.join(sorted(allowed))}",
                hint="list the key of `meta` under `tags:` in the pipeline, and it may be shown",
            )
    if len(set(by)) < len(by):
        raise InputError(f"--by names a key twice: {', '.join(by)!r}")


def _check_currency(price: Money | None, lines: Sequence[Line]) -> None:
    spent = sorted({spend.currency for line in lines for spend in line.spend if spend.total})
    if price is not None and spent and price.currency not in spent:
        raise InputError(
            f"--error-price is in {price.currency!r}, and money was spent in {', '.join(spent)}",
            hint="price an error in the currency of the report",
        )


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


def _line(query: ReportQuery, group: Group, read: _Rows) -> Line:
    calls = read.calls.get(group, ())
    by_currency = {code: rows.get(group, ()) for code, rows in read.runs.items()}
    rows = next(iter(by_currency.values()))  # counts are the same in every currency
    cells = [row.cell for row in rows]
    counts = tally(cells)
    used = {c.currency for c in calls}
    codes = [code for code in by_currency if code in used or (group, code) in read.saved] or list(by_currency)[:1]
    return Line(
        group=dict(zip(query.by, group, strict=True)), runs=counts.runs, successes=counts.known_right,
        failures=counts.known_wrong, sources=_sources(rows, counts.runs), statuses=_statuses(rows),
        estimate=_estimate(cells, counts, query.confidence), not_estimated=counts.not_estimated,
        long_run_rate=long_run_rate(cells, query.confidence),
        escalated=sum(r.escalated for r in rows), cache_hits=sum(r.from_cache for r in rows),
        degraded=sum(r.degraded for r in rows), maturing=sum(r.maturing for r in rows),
        restated=_restated(counts, None if read.then is None else read.then.get(group, ())),
        calls=sum(c.calls for c in calls),
        unpriced_calls=sum(c.unpriced for c in calls),
        unsettled_calls=sum(c.unsettled for c in calls), unbounded_calls=sum(c.unbounded for c in calls),
        apart_unknown_calls=sum(c.unpriced + c.unsettled for c in calls if c.role in APART),
        in_flight_calls=sum(c.in_flight for c in calls),
        spend=tuple(
            spend_of(
                query, code, [c for c in calls if c.currency == code], by_currency[code], missing_of(calls, code),
                read.saved.get((group, code), 0), read.beyond.get((group, code)),
            )
            for code in codes
        ),
        savings=_savings(query, group, read),
    )


def _savings(query: ReportQuery, group: Group, read: _Rows) -> tuple[Savings, ...]:
    """Against the measured baseline, in each currency in which pairs were paid."""
    compared = sum(row.pairs for rows in read.pairs.values() for row in rows.get(group, ()))
    found = (
        savings_of(
            rows.get(group, ()), code, left_out=read.pair_counts.get(group, 0) - compared,
            confidence=query.confidence, error_price=query.error_price,
        )
        for code, rows in read.pairs.items()
    )
    return tuple(one for one in found if one is not None)


def _sources(rows: Sequence[RunRow], runs: int) -> tuple[Source, ...]:
    counts = {name: [0, 0] for name in SOURCES}
    for row in rows:
        counts[row.source][0] += row.cell.runs
        counts[row.source][1] += row.cell.runs if row.cell.success else 0
    return tuple(
        Source(name=name, runs=n, successes=right, share=n / runs) for name, (n, right) in counts.items() if n
    )


def _statuses(rows: Iterable[RunRow]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + row.cell.runs
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
    closed = tally(row.cell for row in then).known_right
    return None if closed == counts.known_right else Restated(then=closed, now=counts.known_right)
