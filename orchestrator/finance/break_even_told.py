"""Break-even from what a period's calls were: its rented GPUs beside the models that validated their drafts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from orchestrator.config.price_types import instant
from orchestrator.config.prices import PriceEntry
from orchestrator.finance.break_even import BreakEven, break_even, mean_of
from orchestrator.finance.breakdown import Charge, Idle
from orchestrator.records import TOKEN_CLASSES
from orchestrator.store.allocations import bill_of_hour, work

VALIDATING = ("judge", "repair", "redo", "spot_check", "baseline")


@dataclass(frozen=True, slots=True)
class Beside:
    """A rented GPU beside one model priced per token, for calls like those of the period in the mean. `calls` were made
    in the `hours` of its bill that have closed; None: none has."""

    found: BreakEven
    calls: int
    hours: Fraction | None

    @property
    def calls_per_hour(self) -> Fraction | None:
        return None if self.hours is None else self.calls / self.hours


def break_evens(
    charges: Sequence[Charge], idle: Sequence[Idle], prices: Mapping[str, Mapping[str, Any]]
) -> list[Beside]:
    """`prices` are the bodies of the prices that the charges name, by version. What a call would cost is said at each
    model's latest price."""
    entries = {version: PriceEntry.model_validate(body) for version, body in prices.items()}
    found = []
    for name, local in sorted(_latest(one for one in entries.values() if one.gpu_hour is not None).items()):
        own = [one for one in charges if _is_of(one, entries, name)]
        usage = mean_of(own)
        if usage is None or work(local, {name: getattr(usage, name) for name in TOKEN_CLASSES}) <= 0:
            continue
        calls, hours = _billed(own, [one for one in idle if one.model == name], entries)
        for _, api in sorted(_latest(_apis(charges, own, entries)).items()):
            if api.currency == local.currency and api.covers(usage):
                found.append(Beside(break_even(local, api, usage), calls, hours))
    return found


def _billed(
    own: Iterable[Charge], idle: Iterable[Idle], entries: Mapping[str, PriceEntry]
) -> tuple[int, Fraction | None]:
    """The calls of closed hours and the hours that were billed, each bill at the price that it is of. What stands at
    no price tells of no hours, and its calls count for none."""
    calls, hours = 0, Fraction(0)
    for charge in own:
        an_hour = bill_of_hour(entries[charge.price_version or ""])
        if an_hour and charge.allocated is not None and not charge.pending:
            calls += charge.calls - charge.late
            hours += Fraction(charge.allocated.nano, an_hour)
    for one in idle:
        if an_hour := bill_of_hour(entries[one.price_version]):
            hours += Fraction(one.cost.nano, an_hour)
    return calls, hours or None


def _is_of(one: Charge, entries: Mapping[str, PriceEntry], name: str) -> bool:
    entry = entries.get(one.price_version or "")
    return entry is not None and entry.gpu_hour is not None and entry.model == name


def _apis(
    charges: Iterable[Charge], own: Iterable[Charge], entries: Mapping[str, PriceEntry]
) -> Iterable[PriceEntry]:
    """Priced per token, of validators in the pipelines that used the GPU."""
    pipelines = {one.pipeline for one in own}
    versions = {one.price_version for one in charges if one.pipeline in pipelines and one.role in VALIDATING}
    return (one for version, one in entries.items() if version in versions and one.gpu_hour is None)


def _latest(entries: Iterable[PriceEntry]) -> dict[str, PriceEntry]:
    latest: dict[str, PriceEntry] = {}
    for one in sorted(entries, key=lambda one: instant(one.valid_from)):
        latest[one.model] = one
    return latest
