"""A ledger written by hand, row by row, for tests of what is read from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlmodel import SQLModel

from orchestrator.store import cells, line_rows
from orchestrator.store.statements import Transaction, table
from orchestrator.store.tables import CallRow, Config, Feedback, OutcomeRow, Run, SpotCheck, StepRow


class Ledger:
    """Rows go in by short methods with defaults; `read()` is the contract that reports rely on."""

    def __init__(self, url: str) -> None:
        as_the_store = {"paramstyle": "format"} if url.startswith("postgresql") else {}
        self.engine: Engine = create_engine(url, **as_the_store)
        if self.engine.dialect.name == "sqlite":  # rows of a test need not outlive a power cut
            event.listen(self.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        self._ids = count(1)
        SQLModel.metadata.create_all(self.engine)

    @classmethod
    def on_disk(cls, folder: Path) -> Ledger:
        return cls(f"sqlite:///{folder / 'ledger.db'}")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._sum_up()
        with self.engine.connect() as connection:
            yield connection

    def _sum_up(self) -> None:
        """As a store that was written by its own hand has it: half of the runs counted, the others still queued."""
        with self.engine.begin() as connection:
            line_rows.rebuild(connection)
            runs = connection.execute(select(func.count()).select_from(table(Run))).scalar_one()
            cells.count(Transaction(connection=connection, owner_id="o", now=0.0, lease_s=0.0), (runs + 1) // 2)

    def close(self) -> None:
        self.engine.dispose()

    def add(self, model: type[SQLModel], *rows: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(table(model).insert(), list(rows))

    def config(self, pipeline: str = "p", *, config_id: str = "c1", tags: tuple[str, ...] = (), **written: Any) -> None:
        body = {"pipeline": {"pipeline": pipeline, "tags": list(tags), **written}}
        self.add(Config, {
            "config_id": config_id, "pipeline": pipeline, "version": "1", "owner": "desk", "cost_center": "CC-1",
            "mode": "cascade", "body_json": json.dumps(body), "created_at": float(next(self._ids)),
        })

    def run(
        self, run_id: str, *, pipeline: str = "p", config_id: str = "c1", status: str = "accepted",
        success: bool | None = None, source: str = "unknown", ended_at: float = 100.0, propensity: float | None = None,
        source_run_id: str | None = None, tags: dict[str, Any] | None = None, tenant: str = "",
        steps: tuple[str, ...] = ("s",), **outcome: Any,
    ) -> None:
        self.add(Run, {
            "run_id": run_id, "pipeline": pipeline, "tenant": tenant, "task_key": run_id, "task_digest": "d",
            "config_id": config_id, "owner_id": "o", "done": True, "created_at": ended_at - 1,
            "source_run_id": source_run_id, "tags_json": json.dumps(tags or {}),
        })
        self.add(StepRow, *({
            "run_id": run_id, "step": name, "status": status, "propensity": propensity, "certified": False,
            "attempts": 1, "from_cache": False, "features_json": "[]",
        } for name in steps))
        row = {
            "run_id": run_id, "pipeline": pipeline, "tenant": tenant, "config_id": config_id, "status": status,
            "success": success, "success_source": source, "escalated": False, "degraded": False, "from_cache": False,
            "ended_at": ended_at, "tags_json": json.dumps(tags or {}), **outcome,
        }
        self.add(OutcomeRow, row)

    def call(
        self, run_id: str, cost: int | None, *, role: str = "draft", pipeline: str = "p", currency: str | None = "USD",
        bound: int | None = 1_000, state: str = "settled", ended_at: float | None = 100.0, input_tokens: int | None = 7,
        **more: Any,
    ) -> None:
        self.add(CallRow, {
            "call_id": f"call{next(self._ids)}", "run_id": run_id, "pipeline": pipeline, "step": "s", "role": role,
            "attempt": 1, "sample": 0, "model": "m", "provider": "x", "endpoint": "", "request_key": "k",
            "owner_id": "o", "state": state, "started_at": 99.0, "ended_at": ended_at, "input_tokens": input_tokens,
            "cost_nano": cost, "currency": None if cost is None else currency, "bound_nano": bound,
            "bound_currency": None if bound is None else currency, **more,
        })

    def feedback(self, run_id: str, success: bool, *, at: float = 200.0, source: str = "feedback") -> None:
        self.add(Feedback, {
            "feedback_id": f"f{next(self._ids):06}", "run_id": run_id, "source": source, "success": success,
            "reason": "", "at": at,
        })

    def spot_check(self, run_id: str, *, right: bool | None, propensity: float, state: str = "done") -> None:
        """As the cascade leaves it: a row of its own and, once answered, the word that counts."""
        self.add(SpotCheck, {
            "run_id": run_id, "step": "s", "propensity": propensity, "state": state, "draft_ok": right,
            "owner_id": "o", "created_at": 100.0, "ended_at": 150.0,
        })
        if right is not None:
            self.feedback(run_id, right, at=150.0, source="spot_check")
