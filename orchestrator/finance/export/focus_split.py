"""A charge's money among its token classes: what each class cost, and its share of what was billed."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from orchestrator.finance.breakdown import Charge
from orchestrator.records import Money
from orchestrator.store.allocations import split

WHOLE = "total"


def of_use(charge: Charge) -> Money | None:
    """The charge's usage cost; nothing where it has only a share of a bill, of calls that went on under another
    configuration. None: unknown."""
    if charge.cost is None and charge.allocated is not None:
        return Money(nano=0, currency=charge.allocated.currency)
    return charge.cost


def by_class(charge: Charge) -> dict[str, Money]:
    """The charge's cost by token class; whole, where it was not priced by class. They sum to it.

    Nothing for calls that used nothing, cost nothing, and bear nothing of a bill.
    """
    cost = of_use(charge)
    if cost is None:
        return {}
    whole = {WHOLE: cost} if cost.nano or charge.tokens or (charge.allocated and charge.allocated.nano) else {}
    if charge.costs is None:
        return whole
    zero = Money(nano=0, currency=cost.currency)
    names = [name for name in (*charge.tokens, *charge.costs) if name in charge.tokens or charge.costs[name].nano]
    return {name: charge.costs.get(name, zero) for name in dict.fromkeys(names)} or whole


def shares(whole: Money, costs: Mapping[str, Money]) -> dict[str, Money]:
    """`whole` split in proportion to `costs`, by largest remainder, so that the parts sum to it exactly."""
    if not costs:
        return {}
    names = sorted(costs)
    weights = [Fraction(costs[name].nano) for name in names]
    parts = split(whole.nano, weights if any(weights) else [Fraction(1)] * len(names))
    found = dict(zip(names, parts, strict=True))
    return {name: Money(nano=found[name], currency=whole.currency) for name in costs}
