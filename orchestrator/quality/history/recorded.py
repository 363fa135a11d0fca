"""What the ledger knows of each draft: how it was measured, what was decided, and whether it was right.

**A truth is used only with the probability it came to be seen with, and a task counts once, by its latest run.**
Feedback is left out: nobody knows with what probability a customer writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, Select, and_, exists, or_, select

from orchestrator.cascade.again import RULES, WITHOUT_ANSWER, Reason
from orchestrator.cascade.collected import CALIBRATION
from orchestrator.config.fingerprint import differences, draft_fingerprint, step_fingerprint
from orchestrator.config.loader import LoadedPipeline
from orchestrator.quality.history.call_costs import NONE_ASKED, CallCosts, call_costs
from orchestrator.quality.history.looks import VALIDATED, Looked, is_rejected, looked_at
from orchestrator.quality.history.stored_config import StoredStep, stored_steps
from orchestrator.records import Action, Money, Status
from orchestrator.store.again import APART
from orchestrator.store.statements import Readable, table
from orchestrator.store.tables import Config, OutcomeRow, Run, SpotCheck, StepRow

Truth = Literal["label", "proof", "spot_check", "validator"]
PAGE = 400
"""Runs whose calls are looked up at once."""

_config, _outcome, _step = table(Config), table(OutcomeRow), table(StepRow)
_spot, _run = table(SpotCheck), table(Run)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDraft:
    """One draft as the ledger knows it, at the last attempt. Money is in the currency of its calls.

    `features` by name, None where a number was not to be had; empty where nothing was drafted. `action`, `rule`,
    `confidence` and `threshold` are those recorded (where no draft was made, of a gate). `reached`: it came, or by
    other draws could have come, to the rule that compares the confidence.

    `propensity` is the probability with which the truth of this draft came to be seen: 1.0 labelled or proven, else
    `look`, that with which the validator came to see it, over all draws (`cascade/chances.py`), and its cost to be
    known; 0.0 where it could not, where it was to and did not, and where an earlier version did not log enough to tell.
    `draft_ok` None: not seen. `truth` says who said so. `validator_ok`: was the validator right (True where it is
    itself the reference, None where that is not known). `contradicted`: it is not known although a spot check was
    answered, otherwise than by the draft.

    `draft_cost` is that of all drafts and samples; `validator_cost` that of its verdict, or of its spot check;
    `alone_cost` of the validator doing the task anew. None: unknown, or it was not asked. The `_bound`s are what was
    reserved for drafts and verdict: the most they could have cost. `unanswered`: the probability with which a look
    was drawn that could not be made, gave no answer, or `waits` to be made. `refused`: the
    draft was sent on, and for want of this no call was made; the task can be done again.
    """

    run_id: str
    tenant: str
    step: str
    ended_at: float
    config_id: str
    mode: str
    tags: Mapping[str, Any]
    features: Mapping[str, float | None]
    confidence: float | None
    threshold: float | None
    certified: bool
    action: Action | None
    rule: str | None
    status: Status
    attempts: int
    reached: bool
    propensity: float
    draft_ok: bool | None
    truth: Truth | None
    validator_ok: bool | None
    draft_cost: Money | None
    validator_cost: Money | None
    alone_cost: Money | None = None
    draft_bound: Money | None = None
    validator_bound: Money | None = None
    unanswered: float | None = None
    contradicted: bool = False
    waits: bool = False
    look: float = 0.0
    refused: Reason | None = None
    from_cache: bool


async def read_recorded(
    store: Readable, loaded: LoadedPipeline, step_id: str, *, since: float | None = None, until: float | None = None,
    matching: bool = True, include_calibration: bool = False,
) -> list[RecordedDraft]:
    """The drafts of one step in runs that ended in [since, until), in order of their end (epoch seconds).

    `matching`: only runs whose drafts were made as today's are: their stored fingerprint equals that of `loaded` save
    the confidence source. Raises ValueError for a step that the pipeline does not have.
    """
    found: list[RecordedDraft] = []
    await hear_recorded(
        store, loaded, step_id, found.append, since=since, until=until, matching=matching,
        include_calibration=include_calibration,
    )
    return found


async def hear_recorded(
    store: Readable, loaded: LoadedPipeline, step_id: str, hear: Callable[[RecordedDraft], None], *,
    undrafted: bool = False, **which: Any,
) -> None:
    """The same, told one by one to `hear`, in another thread: a ledger's drafts take some kilobytes each, and whoever
    hears of them knows what of that to keep. `undrafted`: of runs in which the step drafted nothing, too. `which` as of
    `each_recorded`."""
    def read() -> None:
        with store.read() as connection:
            for one in each_recorded(connection, loaded, step_id, **which):
                if one.features or undrafted:
                    hear(one)

    await asyncio.to_thread(read)


def each_recorded(
    connection: Connection, loaded: LoadedPipeline, step_id: str, *, since: float | None = None,
    until: float | None = None, matching: bool = True, include_calibration: bool = False,
) -> Iterator[RecordedDraft]:
    """As `read_recorded`, one by one, with the runs in which the step drafted nothing. Holds a page of rows at a
    time."""
    known = _known_steps(connection, loaded, step_id, matching, include_calibration)
    if not known:
        return
    rows = connection.execution_options(yield_per=PAGE).execute(
        _drafts(loaded.config.pipeline, step_id, sorted(known), since, until)
    )
    for page in rows.partitions():
        costs = call_costs(connection, step_id, [row.run_id for row in page])
        for row in page:
            yield _recorded(row, known[row.config_id], costs.get(row.run_id, NONE_ASKED))


# -- which rows --------------------------------------------------------------------------------------------------------


def _known_steps(
    connection: Connection, loaded: LoadedPipeline, step_id: str, matching: bool, include_calibration: bool
) -> dict[str, StoredStep]:
    """The configurations whose runs are wanted, by id."""
    today = next((one for one in loaded.steps if one.config.id == step_id), None)
    if today is None:
        names = ", ".join(repr(one.config.id) for one in loaded.steps)
        raise ValueError(f"pipeline {loaded.config.pipeline!r} has no step {step_id!r}: it has {names}")
    c = _config.c
    wanted = select(c.config_id, c.mode, c.body_json).where(c.pipeline == loaded.config.pipeline)
    if not include_calibration:
        wanted = wanted.where(c.mode != CALIBRATION)
    made = draft_fingerprint(step_fingerprint(loaded, today))
    rows = [(row.config_id, row.mode, row.body_json) for row in connection.execute(wanted)]
    return {one.config_id: one for one in stored_steps(rows, step_id) if not matching or _is_made_like(made, one)}


def _is_made_like(made: Mapping[str, str], step: StoredStep) -> bool:
    return step.fingerprint is not None and not differences(made, draft_fingerprint(step.fingerprint))


def _drafts(
    pipeline: str, step_id: str, config_ids: Sequence[str], since: float | None, until: float | None
) -> Select[Any]:
    """In the order of an index that the reports use as well. A run whose task was done again is none of them."""
    o, s, k = _outcome.c, _step.c, _spot.c
    aside = exists().where(_run.c.run_id == o.run_id, _run.c.task_key.contains(APART))
    wanted = (
        select(
            o.run_id, o.tenant, o.ended_at, o.config_id, o.success, o.success_source, o.tags_json, s.status, s.action,
            s.rule, s.confidence, s.threshold, s.certified, s.propensity, s.verdict, s.draft_ok, s.attempts,
            s.from_cache, s.features_json, s.look.label("chance"), s.compared,
            k.state.label("look"), k.draft_ok.label("look_ok"),
        )
        .select_from(
            _outcome.join(_step, and_(s.run_id == o.run_id, s.step == step_id))
            .outerjoin(_spot, and_(k.run_id == o.run_id, k.step == step_id))
        )
        .where(o.pipeline == pipeline, o.config_id.in_(config_ids))
        .where(or_(o.status.not_in(WITHOUT_ANSWER), ~aside))  # few are looked up: no other status can step aside
    )
    if since is not None:
        wanted = wanted.where(o.ended_at >= since)
    if until is not None:
        wanted = wanted.where(o.ended_at < until)
    return wanted.order_by(o.ended_at, o.run_id)


# -- one row -----------------------------------------------------------------------------------------------------------


def _recorded(row: Any, step: StoredStep, costs: CallCosts) -> RecordedDraft:
    features = _features(row.features_json, step)
    drafted = bool(features)
    draft_ok, truth = _truth(row, step, features, costs) if drafted else (None, None)
    looked = looked_at(row, step, features, costs) if drafted else Looked(0.0, None, False)
    validator_ok, contradicted = _validator(row, step, truth, draft_ok)
    return RecordedDraft(
        run_id=row.run_id, tenant=row.tenant, step=step.id, ended_at=row.ended_at, config_id=row.config_id,
        mode=step.mode, tags=orjson.loads(row.tags_json), features=features, confidence=row.confidence,
        threshold=row.threshold, certified=bool(row.certified), action=row.action, rule=row.rule, status=row.status,
        attempts=row.attempts, reached=looked.reached,
        propensity=1.0 if truth in ("label", "proof") else looked.chance, look=looked.chance, draft_ok=draft_ok,
        truth=truth, validator_ok=validator_ok, contradicted=contradicted, draft_cost=costs.of("draft", "sample"),
        validator_cost=costs.of("judge", "repair", "redo") or costs.of("spot_check"),
        alone_cost=_alone(costs), draft_bound=costs.bound("draft", "sample"),
        validator_bound=costs.bound("judge", "repair", "redo") or costs.bound("spot_check"),
        unanswered=looked.unanswered,
        waits=truth is None and row.look == "pending", refused=_refused(row) if drafted and truth is None else None,
        from_cache=bool(row.from_cache),
    )


def _features(kept: str, step: StoredStep) -> dict[str, float | None]:
    """Before their names stood in the configuration, they stood beside each number."""
    found = orjson.loads(kept)
    if isinstance(found, dict):
        return found
    return dict(zip(step.features or (), found, strict=False)) if found else {}


def _truth(
    row: Any, step: StoredStep, features: Mapping[str, float | None], costs: CallCosts
) -> tuple[bool | None, Truth | None]:
    """Was the draft right, by the best word there is: a label, a proof, a spot check, the validator."""
    if row.draft_ok is not None and step.is_last and _is_labelled(row):
        return bool(row.draft_ok), "label"
    if step.is_last and step.proofs:
        return all(features.get(f"{name}.ok") == 1.0 for name in step.proofs), "proof"
    if row.look == "done" and row.look_ok is not None:
        return bool(row.look_ok), "spot_check"
    if row.draft_ok is not None:
        return bool(row.draft_ok), "validator"
    if is_rejected(row, costs):
        return False, "validator"
    return None, None


def _is_labelled(row: Any) -> bool:
    """Where the task had a label, `draft_ok` is by it, whatever the validator said."""
    if row.success_source == "label" or row.status not in VALIDATED:
        return True
    approved: bool = row.status == "approved"
    return bool(row.draft_ok) != approved


def _refused(row: Any) -> Reason | None:
    if row.status not in WITHOUT_ANSWER:
        return None
    return next((reason for reason, rules in RULES.items() if row.rule in rules), None)


def _validator(row: Any, step: StoredStep, truth: Truth | None, draft_ok: bool | None) -> tuple[bool | None, bool]:
    """Was it right, and did it contradict the draft so that nobody knows? Where its word is the reference, it is right;
    elsewhere its own answer was compared with the reference. What a spot check found tells as much where it agrees with
    the draft, and where the label does: of another answer than a wrong draft, or a proven one, nobody knows."""
    if truth in ("validator", "spot_check"):
        return True, False
    if row.status in VALIDATED:
        by = truth or ("label" if row.success_source == "label" else "proof") if step.is_last else None
        return (bool(row.success) if row.success_source == by else None), False
    if truth is None or row.look != "done" or row.look_ok is None:
        return None, False
    if row.look_ok or (draft_ok and truth == "label"):
        return bool(row.look_ok) == bool(draft_ok), False
    return None, True


def _alone(costs: CallCosts) -> Money | None:
    """A task done anew after a verdict is no measure: those are the hard ones."""
    anew = None if costs.asked("judge", "repair") else costs.of("redo")
    return anew or costs.of("spot_check") or costs.of("baseline")
