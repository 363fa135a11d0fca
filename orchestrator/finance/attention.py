"""What needs attention before a report is signed: what is unknown, inferred, open or out of bounds, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from orchestrator.finance.money_sums import by_currency
from orchestrator.finance.phrases import amount, counted
from orchestrator.finance.records import Report
from orchestrator.records import Money

if TYPE_CHECKING:
    from orchestrator.finance.break_even_told import Beside
    from orchestrator.finance.breakdown import Charge, Idle
    from orchestrator.finance.noted import Noted
    from orchestrator.finance.refusals import Refusal

PERIOD: frozenset[str] = frozenset({"closed", "not_closed"})
"""Of the whole period: is it a closed month, as it was closed."""
OF_GPUS: frozenset[str] = frozenset({"idle", "late", "break_even"})
"""What a rented GPU cost beside what was made of it."""
OF_RUNS: frozenset[str] = frozenset({"again", "unreadable", "shadow"})
"""What is worth knowing of runs."""
URGENT: frozenset[str] = frozenset({"unpriced", "unsettled", "unbounded", "lapsed", "overrun", "refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to look at. `kind` is one of unpriced, unsettled, unbounded, estimated, in_flight, maturing, degraded,
    not_estimated, restated, lapsed, overrun, refused, idle, break_even, late, again, unreadable, shadow, closed,
    not_closed. `urgent`: a figure of the report is incomplete, or a limit was passed or reached. `amounts` are what it
    is about in money, one per currency: a bound, an inferred cost, an overrun."""

    kind: str
    urgent: bool
    subject: str
    count: int
    amounts: tuple[Money, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrun:
    """A budget above which a provider billed, by its scope."""

    scope: str
    over: Money


def findings(
    report: Report, charges: Sequence[Charge], overruns: Sequence[Overrun] = (), idle: Sequence[Idle] = (),
    refusals: Sequence[Refusal] = (), beside: Sequence[Beside] = (), noted: Sequence[Noted] = (),
) -> tuple[Finding, ...]:
    """The urgent ones first."""
    budgets = [*_of_budgets(overruns), *_of_refusals(refusals)]
    gpus = [*_of_gpus(charges, idle), *_of_break_even(beside)]
    runs = [_finding(one.kind, one.pipeline, one.count, one.words) for one in noted]
    found = [*_of_calls(charges), *budgets, *gpus, *_of_report(report), *runs]
    return tuple(sorted(found, key=lambda one: not one.urgent))


def _of_calls(charges: Sequence[Charge]) -> Iterator[Finding]:
    for model, n, _ in _by_model(charges, lambda c: c.unpriced, lambda c: None):
        words = (f"{counted(n, 'call')} of {model} without a price: their cost is in no sum. "
                 "Add the model to the price book, and look at report --reprice")
        yield _finding("unpriced", model, n, words)
    for model, n, most in _by_model(charges, lambda c: c.unsettled, lambda c: c.bound):
        limit = f", {_said(most)} at most" if most else ""
        yield _finding("unsettled", model, n, f"{counted(n, 'call')} of {model} without an answer: the cost is "
                       f"unknown{limit}, and in no sum. The provider's invoice tells", most)
    for model, n, _ in _by_model(charges, lambda c: c.unbounded, lambda c: None):
        yield _finding("unbounded", model, n, f"{counted(n, 'call')} of {model} without an answer and without an "
                       "upper bound")
    inferred = [c for c in charges if c.provenance == "estimated"]
    for model, n, cost in _by_model(inferred, lambda c: c.calls, lambda c: c.cost):
        yield _finding("estimated", model, n, f"{counted(n, 'call')} of {model} cut short: {_said(cost)} is "
                       "inferred from what was received", cost)
    for model, n, _ in _by_model(charges, lambda c: c.in_flight, lambda c: None):
        yield _finding("in_flight", model, n, f"{counted(n, 'call')} of {model} in flight as the report was made")


def _of_gpus(charges: Sequence[Charge], idle: Sequence[Idle]) -> Iterator[Finding]:
    """A rented GPU costs its hours, busy or not: the bill beside the use that was made of it."""
    shared = [
        (c.model, c.allocated, c.cost) for c in charges
        if c.allocated is not None and (c.pending < c.calls or not c.calls)  # some hour of theirs has closed
    ]
    for model in sorted({name for name, _, _ in shared} | {one.model for one in idle}):
        without = [one.cost for one in idle if one.model == model]
        bill = by_currency([*without, *(share for name, share, _ in shared if name == model)])
        used = by_currency(cost for name, _, cost in shared if name == model)
        spare = by_currency(without)
        yield _finding("idle", model, len(without), f"the GPUs of {model} were billed {_said(bill)}; by their use, at "
                       f"full load, {_said(used) if used else 'nothing'}; {_said(spare) if spare else 'nothing'} fell "
                       "in hours without a call", bill)
    for model, n, _ in _by_model(charges, lambda c: c.late, lambda c: None):
        yield _finding("late", model, n, f"{counted(n, 'call')} of {model} settled after the GPU's hour was closed: "
                       "none of its bill stands on them")


def _of_break_even(beside: Sequence[Beside]) -> Iterator[Finding]:
    """From which volume on a GPU pays, beside the validator's own price for the calls that it made."""
    for one in beside:
        found = one.found
        there = f"the GPUs of {found.local} ({_said((found.bill,))} an hour) beside {found.api}"
        if found.calls_per_hour is None or not found.reachable:
            words = f"{there} never pay: at full load they make {_whole(found.capacity_per_hour)} calls an hour"
        else:
            words = (f"{there} pay from {_whole(found.calls_per_hour)} calls an hour on, or "
                     f"{_whole(found.calls_per_month or 0)} a month")
        mean = one.calls_per_hour
        made = "" if mean is None else f"; in the hours billed they made {round(mean):,} each"
        yield _finding("break_even", found.local, one.calls, f"{words} (a call like those of this period would cost "
                       f"{_said((found.api_call,))} there){made}", (found.bill,))


def _whole(number: Fraction | int) -> str:
    """Rounded up: so many are enough."""
    return f"{math.ceil(number):,}"


def _by_model(
    charges: Sequence[Charge], count: Callable[[Charge], int], money: Callable[[Charge], Money | None]
) -> Iterator[tuple[str, int, tuple[Money, ...]]]:
    for model in sorted({c.model for c in charges if count(c)}):
        alike = [c for c in charges if c.model == model and count(c)]
        yield model, sum(map(count, alike)), by_currency(map(money, alike))


def _of_budgets(overruns: Sequence[Overrun]) -> Iterator[Finding]:
    for one in overruns:
        words = f"budget {one.scope}: the provider billed {_said((one.over,))} above it"
        yield _finding("overrun", one.scope, 1, words, (one.over,))


def _of_refusals(refusals: Sequence[Refusal]) -> Iterator[Finding]:
    for one in refusals:
        n, among = len(one.buckets), f" ({one.buckets[0]} to {one.buckets[-1]})" if len(one.buckets) > 1 else ""
        when = f" in {counted(n, one.span)}{among or f' ({one.buckets[0]})'}" if n else ""
        words = (f"budget {one.account} (limit {', then '.join(one.limits)}) was spent{when}: it refused calls, and "
                 "their tasks were handed off or failed. How many calls, the ledger does not say. See budget show")
        yield _finding("refused", one.account, max(1, n), words)


def _of_report(report: Report) -> Iterator[Finding]:
    for lapse in report.lapses:
        yield _finding("lapsed", f"{lapse.pipeline}, step {lapse.step}", 1, lapse.words.rstrip("."))
    for month in report.restatements:
        yield _finding("restated", month.then.pipeline, month.late, month.words)
    for line in report.lines:
        name = line.name
        if line.restated is not None:
            yield _finding("restated", name, abs(line.restated.now - line.restated.then),
                           f"{name}: later feedback restated {line.restated.then:,} known successes at the period's "
                           f"end to {line.restated.now:,}")
        for kind, n, words in (
            ("maturing", line.maturing, "still maturing: the feedback window is open"),
            ("degraded", line.degraded, "served without the validation that was due"),
            ("not_estimated", line.not_estimated, "of unknown success that no spot check speaks for: counted as none"),
        ):
            if n:
                yield _finding(kind, name, n, f"{name}: {counted(n, 'run')} {words}")


def _finding(kind: str, subject: str, count: int, words: str, amounts: tuple[Money, ...] = ()) -> Finding:
    return Finding(kind=kind, urgent=kind in URGENT, subject=subject, count=count, amounts=amounts, words=words)


def _said(amounts: tuple[Money, ...]) -> str:
    return " and ".join(f"{amount(one.amount)} {one.currency}" for one in amounts) or "an unknown cost"
