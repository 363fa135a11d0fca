"""What an escalation costs over the validator's own answer: in the modes `judge` and `repair` it also reads the draft.

**No cascade is priced as if it read no draft.** The ledger tells the price of an escalation, where it holds some; else
it is estimated from what such a request says beside the task and what its answer leaves out. Of a short task the
instructions alone can cost a multiple of the answer; of a long answer a verdict costs a fraction.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from orchestrator.cascade.prompts import JUDGE_INSTRUCTIONS, REPAIR_INSTRUCTIONS
from orchestrator.config.fingerprint import differences, draft_fingerprint, step_fingerprint
from orchestrator.quality.calibration.evidence import Known, Place
from orchestrator.quality.history.call_costs import call_costs
from orchestrator.quality.history.stored_config import stored_steps
from orchestrator.records import Money, Usage
from orchestrator.store.statements import chunks, table
from orchestrator.store.tables import CallRow, Config, Run
from orchestrator.worst_case import FENCES

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedStep
    from orchestrator.config.prices import PriceEntry

FEWEST = 10
"""Of fewer recorded escalations no mean is taken."""
MOST = 2_000
"""The latest ones; more tell a mean no better."""
BYTES_PER_TOKEN = 4.0
"""Of English prose and JSON: the usual rule, for an estimate."""
_SAID = {"judge": len(JUDGE_INSTRUCTIONS) + FENCES, "repair": len(REPAIR_INSTRUCTIONS) + FENCES}
_APPROVED = {
    "judge": '{"verdict":"approved","reasons":[]}', "repair": '{"verdict":"approved","reasons":[],"value":null}',
}
_call, _config, _run = table(CallRow), table(Config), table(Run)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationPrice:
    """An escalation costs `times` the validator's own answer: the mean of `recorded` ones, or (0) an estimate."""

    times: float
    modes: tuple[str, ...]
    recorded: int = 0

    @property
    def words(self) -> str:
        own = f"{self.times:.3g} x the validator's own answer"
        if self.recorded:
            return f"an escalation costs {own}, by {self.recorded} recorded ones"
        return (
            f"an escalation is estimated at {own}, since in mode {' or '.join(self.modes)} it reads instructions and "
            "the draft, and answers with a verdict"
        )


def reading_modes(step: LoadedStep) -> tuple[str, ...]:
    """The modes in which an escalation of `step` reads the draft."""
    validate = step.config.validate_
    if validate is None:
        return ()
    escalating = {rule.mode or validate.mode for rule in step.policy.after if rule.then == "escalate"}
    if step.policy.otherwise == "escalate" or not escalating:
        escalating.add(validate.mode)
    return tuple(sorted(escalating - {"redo"}))


def left_out(step: LoadedStep) -> str:
    """In words, what a price of escalations leaves out that is the validator's own; empty where they are the same."""
    modes, validate = reading_modes(step), step.config.validate_
    if not modes or validate is None:
        return ""
    redone = ", and a rejected draft is then redone" if validate.on_reject == "redo" else ""
    return (
        f"an escalation is priced like the validator's own answer; in mode {' or '.join(modes)} it also reads the "
        f"draft and costs more{redone}: run some tasks and ask `simulate` what that comes to"
    )


def escalation_price(
    place: Place, known: Sequence[Known], escalated: Sequence[Known], recorded: Sequence[Money] | None
) -> EscalationPrice | None:
    """By `recorded` escalations, else estimated for those of `escalated`, over the mean cost of the validator's own
    answers in `known`. None where an escalation is just such an answer, or where costs are unknown or don't compare
    (`recorded` None: those of `known` are of escalations themselves)."""
    modes = reading_modes(place.step)
    own = _mean([one.validator_cost for one in known if one.validator_cost is not None])
    if not modes or own is None or not own.nano or recorded is None:
        return None
    seen = _mean(recorded) if len(recorded) >= FEWEST else None
    if seen is not None and seen.currency == own.currency:
        return EscalationPrice(times=seen.nano / own.nano, modes=modes, recorded=len(recorded))
    entry, tokens = _entry(place), [n for one in escalated if (n := one.features.get("tokens")) is not None]
    if entry is None or entry.currency != own.currency or not tokens:
        return None
    answer = math.fsum(tokens) / len(tokens)
    wrong = sum(not one.draft_ok for one in escalated) / len(escalated)
    try:
        more = max(_more(place.step, mode, entry, answer, wrong, own) for mode in modes)
    except ValueError:
        return None
    return EscalationPrice(times=max(0.0, 1.0 + more / own.nano), modes=modes)


def _more(step: LoadedStep, mode: str, entry: PriceEntry, answer: float, wrong: float, own: Money) -> float:
    """What one escalation costs beside the validator's own answer, in billionths: it reads the instructions and a draft
    of `answer` tokens, and writes a verdict for that; a `wrong` draft is written anew."""
    reads = _SAID[mode] / BYTES_PER_TOKEN + answer
    writes = len(_APPROVED[mode]) / BYTES_PER_TOKEN + (wrong * answer if mode == "repair" else 0.0) - answer
    more = reads * entry.cost(Usage(input=1000)).nano / 1000.0 + writes * entry.cost(Usage(output=1000)).nano / 1000.0
    redone = mode == "judge" and step.config.validate_ is not None and step.config.validate_.on_reject == "redo"
    return more + wrong * own.nano if redone else more


def _entry(place: Place) -> PriceEntry | None:
    validate, book = place.step.config.validate_, place.loaded.book
    if validate is None or book is None:
        return None
    model = place.loaded.config.models[validate.model]
    return book.entry_of(asked=model.target, kind=model.kind, answered=None, price=model.price, at=place.now())


def _mean(amounts: Iterable[Money]) -> Money | None:
    """None of nothing, and of several currencies."""
    given = list(amounts)
    if len({one.currency for one in given}) != 1:
        return None
    return Money(nano=round(sum(one.nano for one in given) / len(given)), currency=given[0].currency)


# -- what the ledger holds of them -------------------------------------------------------------------------------------


async def recorded_escalations(place: Place) -> tuple[Money, ...]:
    """What each recorded escalation of the step in its modes cost, with the redo after a rejection: of drafts made as
    today's are, by today's validator."""
    return await asyncio.to_thread(_read, place) if reading_modes(place.step) else ()


def _read(place: Place) -> tuple[Money, ...]:
    c, step_id = _call.c, place.step.config.id
    found: list[Money] = []
    with place.store.read() as connection:
        latest = (
            select(c.run_id).join(_run, _run.c.run_id == c.run_id)
            .where(
                c.pipeline == place.loaded.config.pipeline, c.step == step_id, c.role.in_(reading_modes(place.step)),
                _run.c.config_id.in_(_configurations(connection, place)),
            )
            .group_by(c.run_id).order_by(func.max(c.started_at).desc(), c.run_id).limit(MOST)
        )
        for some in chunks([row.run_id for row in connection.execute(latest)]):
            costs = (one.of("judge", "repair", "redo") for one in call_costs(connection, step_id, some).values())
            found.extend(cost for cost in costs if cost is not None)
    return tuple(found)


def _configurations(connection: Connection, place: Place) -> list[str]:
    """The ids of those under which the step drafts and validates as it does today."""
    c = _config.c
    wanted = select(c.config_id, c.mode, c.body_json).where(c.pipeline == place.loaded.config.pipeline)
    rows = [(row.config_id, row.mode, row.body_json) for row in connection.execute(wanted)]
    today = draft_fingerprint(step_fingerprint(place.loaded, place.step))
    return [
        one.config_id for one in stored_steps(rows, place.step.config.id)
        if one.fingerprint is not None and not differences(today, draft_fingerprint(one.fingerprint))
    ]
