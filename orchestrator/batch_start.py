"""What a file run looks at before its first task: that every model answers, and what all of it may cost at most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import InputError, Outage, UnpricedCall
from orchestrator.records import Money
from orchestrator.worst_case import WorstCase

if TYPE_CHECKING:
    from orchestrator.batch import RunOptions
    from orchestrator.cascade.runtime import Runtime


async def reachable(rt: Runtime) -> None:
    """Every model with an address must answer before the first task is taken."""
    used = {m.alias: m for s in rt.steps for m in (s.drafter, s.validator) if m is not None}
    for model in used.values():
        if model.config.kind not in ("vllm", "openai"):
            continue
        found = await model.client.probe()
        if not any(probe.ok for probe in found):
            words = "; ".join(f"{p.endpoint}: {p.detail}" for p in found)
            raise Outage(
                f"model {model.alias!r} can't be reached: {words}",
                hint="start it (`orchestrator drafter up PIPELINE`), or correct `endpoints:`", sent=False,
            )


def ask(options: RunOptions, worst: WorstCase, typical: str, rt: Runtime) -> None:
    """Say what it can cost at most, and ask where that is above the limit. Raises InputError where the answer is no,
    and UnpricedCall where --strict-prices refuses."""
    if worst.unpriced and options.strict_prices:
        raise UnpricedCall(f"no price for {', '.join(worst.unpriced)} (--strict-prices)")
    words = "worst case: " + (" + ".join(str(c) for c in worst.costs) or "unknown")
    if worst.unpriced:
        words += f", without {', '.join(worst.unpriced)}, which the price book does not hold"
    if options.progress is not None:
        options.progress.note(words + " (every task drafted as often as allowed, and escalated)")
        if typical:
            options.progress.note(typical)
    if typical:
        words += f"; {typical}"
    limit = _tightest(rt) or options.max_cost
    above = limit is not None and any(c.currency == limit.currency and c.nano > limit.nano for c in worst.costs)
    if above and not options.yes:
        question = f"{words}. The worst case is above the limit of {limit}, which stops the run there. Go on?"
        if options.confirm is None or not options.confirm(question):
            raise InputError("not started: the worst case is above the budget", hint="give --yes to start all the same")


def _tightest(rt: Runtime) -> Money | None:
    """The smallest limit of the pipeline's file on what all tasks together may cost."""
    return min((limit for _, limit in rt.config.budget.spans()), key=lambda limit: limit.nano, default=None)
