"""What an escalation costs over the validator's own answer, at whose price it is certified: it also reads the draft.

The ledger tells, where it holds some; else the certificate says that its cost leaves this out.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from orchestrator.config.fingerprint import differences, draft_fingerprint, step_fingerprint
from orchestrator.quality.calibration.evidence import Known, Place
from orchestrator.quality.history.call_costs import call_costs
from orchestrator.quality.history.stored_config import stored_steps
from orchestrator.quality.records import Certificate
from orchestrator.records import Money
from orchestrator.store.statements import chunks, table
from orchestrator.store.tables import CallRow, Config, Run

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedStep

FEWEST = 10
"""Of fewer recorded escalations no mean is taken."""
MOST = 2_000
"""The latest ones; more tell a mean no better."""
_call, _config, _run = table(CallRow), table(Config), table(Run)


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
    """In words, what an escalation costs beside the validator's own answer; empty where it is that answer."""
    modes, validate = reading_modes(step), step.config.validate_
    if not modes or validate is None:
        return ""
    redone = ", and a rejected draft is then redone" if validate.on_reject == "redo" else ""
    return (
        f"an escalation is priced like the validator's own answer; in mode {' or '.join(modes)} it also reads the "
        f"draft and costs more{redone}: run some tasks and ask `simulate` what that comes to"
    )


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


def with_escalations_priced(
    certificate: Certificate, step: LoadedStep, known: Sequence[Known], escalations: Sequence[Money]
) -> Certificate:
    """The certificate with its cost at the mean price of recorded `escalations` over that of the validator's own
    answers in `known`; where there are too few, with the words for what its cost leaves out. Threshold and guarantee
    stay as they are.

    A gate's escalations have no draft to read; where none pays with cheap escalations, none does with dear ones.
    """
    ratio, words = certificate.cost_ratio, left_out(step)
    rests = (
        certificate.drafts_first and certificate.threshold is not None and certificate.accepted < certificate.n
        and certificate.recommendation != "always_validate"
    )
    if not words or not rests or ratio is None:
        return certificate
    times = _times(known, escalations)
    if times is None:
        return replace(certificate, reasons=(*certificate.reasons, words))
    drafts = _sum(one.draft_cost for one in known) / _sum(one.validator_cost for one in known)
    priced = ratio + (times - 1.0) * max(0.0, ratio - drafts)
    dear = priced >= 1.0 and certificate.recommendation == "cascade"
    told = (
        f"that has an escalation at the price of the validator's own answer: {len(escalations)} recorded ones cost "
        f"{times:.3g} x that on average, and at their price it costs {priced:.3g} x always validating"
    )
    return replace(
        certificate, cost_ratio=priced, recommendation="always_validate" if dear else certificate.recommendation,
        reasons=(*certificate.reasons, f"{told}: it does not pay" if dear else told),
    )


def _times(known: Sequence[Known], escalations: Sequence[Money]) -> float | None:
    """The mean of `escalations` over that of the validator's own answers; None where these can't be compared."""
    own = [one.validator_cost for one in known if one.validator_cost is not None]
    if len(escalations) < FEWEST or len({one.currency for one in (*own, *escalations)}) != 1:
        return None
    mean = _sum(own) / len(own)
    return _sum(escalations) / len(escalations) / mean if mean else None


def _sum(amounts: Iterable[Money | None]) -> float:
    return math.fsum(one.nano for one in amounts if one is not None)
