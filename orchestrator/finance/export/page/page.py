"""What the page says, handed to its template. Everything that came from outside is escaped."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.finance.attention import OF_GPUS, OF_RUNS, PERIOD
from orchestrator.finance.breakdown import Breakdown, counted_runs
from orchestrator.finance.bridge import paid
from orchestrator.finance.cost import CostPerSuccess
from orchestrator.finance.export.figures import (
    MEANINGS,
    SYMBOLS,
    by_validator,
    estimated,
    maturing,
    measured,
    shown,
    spell,
    spends,
)
from orchestrator.finance.export.page.charts import daily_charts, unit_charts
from orchestrator.finance.phrases import amount, ends, share, unit_cost
from orchestrator.finance.plain import plain_decimal
from orchestrator.finance.records import Report, Spend
from orchestrator.finance.words import (
    SOURCE_WORDS,
    apart,
    apart_only,
    definition,
    incomplete,
    incomplete_in,
    remarks,
    success_rate,
    successes,
)
from orchestrator.records import Money

SMALL = Decimal("0.01")
"""Below this, a thousand successes are the figure that can be read."""
CARDS = 6
"""Lines shown with a card of their own; more are in the table alone."""
ALSO = PERIOD | OF_GPUS | OF_RUNS | {"estimated", "in_flight"}
"""Findings that are told at the end."""


def render_page(report: Report, breakdown: Breakdown) -> bytes:
    """A page of HTML in UTF-8."""
    pairs = spends(report)
    urgent = [one for one in breakdown.attention if one.urgent]
    level = f"{report.query.confidence:.0%}"
    cards = [(line, spend) for line, spend in pairs if not apart_only(line)]
    text: str = _template().render(
        report=report, period=spell(report.query.period), breakdown=breakdown, pairs=pairs,
        cards=cards if len(cards) <= CARDS else [], level=level, urgent=urgent,
        notes=[one for one in breakdown.attention if one.kind in ALSO],
        paid=[one for one in paid(report) if one.apart],
        made=datetime.fromtimestamp(report.created_at, UTC), daily=daily_charts(breakdown),
        open_codes={spend.currency for line, spend in pairs if incomplete_in(line, spend)},
        with_errors=any(spend.with_errors for _, spend in pairs), maturing=maturing(report),
        units=unit_charts(report), days=_days(breakdown), meanings=MEANINGS,
        definitions=[definition(one) for one in report.definitions],
        remarks=[
            *(words for line in report.lines for words in remarks(line, level)),
            *(f"{month.words}." for month in report.restatements),
        ],
    )
    return text.encode()


def _days(breakdown: Breakdown) -> list[tuple[Any, ...]]:
    """Day, currency, cost, whether there is more to it, runs, known successes."""
    costs: dict[tuple[str, str], int] = {}
    more = {(one.group["day"], one.currency) for one in breakdown.by_day if one.at_least}
    for one in breakdown.by_day:
        if one.currency and one.cost is not None:
            place = one.group["day"], one.currency
            costs[place] = costs.get(place, 0) + one.cost.nano
    counts = counted_runs(breakdown.runs, lambda one: one.day.isoformat())
    return [
        (day, code, Money(nano=nano, currency=code), not more.isdisjoint({(day, code), (day, None)}),
         *counts.get(day, (0, 0)))
        for (day, code), nano in sorted(costs.items())
    ]


def _money(value: Money | Decimal | None, code: str | None = None) -> str:
    """Rounded for the eye, with its currency; exact figures stand in the other formats."""
    if value is None:
        return "unknown"
    if isinstance(value, Money):
        return _money(value.amount, value.currency)
    return _signed(amount(value), code)


def _unit(cost: CostPerSuccess, code: str, times: int = 1) -> str:
    return unit_cost(cost, times, lambda said: _signed(said, code))


def _small(cost: CostPerSuccess) -> bool:
    shown = cost.value if cost.value is not None else cost.own_high if cost.own_high is not None else cost.own_low
    return shown is not None and shown < SMALL


def _figure(cost: CostPerSuccess, code: str, times: int) -> Any:
    """The unit cost in large type, the words in it small."""
    from markupsafe import Markup, escape

    said = str(escape(_unit(cost, code, times)))
    for word in ("at least ", "at most "):
        said = said.replace(word, f"<small>{word.strip()}</small> ")
    return Markup(said.replace(" to ", " <small>to</small> "))


def _exactly(cost: CostPerSuccess, code: str, times: int = 1) -> str:
    """Not rounded, for whoever points at it."""
    ends_ = [cost.value] if cost.value is not None else [cost.own_low, cost.own_high]
    return " to ".join(_exact(one * times, code) for one in ends_ if one is not None)


def _ends(spend: Spend) -> tuple[str, str]:
    """The long-run interval, where there is one."""
    low, high = spend.per_success.low, spend.per_success.high
    assert low is not None
    assert high is not None
    from_, to = ends(low, high)
    return _signed(from_, spend.currency), _signed(to, spend.currency)


def _breakable(name: str) -> Any:
    """A name that may go on in the next line after each of its parts, and nowhere else while there is room."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_./:-])", name))


def _signed(said: str, code: str | None) -> str:
    return f"{SYMBOLS[code]}{said}" if code in SYMBOLS else f"{said} {code}"


def _exact(value: Money | Decimal | None, code: str | None = None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, Money) else f"{plain_decimal(value)} {code or ''}".strip()


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "money": _money, "exact": _exact, "ends": _ends, "share": share, "shown": shown,
        "breakable": _breakable, "unit": _unit, "figure": _figure, "exactly": _exactly,
    }
    environment.tests["small"] = _small
    environment.tests["apart_only"] = apart_only
    environment.tests["incomplete"] = incomplete
    environment.globals |= {
        "measured": measured, "estimated": estimated, "success_rate": success_rate, "successes": successes,
        "SOURCE_WORDS": SOURCE_WORDS, "by_validator": by_validator, "incomplete_in": incomplete_in, "apart": apart,
    }
    return environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
