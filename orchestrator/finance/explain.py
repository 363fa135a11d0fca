"""The way of one run, from the ledger: what was asked, measured, decided and paid, and why."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select

from orchestrator.errors import InputError
from orchestrator.finance.configured import config
from orchestrator.finance.explain_calls import Bills, call_json, followed_by, iso, money
from orchestrator.finance.explain_history import history
from orchestrator.finance.explain_said import Meanings, body_of, said
from orchestrator.finance.explain_seals import Seals, closed_in
from orchestrator.finance.explain_text import text_of
from orchestrator.finance.scope import call
from orchestrator.store import again
from orchestrator.store.evidence import evidence, feedback, outcome, run, spot_check, step
from orchestrator.store.statements import Readable


def explain(store: Readable, run_id: str) -> dict[str, Any]:
    """The run as JSON types, what was `said` in it as far as it is kept. Raises InputError where the store has no such
    run."""
    with store.read() as connection:
        taken = _rows(connection, run_id, run)
        if not taken:
            raise InputError(f"the store has no run {run_id!r}", hint="run ids stand in OUT.jsonl, as `run_id`")
        found = taken[0]
        seals, bills = Seals.read(connection, run_id), Bills(connection)
        ended = _rows(connection, run_id, outcome)
        calls = _rows(connection, run_id, call, call.c.started_at, call.c.call_id)
        ran_under = connection.execute(
            select(config.c.version, config.c.mode, config.c.body_json)
            .where(config.c.config_id == found["config_id"])
        ).first()
        body = body_of(ran_under.body_json if ran_under else None)
        meanings = Meanings(body)
        return {
            "run_id": run_id,
            "pipeline": found["pipeline"],
            "version": ran_under.version if ran_under else None,
            "mode": ran_under.mode if ran_under else None,
            "tenant": found["tenant"],
            "task_digest": found["task_digest"],
            "config_id": found["config_id"],
            "created_at": iso(found["created_at"]),
            "source_run_id": found["source_run_id"],
            "again_of": list(again.earlier(found["again_of"])),
            "done_again": _done_again(connection, found),
            "tags": json.loads(found["tags_json"]),
            "outcome": _outcome(connection, ended[0], seals) if ended else None,
            "history": history(connection, ended[0], found["source_run_id"], seals) if ended else [],
            "said": said(connection, found, body),
            "steps": [_step(row, meanings) for row in _rows(connection, run_id, step, step.c.place)],
            "calls": [
                {**call_json(row, bills), "followed_by": followed_by(row, calls),
                 "seal": seals.of("call", row["call_id"]), "close": closed_in(connection, row["ended_at"])}
                for row in calls
            ],
            "spot_checks": [_timed(row) for row in _rows(connection, run_id, spot_check)],
            "feedback": [
                {**_timed(row), "seal": seals.of("feedback", row["feedback_id"])}
                for row in _rows(connection, run_id, feedback, feedback.c.at, feedback.c.feedback_id)
            ],
        }


def explain_text(store: Readable, run_id: str, *, full: bool = False, features: bool = False) -> str:
    """The same for people: one paragraph a step, the arithmetic of each call, and who said what of its success. Long
    texts are cut unless `full`; the numbers kept of each draft are left out unless `features`."""
    return text_of(explain(store, run_id), full=full, features=features)


def _rows(connection: Connection, run_id: str, table: Any, *order: Any) -> list[dict[str, Any]]:
    wanted = select(table).where(table.c.run_id == run_id).order_by(*order)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def _done_again(connection: Connection, found: dict[str, Any]) -> str | None:
    """The run that did its task again, if one did."""
    if not again.is_aside(found["task_key"]):
        return None
    return again.latest_of(connection, found["pipeline"], found["tenant"], found["task_key"]) or "unknown"


def _outcome(connection: Connection, row: dict[str, Any], seals: Seals) -> dict[str, Any]:
    this = outcome.c.run_id == row["run_id"]
    known = evidence(among=select(outcome.c.run_id).where(this))
    judgement = select(known.success.label("success"), known.source.label("source")).select_from(known.joined)
    judged = connection.execute(judgement.where(this)).one()
    return {
        "status": row["status"], "success": None if judged.success is None else bool(judged.success),
        "success_source": judged.source, "escalated": row["escalated"], "degraded": row["degraded"],
        "from_cache": row["from_cache"], "error": row["error"], "ended_at": iso(row["ended_at"]),
        "cost": money(row["cost_nano"], row["currency"]), "saved": money(row["saved_nano"], row["saved_currency"]),
        "seal": seals.of("outcome", row["run_id"]), "close": closed_in(connection, row["ended_at"]),
    }


def _step(row: dict[str, Any], meanings: Meanings) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key not in ("run_id", "features_json")}
    return {**kept, **meanings.of(row["step"], json.loads(row["features_json"]))}


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    hidden = ("run_id", "owner_id", "feedback_id", "sealed_by", "seal_no", "seal")
    return {k: iso(v) if k in ("at", "created_at", "ended_at") else v for k, v in row.items() if k not in hidden}
