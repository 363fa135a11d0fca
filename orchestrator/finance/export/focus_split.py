"""A charge's money among its token classes: what each class cost, and its share of what was billed."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.finance.breakdown import Charge
from orchestrator.records import Money

WHOLE = "total"


def by_class(charge: Charge) -> dict[str, Money]:
    """The charge's cost by token class; whole, where it was not priced by class. They sum to it.

    Nothing for calls that used nothing and cost nothing.
    """
    if charge.cost is None:
        return {}
    if charge.costs is None:
        return {WHOLE: charge.cost} if charge.cost.nano or charge.tokens else {}
    zero = Money(nano=0, currency=charge.cost.currency)
    names = [name for name in (*charge.tokens, *charge.costs) if name in charge.tokens or charge.costs[name].nano]
    return {name: charge.costs.get(name, zero) for name in dict.fromkeys(names)}


def shares(whole: Money, costs: Mapping[str, Money]) -> dict[str, Money]:
    """`whole` split in proportion to `costs`, by largest remainder, so that the parts sum to it exactly."""
    if not costs:
        return {}
    total = sum(one.nano for one in costs.values())
    weights = {name: one.nano for name, one in costs.items()} if total else dict.fromkeys(costs, 1)
    total = total or len(costs)
    parts = {name: whole.nano * weight // total for name, weight in weights.items()}
    rests = sorted(weights, key=lambda name: (-(whole.nano * weights[name] % total), name))
    for name in rests[: whole.nano - sum(parts.values())]:
        parts[name] += 1
    return {name: Money(nano=nano, currency=whole.currency) for name, nano in parts.items()}
