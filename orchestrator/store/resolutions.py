"""What people answer to the tasks they were given: each hand-off is closed once, by a value that fits its step.

**All are looked at before the first is closed.** A resolution is never changed: what is learned after it is feedback.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Connection, select

from orchestrator.config.schema import validator
from orchestrator.errors import InputError
from orchestrator.records import Json
from orchestrator.store import again, feedback, retention
from orchestrator.store.entries import entry
from orchestrator.store.statements import Transaction, among, chunks, insert, table
from orchestrator.store.tables import Config, Content, HandOff, Run

_hand_off, _run, _config, _content = table(HandOff), table(Run), table(Config), table(Content)
_HELD = (
    select(_hand_off, _run.c.task_key, _run.c.config_id).join(_run, _run.c.run_id == _hand_off.c.run_id)
    .where(among(_hand_off.c.run_id))
)


@entry
class Resolution:
    """What a person decided of one run: the `value` to serve (None: none), and whether that is a success."""

    run_id: str
    value: Json = None
    success: bool
    reason: str = ""


@entry
class Refused:
    """Why a resolution can't be taken, and what to do about it."""

    why: str
    hint: str


def refusals(connection: Connection, wanted: Sequence[Resolution]) -> list[Refused | None]:
    """For each resolution, in their order, what stands against it; None where nothing does."""
    held = {
        row.run_id: row for some in chunks(sorted({one.run_id for one in wanted}))
        for row in connection.execute(_HELD, {"among": some})
    }
    schemas = _schemas(connection, sorted({row.config_id for row in held.values()}))
    seen: set[str] = set()
    found: list[Refused | None] = []
    for one in wanted:
        found.append(_refusal(connection, one, held.get(one.run_id), schemas, twice=one.run_id in seen))
        seen.add(one.run_id)
    return found


def resolve(transaction: Transaction, wanted: Sequence[Resolution]) -> None:
    """Close these hand-offs. Raises InputError for the first that can't be: then none was."""
    run_ids = sorted({one.run_id for one in wanted})
    again.refuse_success(transaction, run_ids)
    for some in chunks(run_ids):
        transaction.execute(
            select(_hand_off.c.run_id).where(_hand_off.c.run_id.in_(some)).order_by(_hand_off.c.run_id).with_for_update()
        )
    for refused in refusals(transaction.connection, wanted):
        if refused is not None:
            raise InputError(refused.why, hint=refused.hint)
    for one in wanted:
        _close(transaction, one)
    feedback.append_said(
        transaction, [(one.run_id, "hand_off", one.success, one.reason) for one in wanted], transaction.now
    )
    for one in wanted:
        retention.after_settling(transaction, one.run_id)


def _close(transaction: Transaction, one: Resolution) -> None:
    h = _hand_off.c
    transaction.execute(_hand_off.update().where(h.run_id == one.run_id).values(resolved_at=transaction.now))
    keep_until = _retention_of(transaction, one.run_id)
    if one.value is not None and (keep_until is None or keep_until > transaction.now):
        tenant = transaction.execute(select(h.tenant).where(h.run_id == one.run_id)).scalar_one()
        transaction.execute(insert(_content, transaction.dialect).values(
            run_id=one.run_id, kind="resolved", tenant=tenant, body=orjson.dumps(one.value), keep_until=keep_until
        ))


def _retention_of(transaction: Transaction, run_id: str) -> float | None:
    """How long what is said of a run is kept: as long as what is kept of it already; nothing where that is gone."""
    until = transaction.execute(select(_content.c.keep_until).where(_content.c.run_id == run_id)).scalars().all()
    return max((one for one in until if one is not None), default=None) if until else 0.0


# -- what stands against one -------------------------------------------------------------------------------------------


def _refusal(
    connection: Connection, one: Resolution, row: Any, schemas: Mapping[str, Mapping[str, Any]], *, twice: bool
) -> Refused | None:
    named = f"run {one.run_id!r}"
    if row is None:
        return Refused(why=f"{named} was never handed off", hint="see `orchestrator handoffs list`")
    if again.is_aside(row.task_key):
        latest = again.latest_of(connection, row.pipeline, row.tenant, row.task_key)
        return Refused(why=f"the task of {named} was done again" + (f", as run {latest!r}" if latest else ""),
                       hint="say it of the task's latest run")
    if row.resolved_at is not None:
        at = datetime.fromtimestamp(row.resolved_at, UTC)
        return Refused(
            why=f"{named} was resolved already, at {at:%Y-%m-%d %H:%M} UTC, and a resolution stands",
            hint="what is known of it since comes on top, and the last word counts: "
                 f"orchestrator outcome {one.run_id} --success (or --failure) --reason WHY",
        )
    if twice:
        return Refused(why=f"{named} is resolved twice here", hint="say it once")
    broken = None if one.value is None else _breach(one.value, _schemas_from(schemas.get(row.config_id, {}), row.step))
    if broken is not None:
        return Refused(
            why=f"the value for {named} breaks the output schema of step {row.step!r}: {broken}",
            hint="give it as the pipeline would have answered; where there is no such answer, leave the value out",
        )
    return None


def _schemas(connection: Connection, config_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """By configuration: the output schema of each step, in their order, as they were when the runs were taken in."""
    found: dict[str, Mapping[str, Any]] = {}
    for some in chunks(config_ids):
        rows = connection.execute(select(_config.c.config_id, _config.c.body_json).where(_config.c.config_id.in_(some)))
        for config_id, body_json in rows:
            steps = orjson.loads(body_json).get("steps") or {}
            found[config_id] = {step: files.get("output") for step, files in steps.items()}
    return found


def _schemas_from(of_steps: Mapping[str, Any], step: str) -> list[Any]:
    """Of the step that handed off, and of those that would have come after it: a run's value is its last step's."""
    names = list(of_steps)
    return [of_steps[name] for name in names[names.index(step):]] if step in of_steps else []


def _breach(value: Json, schemas: Sequence[Any]) -> str | None:
    """In what way the value fits none of the schemas: the words on the first. None: it fits one, or none was kept."""
    if not schemas or any(schema is None for schema in schemas):
        return None
    words = [next(_breaches(value, schema), None) for schema in schemas]
    return None if None in words else words[0]


def _breaches(value: Json, schema: Mapping[str, Any]) -> Iterator[str]:
    for error in validator(schema).iter_errors(value):
        yield f"{'.'.join(['value', *map(str, error.instance_path)])}: {error.message}"[:300]
