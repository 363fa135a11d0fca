"""A ledger of many calls, filled by SQL: one day's calls, runs and all that goes with them, then the same for each day.

The sums that reports are read from are made by the store's own functions for the first day; the other days, being
copies, have its sums at their own hours.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, select

from orchestrator.store import cells, line_rows, lines
from orchestrator.store.engine import Store
from orchestrator.store.evidence import outcome
from orchestrator.store.statements import Transaction

FIRST_DAY = 1_790_812_800  # 2026-10-01 UTC
DAYS = 31
DAY_S = 86_400
CALLS_A_RUN = 1.283
FAST = ("PRAGMA synchronous=OFF", "PRAGMA cache_size=-262144", "PRAGMA temp_store=MEMORY")

_CONFIG = """
INSERT INTO config (config_id, pipeline, version, owner, cost_center, mode, body_json, created_at)
SELECT 'c' || value, 'pipeline-' || (value % 3), value / 3, 'desk', 'CC-' || (value % 3), 'cascade', ?, value
FROM json_each('[0,1,2,3,4,5]')
"""
_RUN = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :runs)
INSERT INTO run (run_id, pipeline, tenant, task_key, task_digest, config_id, owner_id, done, created_at,
                 source_run_id, tags_json)
SELECT printf('r_00%014d', i), 'pipeline-' || (i % 3), 'tenant-' || (i / 3 % 4), printf('b2:%032x', i),
       printf('b2:%032x', i), 'c' || (i % 6), 'o_benchmark', 1, :day + i * 86000.0 / :runs,
       CASE WHEN i % 10 = 9 THEN printf('r_00%014d', i - 9) END, json_object('team', 'team-' || (i / 12 % 6))
FROM n
"""
_OUTCOME = """
INSERT INTO outcome (run_id, pipeline, tenant, config_id, status, success, success_source, escalated, degraded,
                     from_cache, ended_at, cost_nano, currency, saved_nano, saved_currency, tags_json)
SELECT run_id, pipeline, tenant, config_id,
       CASE i % 4 WHEN 3 THEN CASE i / 4 % 3 WHEN 0 THEN 'approved' WHEN 1 THEN 'repaired' ELSE 'failed' END
                  ELSE 'accepted' END,
       CASE WHEN i % 4 = 3 AND i % 10 < 9 THEN i / 4 % 3 < 2 END,
       CASE WHEN i % 4 = 3 AND i % 10 < 9 THEN 'validator' ELSE 'unknown' END,
       i % 4 = 3, 0, i % 10 = 9, created_at + 1, 1000, 'USD',
       CASE WHEN i % 10 = 9 THEN 21000 END, CASE WHEN i % 10 = 9 THEN 'USD' END, tags_json
FROM (SELECT *, CAST(substr(run_id, 5) AS INTEGER) AS i FROM run)
"""
_STEP = """
INSERT INTO step (run_id, step, place, status, action, rule, confidence, threshold, certified, propensity, draft_ok,
                  attempts, from_cache, features_json)
SELECT run_id, 'answer', 0, status, CASE WHEN escalated THEN 'escalate' ELSE 'accept' END, 'sure enough',
       0.5 + (i % 50) / 100.0, 0.7, 0, CASE WHEN NOT escalated AND NOT from_cache THEN 0.05 END, NULL, 1, from_cache,
       '[]'
FROM (SELECT *, CAST(substr(run_id, 5) AS INTEGER) AS i FROM outcome)
"""
_CHECK = """
INSERT INTO spot_check (run_id, step, propensity, state, draft_ok, owner_id, created_at, ended_at)
SELECT run_id, 'answer', 0.05, 'done', i % 7 > 0, 'o_benchmark', ended_at, ended_at + 30
FROM (SELECT *, CAST(substr(run_id, 5) AS INTEGER) AS i FROM outcome)
WHERE NOT escalated AND NOT from_cache AND i / 4 % 20 = 0
"""
_FEEDBACK = """
INSERT INTO feedback (feedback_id, run_id, source, success, reason, at)
SELECT 'f_' || run_id, run_id, 'spot_check', draft_ok, '', ended_at FROM spot_check
UNION ALL
SELECT 'g_' || run_id, run_id, 'feedback', i % 3 > 0, '', ended_at + 3600 * (i % 72)
FROM (SELECT *, CAST(substr(run_id, 5) AS INTEGER) AS i FROM outcome) WHERE i % 50 = 7
"""
_DRAFT = """
INSERT INTO call (call_id, run_id, pipeline, step, role, attempt, sample, model, provider, endpoint, response_id,
                  request_key, owner_id, state, started_at, ended_at, latency_ms, finish_reason, input_tokens,
                  cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano, currency,
                  price_version, provenance, bound_nano, bound_currency, account)
SELECT printf('k_%s%s', substr(run_id, 3), :suffix), run_id, pipeline, 'answer', :role, 1, 0, :model, :provider,
       'https://models.example/v1', printf('resp_%s', substr(run_id, 3)), printf('b2:%032x', i), 'o_benchmark',
       'settled', ended_at - 1, ended_at, 412.0, 'stop', 200 + i % 400, i % 64, 0, 20 + i % 30, 0,
       (200 + i % 400) * :nano, 'USD', :model || '@2026-01-01#0badcafe', 'priced', 1000 * :nano, 'USD', 'desk'
FROM (SELECT *, CAST(substr(run_id, 5) AS INTEGER) AS i FROM outcome) WHERE
"""
_KINDS = (
    ("0", "draft", "local-8b", "vllm", 2, "NOT from_cache OR i % 4 = 3"),
    ("1", "judge", "strong-large", "openai", 900, "escalated"),
    ("2", "sample", "local-8b", "vllm", 2, "i % 12 = 1"),
)
_COPIED = ("run", "outcome", "step", "spot_check", "feedback", "call")
_IDS = ("run_id", "call_id", "feedback_id", "source_run_id", "response_id")
_TIMES = ("created_at", "ended_at", "started_at", "at")
_SUMS = ("call_line", "run_cell", "cost_cell")


def fill(place: Path, calls: int) -> int:
    """Make the store at `place`, with about that many calls in October 2026; how many it has."""
    asyncio.run(_made(place))
    runs = max(1200, round(calls / DAYS / CALLS_A_RUN))
    with sqlite3.connect(place) as connection:
        for pragma in FAST:
            connection.execute(pragma)
        body = json.dumps({"pipeline": {"tags": ["team"]}})
        connection.execute(_CONFIG, (body,))
        connection.execute(_RUN, {"runs": runs, "day": FIRST_DAY})
        for statement in (_OUTCOME, _STEP, _CHECK, _FEEDBACK):
            connection.execute(statement)
        for suffix, role, model, provider, nano, where in _KINDS:
            connection.execute(_DRAFT + where, {
                "suffix": suffix, "role": role, "model": model, "provider": provider, "nano": nano
            })
    _sum_up(place)
    with sqlite3.connect(place) as connection:
        for pragma in FAST:
            connection.execute(pragma)
        for day in range(1, DAYS):
            for name in (*_COPIED, *_SUMS):
                _copy(connection, name, day)
            connection.commit()
        found: int = connection.execute("SELECT count(*) FROM call").fetchone()[0]
    return found


async def _made(place: Path) -> None:
    await (await Store.open(f"sqlite:///{place}")).aclose()


def _sum_up(place: Path) -> None:
    """The first day, by the store's own functions."""
    engine = create_engine(f"sqlite:///{place}")
    with engine.begin() as connection:
        transaction = Transaction(connection=connection, owner_id="o_benchmark", now=0.0, lease_s=0.0)
        lines.write(transaction, line_rows.of_rows(connection))
        connection.execute(cells.uncounted.insert().from_select(["run_id"], select(outcome.c.run_id)))
        while cells.count(transaction, 5000):
            continue
    engine.dispose()


def copy_rows(connection: sqlite3.Connection, name: str, source: str, value: Callable[[str], str]) -> None:
    """The rows of `source`, a table of the same columns and perhaps a condition, once more into `name`; `value` is what
    each column becomes, in SQL."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
    values = ", ".join(map(value, columns))
    connection.execute(f"INSERT INTO {name} ({', '.join(columns)}) SELECT {values} FROM {source}")


def _copy(connection: sqlite3.Connection, name: str, day: int) -> None:
    copy_rows(connection, name, f"{name} WHERE {_first_day(name)}", lambda column: _shifted(column, day))


def _shifted(column: str, day: int) -> str:
    if column in _IDS:
        return f"replace({column}, '_00', '_{day:02d}')"
    if column == "task_key":
        return f"replace({column}, 'b2:00', 'b2:{day:02d}')"
    if column in _TIMES:
        return f"{column} + {day * DAY_S}"
    return f"hour + {day * 24}" if column == "hour" else column


def _first_day(name: str) -> str:
    if name in _SUMS:
        return f"hour < {FIRST_DAY // 3600 + 24}"
    key, mark = ("call_id", "k") if name == "call" else ("run_id", "r")
    return f"{key} >= '{mark}_00' AND {key} < '{mark}_01'"
