"""A ledger made by a real pipeline, in a month of its own choosing, for tests of the trail."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator import Outcome, Pipeline, Task
from orchestrator.cli import run_command
from orchestrator.errors import ConnectionLost
from orchestrator.finance.period import Period
from orchestrator.finance.verify.ledger import Verified
from orchestrator.finance.verify.ledger import verify as verified
from orchestrator.records import Request
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.pipelines import user_text, write_pipeline
from tests.stores import Clock


def at(iso: str) -> float:
    """Seconds since the epoch of an ISO time, UTC unless it says otherwise."""
    found = datetime.fromisoformat(iso)
    return (found if found.tzinfo else datetime.fromisoformat(f"{iso}+00:00")).timestamp()


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


def label(request: Request) -> Any:
    """Every seventh text is answered by nobody: its call may be billed."""
    text = user_text(request)
    if text.endswith(("7", "x")):
        raise ConnectionLost("cut", sent=True)
    return {"label": "abc"[len(text) % 3]}


def models() -> dict[str, ScriptedModel]:
    return {name: ScriptedModel(label, name=name) for name in ("drafter", "validator")}


async def serve(folder: Path, texts: Sequence[str], when: str = "2026-10-05T12:00", **settings: Any) -> list[Outcome]:
    """Run one task a text, at one moment; cached answers and calls without an answer included."""
    path = write_pipeline(folder / "labels", cache={"ttl": "300d"}, **settings)
    tasks = [Task(id=f"{when} {i}", input={"text": text}) for i, text in enumerate(texts)]
    async with Pipeline.load(path, store=url(folder), clients=models(), clock=Clock(at(when))) as pipeline:
        return [outcome async for outcome in pipeline.amap(tasks, concurrency=4)]


TEXTS = [*(f"text {i}" for i in range(10)), "text 1", "text 2"]


def sql(folder: Path, *statements: str) -> None:
    """What somebody with a database client does."""
    with sqlite3.connect(folder / "store.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "store.db") as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


async def verify(url: str, period: Period | None = None, **asked: Any) -> Verified:
    store = await Store.open(url)
    try:
        return await asyncio.to_thread(verified, store, period or Period(), **asked)
    finally:
        await store.aclose()


async def command(capsys: Any, *arguments: str) -> tuple[int, Any]:
    """A command's exit code, and what it printed: JSON where it is, else text."""
    code = await asyncio.to_thread(run_command, arguments)
    printed = capsys.readouterr()
    try:
        return code, json.loads(printed.out)
    except ValueError:
        return code, printed.out + printed.err
