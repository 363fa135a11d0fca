"""The way of one run, from the ledger: what was asked, measured, decided and paid, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from orchestrator.errors import InputError
from orchestrator.finance.configured import config
from orchestrator.finance.evidence import evidence, feedback, outcome, run, spot_check, step
from orchestrator.finance.read import Readable, call
from orchestrator.records import TOKEN_CLASSES, Money


def explain(store: Readable, run_id: str) -> dict[str, Any]:
    """The run as JSON types: no content, digests only. Raises InputError where the store has no such run."""
    with store.read() as connection:
        def rows(table: Any, *order: Any) -> list[dict[str, Any]]:
            wanted = select(table).where(table.c.run_id == run_id).order_by(*order)
            return [dict(row) for row in connection.execute(wanted).mappings()]

        taken = rows(run)
        if not taken:
            raise InputError(f"the store has no run {run_id!r}", hint="run ids stand in OUT.jsonl, as `run_id`")
        found = taken[0]
        known = evidence()
        judgement = select(known.success.label("success"), known.source.label("source")).select_from(known.joined)
        judged = connection.execute(judgement.where(outcome.c.run_id == run_id)).first()
        ran_under = connection.execute(
            select(config.c.version, config.c.mode, config.c.body_json)
            .where(config.c.config_id == found["config_id"])
        ).first()
        names = json.loads(ran_under.body_json).get("features", {}) if ran_under else {}
        return {
            "run_id": run_id,
            "pipeline": found["pipeline"],
            "version": ran_under.version if ran_under else None,
            "mode": ran_under.mode if ran_under else None,
            "tenant": found["tenant"],
            "task_digest": found["task_digest"],
            "config_id": found["config_id"],
            "created_at": _iso(found["created_at"]),
            "source_run_id": found["source_run_id"],
            "tags": json.loads(found["tags_json"]),
            "outcome": _outcome(rows(outcome), judged),
            "steps": [_step(row, names.get(row["step"], ())) for row in rows(step)],
            "calls": [_call(row) for row in rows(call, call.c.started_at, call.c.call_id)],
            "spot_checks": [_timed(row) for row in rows(spot_check)],
            "feedback": [_timed(row) for row in rows(feedback, feedback.c.at, feedback.c.feedback_id)],
        }


def explain_text(store: Readable, run_id: str) -> str:
    """The same for people: one paragraph a step, one line a call."""
    found = explain(store, run_id)
    lines = [f"run {run_id} of {found['pipeline']} version {found['version']}, taken in {found['created_at']}"]
    lines.append(f"task {found['task_digest']}, configuration {found['config_id']}")
    if found["source_run_id"]:
        lines.append(f"served from the cache: the answer is of run {found['source_run_id']}")
    for one in found["steps"]:
        lines += _step_lines(one)
    lines += ["", "calls" if found["calls"] else "no calls"]
    lines += [_call_line(one) for one in found["calls"]]
    lines += [f"spot check of {c['step']}: {c['state']}, chosen with probability {c['propensity']:g}"
              for c in found["spot_checks"]]
    lines += [f"{f['source']} at {f['at']}: {'success' if f['success'] else 'failure'} {f['reason']}".rstrip()
              for f in found["feedback"]]
    return "\n".join([*lines, "", _ending(found["outcome"])]) + "\n"


def _outcome(rows: list[dict[str, Any]], judged: Any) -> dict[str, Any] | None:
    if not rows:
        return None
    row = rows[0]
    return {
        "status": row["status"], "success": None if judged.success is None else bool(judged.success),
        "success_source": judged.source, "escalated": row["escalated"], "degraded": row["degraded"],
        "from_cache": row["from_cache"], "error": row["error"], "ended_at": _iso(row["ended_at"]),
        "cost": _money(row["cost_nano"], row["currency"]), "saved": _money(row["saved_nano"], row["saved_currency"]),
    }


def _step(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    kept = {key: value for key, value in row.items() if key not in ("run_id", "features_json")}
    numbers = json.loads(row["features_json"])
    return {**kept, "features": dict(zip(names, numbers, strict=False))}


def _call(row: dict[str, Any]) -> dict[str, Any]:
    plain = ("call_id", "step", "role", "attempt", "sample", "model", "model_answered", "provider", "endpoint",
             "response_id", "state", "latency_ms", "finish_reason", "error", "price_version", "provenance", "account")
    usage = {name: row[f"{name}_tokens"] for name in TOKEN_CLASSES}
    return {
        **{key: row[key] for key in plain},
        "started_at": _iso(row["started_at"]), "ended_at": _iso(row["ended_at"]),
        "usage": None if usage["input"] is None else usage,
        "cost": _money(row["cost_nano"], row["currency"]), "bound": _money(row["bound_nano"], row["bound_currency"]),
    }


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    hidden = ("run_id", "owner_id", "feedback_id")
    return {k: _iso(v) if k in ("at", "created_at", "ended_at") else v for k, v in row.items() if k not in hidden}


def _step_lines(one: dict[str, Any]) -> list[str]:
    action = one["action"] or "none"
    lines = ["", f"step {one['step']}: {one['status']}; action {action} by rule {one['rule'] or '-'}"]
    if one["explanation"]:
        lines.append(f"  why: {one['explanation']}")
    if one["confidence"] is not None:
        how = "certified" if one["certified"] else "UNCERTIFIED"
        lines.append(f"  confidence {one['confidence']:.6g}, threshold {_number(one['threshold'])} ({how})")
    if one["verdict"]:
        lines.append(f"  verdict: {one['verdict']}; draft right: {_truth(one['draft_ok'])}")
    lines += [f"  {name} = {_number(value)}" for name, value in one["features"].items() if value is not None]
    return lines


def _call_line(one: dict[str, Any]) -> str:
    usage = one["usage"]
    tokens = "no usage" if usage is None else ", ".join(f"{n} {name}" for name, n in usage.items() if n) or "0 tokens"
    answered = f" (answered by {one['model_answered']})" if one["model_answered"] not in (None, one["model"]) else ""
    price = f" by {one['price_version']}" if one["price_version"] else ""
    cost = one["cost"] or f"unknown, at most {one['bound'] or 'unknown'}"
    error = f"; {one['error']}" if one["error"] else ""
    return (f"  {one['step']} {one['role']} attempt {one['attempt']}: {one['model']}{answered}, {tokens}, "
            f"cost {cost} ({one['provenance'] or one['state']}{price}){error}")


def _ending(found: dict[str, Any] | None) -> str:
    if found is None:
        return "outcome: none yet"
    by = f" ({found['success_source']})" if found["success"] is not None else ""
    saved = f", saved {found['saved']}" if found["saved"] else ""
    cost = found["cost"] or "unknown"
    return f"outcome: {found['status']}, success {_truth(found['success'])}{by}, cost {cost}{saved}"


def _money(nano: int | None, currency: str | None) -> str | None:
    return None if nano is None or currency is None else str(Money(nano=nano, currency=currency))


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _truth(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)
