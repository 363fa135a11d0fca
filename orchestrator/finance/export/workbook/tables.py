"""The tables of the workbook, before anything is written: columns and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from orchestrator.finance.breakdown import BY_COST_CENTER, BY_MODEL, BY_STEP, Breakdown, Sum, counted_runs
from orchestrator.finance.bridge import paid
from orchestrator.finance.configured import APART
from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.export.figures import ROLES, by_validator, estimated, measured, shown, spends
from orchestrator.finance.export.figures import SHOWN as GROUPS
from orchestrator.finance.export.workbook.sheet import Column, Table
from orchestrator.finance.phrases import unit_cost
from orchestrator.finance.records import Line, Report, Spend
from orchestrator.finance.words import apart, apart_only, incomplete_in, remarks
from orchestrator.records import TOKEN_CLASSES, Money

COST, RUNS, KNOWN, ESTIMATED, UNIT = "cost", "runs", "known successes", "estimated successes", "cost per success"
LOW, HIGH, MEASURED, THOUSAND = "long run, low", "long run, high", "measured", "per 1,000 successes"
SHEETS = ("pipeline", "version", "owner", "mode", "tenant")
"""Groups that the sheet of the lines is named after. A tag may be named anything, and `By cost centre` is taken."""
BY_WORD, PRICED, LABEL = "by the validator's word", "per success, errors priced", "label"
UP, DOWN = "above", "below"
UNIT_FORMULA = f"=[{COST}]/([{KNOWN}]+[{ESTIMATED}])"


def by_line(report: Report) -> Table:
    """One row a line and currency. The unit cost is a formula of cost and successes on the same row."""
    lines, spend = _columns(report)
    units = [one.per_success for one in spend]
    least = [incomplete_in(line, one) for line, one in spends(report)]
    names = [line.name for line in lines]
    readings = [f"{name} ({u.qualifier})" if u.qualifier else name for name, u in zip(names, units, strict=True)]
    return Table(name=_sheet(report), currencies=[one.currency for one in spend], columns=[
        *_groups(report),
        _total(COST, (one.total for one in spend), blank="unknown", least=least),
        _count(RUNS, [line.runs for line in lines]),
        _count(KNOWN, [line.successes for line in lines]),
        Column(title=ESTIMATED, kind="number", values=[estimated(line) for line in lines]),
        _share(MEASURED, [measured(line) for line in lines]),
        _share(BY_WORD, [by_validator(line) for line in lines]),
        _money(UNIT, [unit.value for unit in units], blanks=_said(lines, units), formula=UNIT_FORMULA),
        _text("reads", [unit.qualifier for unit in units]),
        _money(LOW, [unit.low for unit in units]),
        _money(HIGH, [unit.high for unit in units]),
        _money(THOUSAND, [unit.per_thousand for unit in units], blanks=_said(lines, units, 1000),
               formula=f"=[{UNIT}]*1000",
               least=[unit.qualifier == "at least" for unit in units]),
        *_with_errors(spend),
        _total("wasted on failures", (one.waste for one in spend), least=least),
        _share("escalated", [line.escalation_rate for line in lines]),
        _text("note", [_note(line, one) for line, one in spends(report)], width=42),
        _text("name", names, hidden=True),
        _text(LABEL, readings, hidden=True),
        _money(UP, [_less(u.high, u.value) for u in units], blank="", formula=f"=[{HIGH}]-[{UNIT}]", hidden=True),
        _money(DOWN, [_less(u.value, u.low) for u in units], blank="", formula=f"=[{UNIT}]-[{LOW}]", hidden=True),
    ])


def _said(lines: Sequence[Line], units: Sequence[CostPerSuccess], times: int = 1) -> list[str]:
    """What stands where there is no one figure: the range it lies in, or that it is unknown."""
    return ["-" if apart_only(line) else unit_cost(unit, times) for line, unit in zip(lines, units, strict=True)]


def _note(line: Line, spend: Spend) -> str:
    return f"{apart(line, spend)} {spend.currency} apart" if apart_only(line) else spend.per_success.note


def _sheet(report: Report) -> str:
    """Named after what the lines are grouped by, unless another sheet has the name or a workbook can't have it."""
    if len(report.query.by) == 1 and report.query.by[0] in SHEETS:
        return f"By {shown(report.query.by[0])}"
    return "By group"


def details(report: Report) -> Table:
    """The other figures of each line."""
    lines, spend = _columns(report)
    roles = [role for role in ROLES if any(role in one.by_role for one in spend)]
    return Table(name="Details", currencies=[one.currency for one in spend], columns=[
        *_groups(report),
        *(_total(role.replace("_", " "), (one.by_role.get(role) for one in spend)) for role in roles),
        _total("saved by cache", (one.saved for one in spend)),
        _total("baseline, apart", (one.baseline for one in spend)),
        _total("calibration, apart", (one.calibration for one in spend)),
        _total("unsettled, at most", (one.unsettled_bound for one in spend)),
        *_with_idle(spend),
        _count("known failures", [line.failures for line in lines]),
        _count("unknown, not estimated", [line.not_estimated for line in lines]),
        _count("still maturing", [line.maturing for line in lines]),
        _count("cache hits", [line.cache_hits for line in lines]),
        _count("degraded", [line.degraded for line in lines]),
        _count("calls", [line.calls for line in lines]),
        _count("unpriced calls", [line.unpriced_calls for line in lines]),
        _count("unsettled calls", [line.unsettled_calls for line in lines]),
        _count("in flight", [line.in_flight_calls for line in lines]),
    ])


def _with_errors(spend: Sequence[Spend]) -> list[Column]:
    if not any(one.with_errors for one in spend):
        return []
    units = [one.with_errors.per_success if one.with_errors else None for one in spend]
    return [
        _money(PRICED, [u.value if u else None for u in units],
               blanks=[unit_cost(u) if u else "unknown" for u in units]),
        _money("errors priced, low", [u.low if u else None for u in units]),
        _money("errors priced, high", [u.high if u else None for u in units]),
    ]


def _with_idle(spend: Sequence[Spend]) -> list[Column]:
    bills = [one.whole_bill for one in spend]
    if not any(bills):
        return []
    return [
        _total("cost with idle GPU time", (bill.total if bill else None for bill in bills)),
        _money("per success with idle GPU time", [bill.per_success.value if bill else None for bill in bills],
               blanks=[unit_cost(bill.per_success) if bill else "-" for bill in bills]),
    ]


def notes(report: Report) -> Table:
    """What the tables leave out, in sentences: intervals and their methods, savings measured, restatements."""
    level = f"{report.query.confidence:.0%}"
    said = [words for line in report.lines for words in remarks(line, level)]
    said += [f"{month.words}." for month in report.restatements]
    said += [f"All that was paid: {one.words}." for one in paid(report) if one.apart]
    return Table(name="Notes", columns=[_text("note", said, width=140)])


def _columns(report: Report) -> tuple[list[Line], list[Spend]]:
    """What stands in each row of a table of lines and currencies."""
    pairs = spends(report)
    return [line for line, _ in pairs], [spend for _, spend in pairs]


def _groups(report: Report) -> list[Column]:
    lines, spend = _columns(report)
    return [
        *(_text(_heading(key), [line.group[key] or "(none)" for line in lines]) for key in report.query.by),
        _text("currency", [one.currency for one in spend]),
    ]


def _heading(key: str) -> str:
    """A tag is said to be one: it may have the name of a column, and formulas find columns by their headings."""
    return shown(key) if key in GROUPS else f"tag {key}"


def by_model(breakdown: Breakdown) -> Table:
    sums = breakdown.by_model
    classes = [name for name in TOKEN_CLASSES if any(name in one.tokens for one in sums)]
    kinds = sorted({kind for one in sums for kind in one.provenance})
    return Table(name="By model", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, BY_MODEL), *_spent(sums),
        *(_count(f"{name.replace('_', ' ')} tokens", [one.tokens.get(name, 0) for one in sums]) for name in classes),
        *(_count(f"of them apart, {name.replace('_', ' ')}", [one.apart_tokens.get(name, 0) for one in sums])
          for name in classes if any(name in one.apart_tokens for one in sums)),
        *(_count(f"calls {kind}", [one.provenance.get(kind, 0) for one in sums]) for kind in kinds),
    ])


def by_cost_center(breakdown: Breakdown) -> Table:
    sums = breakdown.by_cost_center
    counts = counted_runs(breakdown.runs, lambda one: (one.cost_center, one.pipeline))
    at = [counts.get((one.group["cost_center"], one.group["pipeline"]), (0, 0)) for one in sums]
    return Table(name="By cost centre", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, BY_COST_CENTER), _count(RUNS, [n for n, _ in at]), _count(KNOWN, [n for _, n in at]),
        *_spent(sums),
    ])


def by_step(breakdown: Breakdown) -> Table:
    sums = breakdown.by_step
    return Table(name="By step", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, BY_STEP), *_spent(sums),
    ])


def daily(breakdown: Breakdown) -> Table:
    """One row a day and currency; a column a role, and their sum as a formula."""
    sums = {(one.currency or "", one.group["day"], one.group["role"]): one for one in breakdown.by_day}
    places = sorted({(code, day) for code, day, _ in sums if code})
    roles = [role for role in ROLES if any(held == role for _, _, held in sums)]
    counts = counted_runs(breakdown.runs, lambda one: one.day.isoformat())
    at = [counts.get(day, (0, 0)) for _, day in places]
    spent = {role: [_cost(sums, code, day, role) for code, day in places] for role in roles}
    open_ = {(one.currency, one.group["day"], one.group["role"]) for one in breakdown.by_day if one.at_least}
    least = {role: [bool(open_ & {(code, day, role), (None, day, role)}) for code, day in places] for role in roles}
    titles = [role.replace("_", " ") for role in roles]
    return Table(name="Daily", currencies=[code for code, _ in places], columns=[
        Column(title="day (UTC)", kind="date", values=[date.fromisoformat(day) for _, day in places], width=12),
        _text("currency", [code for code, _ in places]),
        *(_money(title, spent[role], total=True, least=least[role]) for role, title in zip(roles, titles, strict=True)),
        _money(
            COST, [sum(held, Decimal(0)) for held in zip(*spent.values(), strict=True)] or [Decimal(0)] * len(places),
            total=True, least=[any(held) for held in zip(*least.values(), strict=True)],
            formula=f"=SUM([{titles[0]}]:[{titles[-1]}])" if roles else "",
        ),
        _money("apart", [_apart(sums, code, day) for code, day in places], total=True),
        _count(RUNS, [n for n, _ in at]), _count(KNOWN, [n for _, n in at]),
    ])


def _cost(sums: Mapping[tuple[str, str, str], Sum], code: str, day: str, role: str) -> Decimal:
    found = sums.get((code, day, role))
    return found.cost.amount if found is not None and found.cost is not None else Decimal(0)


def _apart(sums: Mapping[tuple[str, str, str], Sum], code: str, day: str) -> Decimal:
    found = [sums[code, day, role].apart for role in APART if (code, day, role) in sums]
    return sum((one.amount for one in found if one is not None), Decimal(0))


def attention(breakdown: Breakdown) -> Table:
    found = breakdown.attention
    return Table(name="Needs attention", columns=[
        _text("what", [one.kind.replace("_", " ") for one in found]),
        _text("urgent", ["yes" if one.urgent else "" for one in found]),
        _text("where", [one.subject for one in found]),
        _count("count", [one.count for one in found]),
        _text("amount", [" + ".join(map(str, one.amounts)) for one in found]),
        _text("in words", [f"{one.words}." for one in found], width=90),
    ])


def _keys(sums: Sequence[Sum], keys: Sequence[str]) -> list[Column]:
    return [
        *(_text(shown(key), [one.group[key] or "(none)" for one in sums]) for key in keys),
        _text("currency", [one.currency or "" for one in sums]),
    ]


def _spent(sums: Sequence[Sum]) -> list[Column]:
    return [
        _count("calls", [one.calls for one in sums]), *_apart_calls(sums),
        _total(COST, (one.cost for one in sums), blank="unknown", least=[one.at_least for one in sums]),
        _total("apart", (one.apart for one in sums)),
        _total("allocated", (one.allocated for one in sums)),
        _count("unpriced calls", [one.unpriced for one in sums]),
        _count("unsettled calls", [one.unsettled for one in sums]),
        _total("unsettled, at most", (one.bound for one in sums)),
    ]


def _apart_calls(sums: Sequence[Sum]) -> list[Column]:
    """How many of the calls are baseline's or calibrations', where any are: the cost beside them is not of these."""
    calls = [one.apart_calls for one in sums]
    return [_count("of them apart", calls)] if any(calls) else []


# -- columns -----------------------------------------------------------------------------------------------------------


def _text(title: str, values: Sequence[str], **more: Any) -> Column:
    return Column(title=title, kind="text", values=values, **more)


def _count(title: str, values: Sequence[int]) -> Column:
    return Column(title=title, kind="count", values=values)


def _share(title: str, values: Sequence[float | None]) -> Column:
    return Column(title=title, kind="share", values=values, blank="-")


def _money(title: str, values: Sequence[Decimal | None], *, blank: str = "-", **more: Any) -> Column:
    return Column(title=title, kind="money", values=values, blank=blank, **more)


def _total(title: str, values: Iterable[Money | None], **more: Any) -> Column:
    """Money that the sheet sums up."""
    return _money(title, [None if value is None else value.amount for value in values], total=True, **more)


def _less(a: Decimal | None, b: Decimal | None) -> Decimal | None:
    return None if a is None or b is None else a - b
