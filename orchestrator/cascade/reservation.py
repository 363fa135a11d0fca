"""Which budgets a call falls under, before it leaves."""

from __future__ import annotations

from orchestrator.cascade.model import Model
from orchestrator.cascade.run import Run
from orchestrator.config.pipeline import BudgetConfig
from orchestrator.errors import UnpricedCall
from orchestrator.records import Money
from orchestrator.store.entries import BudgetLine


class Budgets:
    """The budgets of one pipeline."""

    def __init__(self, pipeline: str, config: BudgetConfig) -> None:
        self._pipeline, self._config = pipeline, config

    def lines(self, run: Run, model: Model, bound: Money | None, day: str) -> tuple[BudgetLine, ...]:
        """The budgets that reserve `bound`. Raises UnpricedCall where one applies and the call can't be bounded."""
        lines = []
        if self._config.per_day is not None:
            lines.append(BudgetLine(scope=f"day:{self._pipeline}:{day}", limit=self._config.per_day))
        if self._config.per_task is not None:
            lines.append(BudgetLine(scope=f"task:{run.run_id}", limit=self._config.per_task))
        for line in lines:
            if bound is None or bound.currency != line.limit.currency:
                raise UnpricedCall(
                    f"model {model.client.name!r} has no price in {line.limit.currency}, and budget {line.scope!r} "
                    "applies: its cost can't be bounded"
                )
        return tuple(lines)
