"""The tables of the workbook, before anything is written: columns and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from orchestrator.finance.breakdown import Breakdown, Sum
from orchestrator.finance.configured import APART
from orchestrator.finance.export.figures import ROLES, by_validator, estimated, line_name, measured, shown, spends
from orchestrator.finance.export.figures import SHOWN as GROUPS
from orchestrator.finance.export.workbook.sheet import Column, Table
from orchestrator.finance.records import Report, Spend
from orchestrator.finance.words import incomplete_in, remarks
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
    pairs = spends(report)
    lines, spend = [line for line, _ in pairs], [one for _, one in pairs]
    units = [one.per_success for one in spend]
    least = [incomplete_in(line, one) for line, one in pairs]
    unit_least = [unit.qualifier == "at least" for unit in units]
    return Table(name=_sheet(report), currencies=[one.currency for one in spend], columns=[
        *_groups(report),
        Column(title=COST, kind="money", values=_amounts(one.total for one in spend), total=True, least=least),
        Column(title=RUNS, kind="count", values=[line.runs for line in lines]),
        Column(title=KNOWN, kind="count", values=[line.successes for line in lines]),
        Column(title=ESTIMATED, kind="number", values=[estimated(line) for line in lines]),
        Column(title=MEASURED, kind="share", values=[measured(line) for line in lines], blank="-"),
        Column(title=BY_WORD, kind="share", values=[by_validator(line) for line in lines], blank="-"),
        Column(title=UNIT, kind="money", values=[unit.value for unit in units], formula=UNIT_FORMULA),
        Column(title="reads", kind="text", values=[unit.qualifier for unit in units]),
        Column(title=LOW, kind="money", values=[unit.low for unit in units], blank="-"),
        Column(title=HIGH, kind="money", values=[unit.high for unit in units], blank="-"),
        Column(title=THOUSAND, kind="money", values=[unit.per_thousand for unit in units], formula=f"=[{UNIT}]*1000",
               least=unit_least),
        *_with_errors(spend),
        Column(title="wasted on failures", kind="money", values=_amounts(one.waste for one in spend), total=True,
               least=least),
        Column(title="escalated", kind="share", values=[line.escalation_rate for line in lines], blank="-"),
        Column(title="note", kind="text", values=[unit.note for unit in units], width=42),
        Column(title="name", kind="text", values=[line_name(line) for line in lines], hidden=True),
        Column(title=LABEL, kind="text", hidden=True,
               values=[f"{line_name(line)} ({unit.qualifier})" if unit.qualifier else line_name(line)
                       for line, unit in zip(lines, units, strict=True)]),
        Column(title=UP, kind="money", values=[_less(unit.high, unit.value) for unit in units],
               formula=f"=[{HIGH}]-[{UNIT}]", hidden=True, blank=""),
        Column(title=DOWN, kind="money", values=[_less(unit.value, unit.low) for unit in units],
               formula=f"=[{UNIT}]-[{LOW}]", hidden=True, blank=""),
    ])


def _sheet(report: Report) -> str:
    """Named after what the lines are grouped by, unless another sheet has the name or a workbook can't have it."""
    if len(report.query.by) == 1 and report.query.by[0] in SHEETS:
        return f"By {shown(report.query.by[0])}"
    return "By group"


def details(report: Report) -> Table:
    """The other figures of each line."""
    pairs = spends(report)
    lines, spend = [line for line, _ in pairs], [one for _, one in pairs]
    roles = [role for role in ROLES if any(role in one.by_role for one in spend)]

    def money(title: str, values: Iterable[Money | None]) -> Column:
        return Column(title=title, kind="money", values=_amounts(values), total=True, blank="-")

    return Table(name="Details", currencies=[one.currency for one in spend], columns=[
        *_groups(report),
        *(money(role.replace("_", " "), (one.by_role.get(role) for one in spend)) for role in roles),
        money("saved by cache", (one.saved for one in spend)),
        money("baseline, apart", (one.baseline for one in spend)),
        money("calibration, apart", (one.calibration for one in spend)),
        money("unsettled, at most", (one.unsettled_bound for one in spend)),
        *_with_idle(spend),
        Column(title="known failures", kind="count", values=[line.failures for line in lines]),
        Column(title="unknown, not estimated", kind="count", values=[line.not_estimated for line in lines]),
        Column(title="still maturing", kind="count", values=[line.maturing for line in lines]),
        Column(title="cache hits", kind="count", values=[line.cache_hits for line in lines]),
        Column(title="degraded", kind="count", values=[line.degraded for line in lines]),
        Column(title="calls", kind="count", values=[line.calls for line in lines]),
        Column(title="unpriced calls", kind="count", values=[line.unpriced_calls for line in lines]),
        Column(title="unsettled calls", kind="count", values=[line.unsettled_calls for line in lines]),
        Column(title="in flight", kind="count", values=[line.in_flight_calls for line in lines]),
    ])


def _with_errors(spend: Sequence[Spend]) -> list[Column]:
    if not any(one.with_errors for one in spend):
        return []
    units = [one.with_errors.per_success if one.with_errors else None for one in spend]
    return [
        Column(title=PRICED, kind="money", values=[u.value if u else None for u in units]),
        Column(title="errors priced, low", kind="money", values=[u.low if u else None for u in units], blank="-"),
        Column(title="errors priced, high", kind="money", values=[u.high if u else None for u in units], blank="-"),
    ]


def _with_idle(spend: Sequence[Spend]) -> list[Column]:
    if not any(one.whole_bill for one in spend):
        return []
    bills = [one.whole_bill for one in spend]
    return [
        Column(title="cost with idle GPU time", kind="money", values=_amounts(b.total if b else None for b in bills),
               total=True, blank="-"),
        Column(title="per success with idle GPU time", kind="money",
               values=[b.per_success.value if b else None for b in bills], blank="-"),
    ]


def notes(report: Report) -> Table:
    """What the tables leave out, in sentences: intervals and their methods, savings measured, restatements."""
    level = f"{report.query.confidence:.0%}"
    said = [words for line in report.lines for words in remarks(line, line_name(line), level)]
    said += [f"{month.words}." for month in report.restatements]
    return Table(name="Notes", columns=[Column(title="note", kind="text", values=said, width=140)])


def _groups(report: Report) -> list[Column]:
    pairs = spends(report)
    return [
        *(Column(title=_heading(key), kind="text", values=[line.group[key] or "(none)" for line, _ in pairs])
          for key in report.query.by),
        Column(title="currency", kind="text", values=[one.currency for _, one in pairs]),
    ]


def _heading(key: str) -> str:
    """A tag is said to be one: it may have the name of a column, and formulas find columns by their headings."""
    return shown(key) if key in GROUPS else f"tag {key}"


def by_model(breakdown: Breakdown) -> Table:
    sums = breakdown.by_model
    classes = [name for name in TOKEN_CLASSES if any(name in one.tokens for one in sums)]
    kinds = sorted({kind for one in sums for kind in one.provenance})
    return Table(name="By model", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, ("model", "provider")), *_spent(sums),
        *(Column(title=f"{name.replace('_', ' ')} tokens", kind="count",
                 values=[one.tokens.get(name, 0) for one in sums]) for name in classes),
        *(Column(title=f"calls {kind}", kind="count", values=[one.provenance.get(kind, 0) for one in sums])
          for kind in kinds),
    ])


def by_cost_center(breakdown: Breakdown) -> Table:
    sums = breakdown.by_cost_center
    counted = {(sums_.group["cost_center"], sums_.group["pipeline"]): [0, 0] for sums_ in sums}
    for one in breakdown.runs:
        held = counted.setdefault((one.cost_center, one.pipeline), [0, 0])
        held[0], held[1] = held[0] + one.runs, held[1] + one.successes
    at = [counted[s.group["cost_center"], s.group["pipeline"]] for s in sums]
    return Table(name="By cost centre", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, ("cost_center", "pipeline")),
        *_spent(sums, Column(title=RUNS, kind="count", values=[n for n, _ in at]),
                Column(title=KNOWN, kind="count", values=[n for _, n in at])),
    ])


def by_step(breakdown: Breakdown) -> Table:
    sums = breakdown.by_step
    return Table(name="By step", currencies=[one.currency for one in sums], columns=[
        *_keys(sums, ("pipeline", "step", "role")), *_spent(sums),
    ])


def daily(breakdown: Breakdown) -> Table:
    """One row a day and currency; a column a role, and their sum as a formula."""
    sums = {(one.currency or "", one.group["day"], one.group["role"]): one for one in breakdown.by_day}
    places = sorted({(code, day) for code, day, _ in sums if code})
    roles = [role for role in ROLES if any(held == role for _, _, held in sums)]
    counts: dict[str, list[int]] = {}
    for run in breakdown.runs:
        held = counts.setdefault(run.day.isoformat(), [0, 0])
        held[0], held[1] = held[0] + run.runs, held[1] + run.successes
    spent = {role: [_cost(sums, code, day, role) for code, day in places] for role in roles}
    open_ = {(one.currency, one.group["day"], one.group["role"]) for one in breakdown.by_day if one.at_least}
    least = {role: [bool(open_ & {(code, day, role), (None, day, role)}) for code, day in places] for role in roles}
    titles = [role.replace("_", " ") for role in roles]
    return Table(name="Daily", currencies=[code for code, _ in places], columns=[
        Column(title="day (UTC)", kind="date", values=[date.fromisoformat(day) for _, day in places], width=12),
        Column(title="currency", kind="text", values=[code for code, _ in places]),
        *(Column(title=title, kind="money", values=spent[role], total=True, least=least[role])
          for role, title in zip(roles, titles, strict=True)),
        Column(title=COST, kind="money", values=[sum(held, Decimal(0)) for held in zip(*spent.values(), strict=True)]
               if roles else [Decimal(0)] * len(places), total=True,
               least=[any(held) for held in zip(*least.values(), strict=True)] if roles else (),
               formula=f"=SUM([{titles[0]}]:[{titles[-1]}])" if roles else ""),
        Column(title="apart", kind="money", values=[_apart(sums, code, day) for code, day in places], total=True),
        Column(title=RUNS, kind="count", values=[counts.get(day, [0, 0])[0] for _, day in places]),
        Column(title=KNOWN, kind="count", values=[counts.get(day, [0, 0])[1] for _, day in places]),
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
        Column(title="what", kind="text", values=[one.kind.replace("_", " ") for one in found]),
        Column(title="urgent", kind="text", values=["yes" if one.urgent else "" for one in found]),
        Column(title="where", kind="text", values=[one.subject for one in found]),
        Column(title="count", kind="count", values=[one.count for one in found]),
        Column(title="amount", kind="text", values=[" + ".join(map(str, one.amounts)) for one in found]),
        Column(title="in words", kind="text", values=[f"{one.words}." for one in found], width=90),
    ])


def _keys(sums: Sequence[Sum], keys: Sequence[str]) -> list[Column]:
    return [
        *(Column(title=shown(key), kind="text", values=[one.group[key] or "(none)" for one in sums]) for key in keys),
        Column(title="currency", kind="text", values=[one.currency or "" for one in sums]),
    ]


def _spent(sums: Sequence[Sum], *more: Column) -> list[Column]:
    return [
        *more,
        Column(title="calls", kind="count", values=[one.calls for one in sums]),
        Column(title=COST, kind="money", values=_amounts(one.cost for one in sums), total=True,
               least=[one.at_least for one in sums]),
        Column(title="apart", kind="money", values=_amounts(one.apart for one in sums), total=True, blank="-"),
        Column(title="allocated", kind="money", values=_amounts(one.allocated for one in sums), total=True, blank="-"),
        Column(title="unpriced calls", kind="count", values=[one.unpriced for one in sums]),
        Column(title="unsettled calls", kind="count", values=[one.unsettled for one in sums]),
        Column(title="unsettled, at most", kind="money", values=_amounts(one.bound for one in sums), total=True,
               blank="-"),
    ]


def _amounts(values: Iterable[Money | None]) -> list[Decimal | None]:
    return [None if value is None else value.amount for value in values]


def _less(a: Decimal | None, b: Decimal | None) -> Decimal | None:
    return None if a is None or b is None else a - b
