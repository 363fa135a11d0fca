"""The savings against the measured baseline, and the price of wrong answers, as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from orchestrator.finance.phrases import amount, counted, interval, share, unit_cost
from orchestrator.finance.records import ErrorPriced, Judged, Line, Savings, Side

METHODS = {
    "student": "paired t", "bounded": "bounded by what was reserved, wide: few pairs or skewed differences",
}


def paired_remarks(line: Line, level: str) -> Iterator[str]:
    """One sentence a finding. Of a line without a measured baseline, nothing: nothing is saved against a guess."""
    name = line.name
    for spend in line.spend:
        if spend.with_errors is not None:
            yield f"{name}: {_with_errors(spend.with_errors)}"
    for one in line.savings:
        yield f"{name}: {_costs(one, level)}"
        if one.judged is not None:
            yield f"{name}: {_rates(one.judged, level)}"
            yield f"{name}: {_unit_costs(one.judged, one.currency)}"
        elif one.note:
            yield f"{name}: {one.note}."


def _costs(found: Savings, level: str) -> str:
    per = Decimal(found.pairs)
    left = f" ({found.left_out:,} more of unknown cost)" if found.left_out else ""
    between = (
        f"{level} interval {amount(found.low)} to {amount(found.high)}, {METHODS[found.method]}"
        if found.method is not None else "no interval: too few pairs, and no bounds of their costs"
    )
    of = "" if found.share is None else f", {share(abs(float(found.share)))} of it"
    than = "less" if found.per_run >= 0 else "more"
    return (
        f"on {counted(found.pairs, 'task')} that the validator also answered alone{left}, the validator cost "
        f"{amount(found.baseline.amount / per)} {found.currency} each and this pipeline "
        f"{amount(found.cascade.amount / per)}: {amount(abs(found.per_run))} {than}{of} (saved: {between})."
    )


def _rates(found: Judged, level: str) -> str:
    by = ", ".join(f"{n:,} by {judge}" for judge, n in found.by.items())
    unknown = f" ({found.baseline.unknown:,} more unknown)" if found.baseline.unknown else ""
    chosen = "" if "feedback" not in found.by else (
        "; feedback comes from whoever gives it: these pairs are no random sample"
    )
    return (
        f"of {counted(found.pairs, 'pair')} judged ({by}), right were {found.cascade.successes:,} here and "
        f"{found.baseline.successes:,}{unknown} of the validator alone: a difference of {_points(found.low)} to "
        f"{_points(found.high)} points ({level} interval, exact limits, squared and added){chosen}."
    )


def _unit_costs(found: Judged, code: str) -> str:
    here, alone = (_unit(side, code) for side in (found.cascade, found.baseline))
    return f"on the judged pairs a success cost {here} here and {alone} by the validator alone."


def _unit(side: Side, code: str) -> str:
    unit = side.per_success
    plain = unit.note if unit.value is None else f"{unit_cost(unit)} {code}"
    if side.with_errors is None or side.with_errors.per_success.value is None:
        return plain
    return f"{plain} ({unit_cost(side.with_errors.per_success)} with its errors priced)"


def _with_errors(found: ErrorPriced) -> str:
    code, unit = found.price.currency, found.per_success
    expected = f" + {found.expected:,.1f} expected" if found.expected else ""
    unknown = f", and {found.unknown:,} of unknown success taken for wrong" if found.unknown else ""
    errors = f"{found.known:,} known{expected}{unknown}"
    if unit.value is None:
        return f"with each wrong answer at {amount(found.price.amount)} {code} ({errors}): {unit.note}."
    between = f" ({interval(unit)} in the long run)" if unit.low is not None else ""
    return (
        f"with each wrong answer at {amount(found.price.amount)} {code} ({errors}), a success costs "
        f"{unit_cost(unit)} {code}{between}."
    )


def _points(value: float) -> str:
    return f"{value * 100:+.1f}"
