"""All that was paid, as the report parts it: what cost per success is made of, and what stands apart from it.

A provider bills both, and so do `--reprice` and `--invoice` count both: one line says how their sum comes about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from orchestrator.finance.configured import APART, BASELINE, CALIBRATION
from orchestrator.finance.phrases import adding_up, at_least
from orchestrator.finance.records import Report
from orchestrator.finance.words import incomplete_in
from orchestrator.records import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What was paid in one currency. `pipeline` is the report's total, `baseline` and `calibration` stand apart from
    it, `whole` is the sum of all three. `incomplete`: the cost of some calls is unknown, and in none of them."""

    pipeline: Money
    baseline: Money | None = None
    calibration: Money | None = None
    whole: Money
    incomplete: bool = False

    @property
    def apart(self) -> bool:
        """Is there anything apart, so that the report's total is not all that was paid."""
        return self.baseline is not None or self.calibration is not None

    @property
    def words(self) -> str:
        """Like: 1.4423 pipeline + 0.5286 apart (calibration) = 1.9709 USD. What is shown adds up."""
        named = {"pipeline": self.pipeline, "apart (baseline)": self.baseline, "apart (calibration)": self.calibration}
        known = {name: money.amount for name, money in named.items() if money is not None}
        shown, whole = adding_up(list(known.values()))
        sum_of = " + ".join(f"{said} {name}" for said, name in zip(shown, known, strict=True))
        return f"{sum_of} = {at_least(self.incomplete, whole)} {self.whole.currency}"


def bridges(costs: Iterable[tuple[str, Money]]) -> tuple[Bridge, ...]:
    """One a currency, from (role, cost) of calls."""
    found: dict[str, Bridge] = {}
    for role, money in costs:
        nothing = Money(nano=0, currency=money.currency)
        one = found.get(money.currency, Bridge(pipeline=nothing, whole=nothing))
        part = role if role in APART else "pipeline"
        before: Money | None = getattr(one, part)
        more = {part: _plus(before, money), "whole": _plus(one.whole, money)}
        found[money.currency] = replace(one, **more)  # type: ignore[arg-type]
    return tuple(one for _, one in sorted(found.items()))


def _plus(one: Money | None, other: Money) -> Money:
    return other if one is None else replace(one, nano=one.nano + other.nano)


def paid(report: Report) -> tuple[Bridge, ...]:
    """That of the report's period, from its lines: also of a month that was closed before this was said."""
    roles = {"": "total", BASELINE: "baseline", CALIBRATION: "calibration"}
    found = bridges(
        (role, money) for line in report.lines for spend in line.spend for role, name in roles.items()
        if (money := getattr(spend, name)) is not None
    )
    open_codes = {
        spend.currency for line in report.lines for spend in line.spend
        if incomplete_in(line, spend) or line.apart_unknown_calls
    }
    return tuple(replace(one, incomplete=one.whole.currency in open_codes) for one in found)


def bridged(amounts: Iterable[tuple[str, Decimal]], currency: str) -> Bridge | None:
    """The one of (role, cost) in units of one currency, whole billionths; None where there are none."""
    nano = ((role, Money(nano=int(amount.scaleb(9)), currency=currency)) for role, amount in amounts)
    return next(iter(bridges(nano)), None)
