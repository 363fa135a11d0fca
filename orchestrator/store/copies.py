"""Copies of a task that calibrations and assessments made: they stand under ids of their own, with its id in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, get_args

import orjson
from sqlalchemy import Connection, select

from orchestrator.store.statements import among, chunks, table
from orchestrator.store.tables import Config, Content, Run

CopyKind = Literal["calibration", "validated", "priced"]
OWN_IDS: tuple[CopyKind, ...] = get_args(CopyKind)
_run, _config, _content = table(Run), table(Config), table(Content)


def copy_id(kind: CopyKind, mark: str, named: str) -> str:
    """The id of a copy, `KIND:MARK:ID:DIGEST`: `mark` is of the configuration, `named` the task's id and digest."""
    return f"{kind}:{mark}:{named}"


def named_in(task_id: str) -> str:
    """The id and digest of the task that a copy's id names."""
    return task_id.split(":", 2)[2]


def copied_id(task_id: str) -> str | None:
    """The id of the task that this is a copy of; None where it is none."""
    kind, _, rest = task_id.partition(":")
    _, marked, named = rest.partition(":")
    own, digested, _ = named.rpartition(":")
    return own if kind in OWN_IDS and marked and digested else None


def copies_of(connection: Connection, task_ids: Collection[str]) -> dict[str, str]:
    """(run id -> task id) of the runs that calibrations and assessments made of these tasks, where their content is
    kept: each is read, since an id is kept nowhere else."""
    c, r, f = _content.c, _run.c, _config.c
    rows = connection.execution_options(yield_per=1000).execute(
        select(c.run_id, c.body).join(_run, r.run_id == c.run_id).join(_config, f.config_id == r.config_id)
        .where(c.kind == "task", f.mode == "calibration")
    )
    named = ((row.run_id, copied_id(str(orjson.loads(row.body).get("id") or ""))) for row in rows)
    wanted = set(task_ids)
    return {run_id: own for run_id, own in named if own is not None and own in wanted}


def known_keys(connection: Connection, task_keys: Sequence[str]) -> set[str]:
    """Those of the keys that a run is recorded under."""
    rows = [
        row for some in chunks(task_keys)
        for row in connection.execute(select(_run.c.task_key).where(among(_run.c.task_key)), {"among": some})
    ]
    return {row.task_key for row in rows}


def tenants(connection: Connection) -> list[str]:
    """All that runs are recorded of."""
    return sorted(connection.execute(select(_run.c.tenant).distinct()).scalars())
