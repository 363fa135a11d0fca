"""Two drawings as SVG, laid out in numbers: the template draws them, and nothing is scripted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from orchestrator.finance.breakdown import Breakdown
from orchestrator.finance.export.figures import ROLES, spends
from orchestrator.finance.records import Report

WIDTH, HEIGHT, LEFT, BELOW = 900.0, 220.0, 90.0, 34.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A rectangle, what it is of, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    of: str
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyChart:
    """Cost a day, stacked by role. `days` are the labels below, not of every day where they are many. `at_least`: the
    cost of some calls is unknown, and not drawn."""

    currency: str
    words: str
    blocks: tuple[Block, ...]
    ticks: tuple[Tick, ...]
    days: tuple[Tick, ...]
    roles: tuple[str, ...]
    at_least: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Cost per success of one line: the bar's length, the interval's ends (None: there is none), and how the figure
    reads: "at least" is drawn open, since the bar ends where its cost does not."""

    name: str
    y: float
    length: float
    low: float | None
    high: float | None
    value: Decimal
    reads: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChart:
    currency: str
    height: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]


def daily_charts(breakdown: Breakdown) -> list[DailyChart]:
    """One a currency. A day without calls is a gap."""
    charts = []
    for code in sorted({one.currency for one in breakdown.by_day if one.currency}):
        costs: dict[str, dict[str, Decimal]] = {}
        for one in breakdown.by_day:
            if one.currency == code and one.cost is not None and one.group["role"] in ROLES:
                costs.setdefault(one.group["day"], {})[one.group["role"]] = one.cost.amount
        if costs:
            more = any(one.at_least for one in breakdown.by_day if one.currency in (code, None))
            charts.append(_daily(code, costs, more))
    return charts


def _daily(code: str, costs: Mapping[str, Mapping[str, Decimal]], more: bool) -> DailyChart:
    from datetime import date

    days = sorted(costs)
    first = date.fromisoformat(days[0]).toordinal()
    slots = date.fromisoformat(days[-1]).toordinal() - first + 1
    step, top = min((WIDTH - LEFT) / slots, 60.0), max(sum(held.values(), Decimal(0)) for held in costs.values())
    scale = Scale.to(top)
    blocks, labels = [], []
    every = max(1, -(-slots // 10))
    for day in days:
        at = date.fromisoformat(day).toordinal() - first
        x, y = LEFT + at * step + step * 0.15, HEIGHT - BELOW
        for role in ROLES:
            if cost := costs[day].get(role):
                height = (HEIGHT - BELOW - 8) * scale.part(cost)
                y -= height
                says = f"{day}, {role.replace('_', ' ')}: {cost.normalize():f} {code}"
                blocks.append(Block(x=x, y=y, width=step * 0.7, height=height, of=role, says=says))
        if at % every == 0:
            labels.append(Tick(at=x + step * 0.35, label=f"{date.fromisoformat(day):%-d %b}"))
    ticks = [Tick(at=HEIGHT - BELOW - (HEIGHT - BELOW - 8) * scale.part(v), label=f"{v:f}") for v in scale.marks]
    most = max(days, key=lambda day: sum(costs[day].values(), Decimal(0)))
    words = f"{len(days)} days with calls; the dearest was {most}: {sum(costs[most].values(), Decimal(0)):f} {code}."
    used = tuple(role for role in ROLES if any(role in held for held in costs.values()))
    return DailyChart(currency=code, words=words, blocks=tuple(blocks), ticks=tuple(ticks), days=tuple(labels),
                      roles=used, at_least=more)


def unit_charts(report: Report) -> list[UnitChart]:
    """Where several lines of a currency have a figure, so that there is something to compare."""
    charts = []
    for code in sorted({spend.currency for _, spend in spends(report)}):
        held = [(line.name, spend.per_success) for line, spend in spends(report) if spend.currency == code]
        known = [(name, unit) for name, unit in held if unit.value is not None]
        if len(known) < 2:
            continue
        scale = Scale.to(max(unit.high or unit.value or Decimal(0) for _, unit in known))
        left, room = 180.0, WIDTH - 180.0 - 40.0
        bars = tuple(
            Bar(name=name, y=16.0 + 34.0 * i, length=room * scale.part(unit.value or Decimal(0)),
                low=None if unit.low is None else left + room * scale.part(unit.low),
                high=None if unit.high is None else left + room * scale.part(unit.high), value=unit.value or Decimal(0),
                reads=unit.qualifier)
            for i, (name, unit) in enumerate(known)
        )
        ticks = tuple(Tick(at=left + room * scale.part(v), label=f"{v:f}") for v in scale.marks)
        charts.append(UnitChart(currency=code, height=34.0 * len(bars) + 40.0, bars=bars, ticks=ticks))
    return charts


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from 0 to a round number, with round marks."""

    top: Decimal
    marks: Sequence[Decimal]

    @classmethod
    def to(cls, most: Decimal) -> Scale:
        if not most:
            return cls(Decimal(1), (Decimal(0), Decimal(1)))
        unit = Decimal(1).scaleb(most.adjusted())
        step = next(s for s in (unit / 4, unit / 2, unit, unit * 2, unit * 5) if s * 5 >= most)
        count = (most / step).to_integral_value(ROUND_CEILING)
        return cls(step * count, tuple((step * i).normalize() + 0 for i in range(int(count) + 1)))

    def part(self, value: Decimal) -> float:
        return float(value / self.top)
