"""From which volume on a rented GPU costs less than an API: its bill is by the hour, the API's by the token."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from orchestrator.config.prices import PriceEntry
from orchestrator.errors import InputError
from orchestrator.finance.breakdown import Charge
from orchestrator.records import TOKEN_CLASSES, Money, Usage
from orchestrator.store.allocations import bill_of_hour, work

HOURS_A_MONTH = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Of one local model against one API model, for calls of a given `usage`. `calls_per_hour` cost as much there as
    the GPU's hour does; `capacity_per_hour` is what the GPU can do. `bill` is of an hour, `api_call` of a call.

    `reachable` False: the API is cheaper even beside a GPU that never idles. `calls_per_hour` None: the API is free.
    """

    local: str
    api: str
    usage: Usage
    bill: Money
    api_call: Money
    calls_per_hour: Fraction | None
    capacity_per_hour: Fraction

    @property
    def calls_per_month(self) -> Fraction | None:
        return None if self.calls_per_hour is None else self.calls_per_hour * HOURS_A_MONTH

    @property
    def reachable(self) -> bool:
        return self.calls_per_hour is not None and self.calls_per_hour < self.capacity_per_hour


def break_even(local: PriceEntry, api: PriceEntry, usage: Usage) -> BreakEven:
    """Raises InputError where `local` has no GPU hour, `api` none per token, or the two are of two currencies."""
    if local.gpu_hour is None or api.gpu_hour is not None:
        raise InputError(f"{local.model!r} must be priced by `gpu_hour:`, and {api.model!r} per token")
    if local.currency != api.currency:
        raise InputError(f"{local.model!r} is priced in {local.currency}, {api.model!r} in {api.currency}",
                         hint="break-even is said in one currency")
    of_call = work(local, {name: getattr(usage, name) for name in TOKEN_CLASSES})
    if of_call <= 0:
        raise InputError(f"a call of {usage} is no work", hint="say how many tokens a call reads and writes")
    bill, cost = bill_of_hour(local), api.cost(usage)
    return BreakEven(
        local=local.model, api=api.model, usage=usage, bill=Money(nano=bill, currency=local.currency), api_call=cost,
        calls_per_hour=Fraction(bill, cost.nano) if cost.nano else None,
        capacity_per_hour=Fraction(local.gpu_hour.tokens_per_s) * 3600 / of_call,
    )


def mean_usage(charges: Iterable[Charge], model: str) -> Usage | None:
    """What a call of `model` used in the mean, rounded to whole tokens; None where it made none."""
    return mean_of(one for one in charges if one.model == model)


def mean_of(charges: Iterable[Charge]) -> Usage | None:
    """The same of all the calls in some charges."""
    own = [one for one in charges if one.state == "settled"]
    calls = sum(one.calls for one in own)
    if not calls:
        return None
    means: dict[str, Any] = {name: round(sum(one.tokens.get(name, 0) for one in own) / calls) for name in TOKEN_CLASSES}
    return Usage(**means)
