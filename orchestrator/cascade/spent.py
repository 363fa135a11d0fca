"""What calls have cost, and how many of them have no known cost: an unknown one is never counted as zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.records import Call


@dataclass(slots=True)
class Spent:
    """Billionths by currency; `unpriced` calls used tokens without a price, `unsettled` ones may be billed although no
    usable answer came."""

    nano: dict[str, int] = field(default_factory=dict)
    unpriced: int = 0
    unsettled: int = 0

    def add(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if call.cost is not None:
                self.nano[call.cost.currency] = self.nano.get(call.cost.currency, 0) + call.cost.nano
            elif call.state == "unsettled":
                self.unsettled += 1
            else:
                self.unpriced += 1
