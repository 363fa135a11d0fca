"""The invariants of the architecture, each by a test that can fail, on a real store and real connections.

Where another file holds the test it is named: 1 test_one_path, 4 test_policy_safety, 5 test_pipeline and test_report,
6 test_pipeline, 7 test_injection, 8 test_local and test_network, 9 test_recovery and test_kill.

Longer than 300 lines because it is one list, of the invariants, and is read as one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.outcome_file import outcome_line
from orchestrator.store.engine import Store
from tests.loopback import Loopback, Seen
from tests.loopback_shapes import label
from tests.pipelines import POLICY, write_pipeline, write_tasks

MODELS = ("drafter", "validator")
ESCALATE: dict[str, Any] = {**POLICY, "after": [{"name": "all", "then": "escalate"}]}
POLICY_OF_TEXT: dict[str, Any] = {"policy": "p", "after": [{"name": "all", "then": "accept"}]}
FAULTS = (
    "429", "429-bare", "500", "503", "408", "409", "400", "404", "401", "redirect", "overflow", "broken-json",
    "wrong-type", "empty-choices", "empty-message", "not-object", "no-usage", "other-model", "negative-usage",
    "truncated", "hang", "close", "cut", "cut-stream", "end-stream", "hang-stream", "error-stream",
)
MARKER = "Zarquon-7781"
SECRET = "sk-never-written-4242"


def at(server: Loopback, **more: Any) -> dict[str, Any]:
    return {"endpoints": [server.url], "retries": 0, **more}


def rows(db: Path, statement: str, *values: Any) -> list[Any]:
    """Read from another connection, as another process would: what it sees is committed."""
    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def files_of(db: Path) -> bytes:
    """All bytes of the store, as they would be found on a stolen disk."""
    return b"".join(path.read_bytes() for path in sorted(db.parent.glob(f"{db.name}*")))


# -- 2: no call without a trace --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_an_intent_is_durable_before_its_request_arrives(tmp_path: Path, stream: bool) -> None:
    """The server itself looks the request's id up in the store, while the request is being served."""
    db = tmp_path / "s.db"
    states: list[tuple[str, str, str]] = []

    def reply(body: dict[str, Any]) -> Any:
        seen: Seen = server.seen[-1]
        states.extend(rows(db, "SELECT state, role, run_id FROM call WHERE call_id = ?", seen.id))
        return label(body)

    async with Loopback(models=MODELS, reply=reply) as server:
        path = write_pipeline(
            tmp_path / "p", drafter=at(server, stream=stream), validator=at(server, stream=stream), policy=ESCALATE
        )
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            outcome = await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert states == [("intent", "draft", outcome.run_id), ("intent", "redo", outcome.run_id)]
    assert rows(db, "SELECT DISTINCT state FROM call") == [("settled",)]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_the_ledger_holds_every_request_that_any_fault_let_through(tmp_path: Path, stream: bool) -> None:
    """Each fault, retried once, at drafter and validator: id by id, what the provider logged."""
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS) as server:
        fast = at(server, stream=stream, retries=1, timeout="1s", deadline="8s")
        path = write_pipeline(
            tmp_path / "p", drafter=fast, validator=fast, policy=ESCALATE, on_drafter_outage="escalate",
            on_validator_outage="hand_off",
        )
        store = await Store.open(f"sqlite:///{db}")
        for fault in FAULTS:  # a pipeline each: one fault's open circuit would keep the next from being sent
            async with Pipeline.load(path, store=store) as pipeline:
                await pipeline.arun(Task(id=fault, input={"text": f"fault:{fault}"}))
        await store.aclose()
        asked = Counter(seen.id for seen in server.seen)
        hit = {seen.body["messages"][-1]["content"].strip() for seen in server.seen}
    assert hit == {f"fault:{fault}" for fault in FAULTS}, "each fault was met"
    calls = rows(db, "SELECT call_id, state, cost_nano, bound_nano, provenance FROM call")
    assert set(asked) <= {call_id for call_id, *_ in calls}
    assert set(asked.values()) == {1}, "no hidden retry sends the same call twice"
    assert {state for _, state, *_ in calls} == {"settled", "unsettled"}
    for _, state, cost, bound, _ in calls:
        assert state != "unsettled" or (cost is None and bound is not None), "unsettled counts by its upper bound"


async def test_a_cancelled_call_is_settled_in_the_ledger(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS, plan=["hang"]) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server))
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            running = asyncio.ensure_future(pipeline.arun(Task(id="t", input={"text": "x"})))
            await server.arrived.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert rows(db, "SELECT call_id, state FROM call") == [(server.seen[0].id, "unsettled")]


# -- 3: no result without its record ---------------------------------------------------------------------------------


async def test_an_outcome_is_durable_before_it_is_returned(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    found: list[list[Any]] = []
    async with Loopback(models=MODELS) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server))
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            asked = "SELECT status FROM outcome WHERE run_id = ?"
            one = await pipeline.arun(Task(id="t", input={"text": "x"}))
            found.append(rows(db, asked, one.run_id))
            async for outcome in pipeline.amap([Task(id=f"m{i}", input={"text": f"m {i}"}) for i in range(40)]):
                found.append(rows(db, asked, outcome.run_id))
            told = await pipeline.graph.ainvoke({"tasks": [Task(id="g", input={"text": "g"})]})
            found.append(rows(db, asked, told["outcomes"][0].run_id))
    assert found == [[("accepted",)]] * 42


async def test_an_answer_is_durable_before_anything_is_decided_on_it(tmp_path: Path) -> None:
    """When the validator is asked, the draft it is asked about is in the store."""
    db = tmp_path / "s.db"
    kept: list[Any] = []

    def reply(body: dict[str, Any]) -> Any:
        if body["model"] == "validator":
            kept.extend(rows(db, "SELECT call.role, call.state FROM answer JOIN call USING (call_id)"))
        return label(body)

    async with Loopback(models=MODELS, reply=reply) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server), policy=ESCALATE)
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert kept == [("draft", "settled")]


async def test_a_store_that_fails_lets_no_request_leave_and_returns_no_outcome(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server))
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            await pipeline.arun(Task(id="t1", input={"text": "x"}))
            blocker = sqlite3.connect(db, isolation_level=None)
            blocker.execute("CREATE TRIGGER full BEFORE INSERT ON call BEGIN SELECT RAISE(ABORT, 'no room'); END")
            blocker.close()
            before = len(server.seen)
            with pytest.raises(Exception, match="no room"):
                await pipeline.arun(Task(id="t2", input={"text": "y"}))
            assert len(server.seen) == before
    assert rows(db, "SELECT count(*) FROM outcome") == [(1,)]


# -- 4: fail closed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", [
    ["schema", {"regex": {"field": "value.label", "pattern": "^b$"}}],
    ["schema", {"arithmetic": {"check": "value.nothing == 1.0"}}],
    ["schema", {"python": {"call": "tests.test_invariants:raises"}}],
], ids=["not ok", "unevaluable", "raises"])
async def test_no_rule_accepts_past_a_required_signal_that_is_not_ok(tmp_path: Path, signals: list[Any]) -> None:
    accept: dict[str, Any] = {"policy": "p", "after": [{"name": "all", "then": "accept"}], "otherwise": "accept"}
    async with Loopback(models=MODELS, reply=lambda _: {"label": "a"}) as server:
        path = write_pipeline(
            tmp_path / "p", drafter=at(server), validator=at(server), policy=accept,
            step={"signals": signals, "confidence": None, "validate": None}, allow_imports=["tests.test_invariants"],
        )
        async with Pipeline.load(path, store="memory:") as pipeline:
            outcome = await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert (outcome.status, outcome.value) == ("handed_off", None)


def raises(value: Any, task: Any) -> bool:
    raise LookupError("no such check")


# -- 5: unknown is not zero ------------------------------------------------------------------------------------------


async def test_a_model_that_answers_under_an_unpriced_name_costs_null(tmp_path: Path) -> None:
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS, plan=["other-model"]) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server))
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            outcome = await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert outcome.cost_usd is None
    assert b'"cost_usd":null' in outcome_line(outcome)
    assert rows(db, "SELECT cost_nano, provenance FROM call") == [(None, "unpriced")]
    assert rows(db, "SELECT cost_nano FROM outcome") == [(None,)]


# -- 10: content apart from accounts ---------------------------------------------------------------------------------


def quoting(body: dict[str, Any]) -> Any:
    """A drafter whose answer quotes the task, and a validator whose reasons do."""
    if body["model"] == "drafter":
        return {"label": MARKER}
    properties = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    if "verdict" in properties:
        return {"verdict": "rejected", "reasons": [f"it says {MARKER}"]}
    return {"label": "a"}


@pytest.mark.parametrize("on_reject", ["hand_off", "redo", "fail"])
async def test_after_forget_no_file_of_the_store_holds_what_was_said(tmp_path: Path, on_reject: str) -> None:
    db = tmp_path / "s.db"
    judge = {"validate": {"model": "validator", "mode": "judge", "on_reject": on_reject}}
    async with Loopback(models=MODELS, reply=quoting) as server:
        path = write_pipeline(
            tmp_path / "p", drafter=at(server), validator=at(server), policy=ESCALATE, step=judge, cache={"ttl": "1h"}
        )
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            outcome = await pipeline.arun(Task(id=f"id-{MARKER}", input={"text": MARKER}, meta={"who": MARKER}))
            await pipeline.arecord_outcome(outcome.run_id, success=False, reason=f"not {MARKER}")
            store = await pipeline.astore()
            assert MARKER.encode() in files_of(db), "or the test could not fail"
            before = rows(db, "SELECT call_id, cost_nano, input_tokens, output_tokens FROM call ORDER BY 1")
            await store.forget(task_keys=[store.digest(f"id:id-{MARKER}".encode())])
            assert MARKER.encode() not in files_of(db)
    assert MARKER.encode() not in files_of(db)
    assert rows(db, "SELECT call_id, cost_nano, input_tokens, output_tokens FROM call ORDER BY 1") == before


async def test_ledger_rows_hold_no_input_even_while_content_is_kept(tmp_path: Path) -> None:
    """All tables but content and answer: the task's words, the draft's and the id's are in none of them."""
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS, reply=lambda _: {"label": "a", "note": MARKER}) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server))
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            await pipeline.arun(Task(id=MARKER, input={"text": MARKER}, meta={"who": MARKER}))
    holding = [table for table in tables(db) if MARKER in str(rows(db, f'SELECT * FROM "{table}"'))]
    assert set(holding) <= {"content", "answer"}
    assert "content" in holding, "or the test could not fail"


@pytest.mark.parametrize("on_reject", ["redo", "fail", None])
async def test_without_retention_no_row_holds_what_was_said_once_the_run_is_settled(
    tmp_path: Path, on_reject: str | None
) -> None:
    """Accepted, and rejected by a validator whose reasons quote the task."""
    db = tmp_path / "s.db"
    judge = {"validate": {"model": "validator", "mode": "judge", "on_reject": on_reject or "redo"}}
    async with Loopback(models=MODELS, reply=quoting) as server:
        path = write_pipeline(
            tmp_path / "p", drafter=at(server), validator=at(server), content={"keep": "none"}, cache={"ttl": "1h"},
            step={**judge, "output": None, "signals": ["finish", "logprob"]},
            policy=ESCALATE if on_reject else POLICY_OF_TEXT,
        )
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            outcome = await pipeline.arun(Task(id=MARKER, input={"text": MARKER}))
    assert outcome.status == {"redo": "redone", "fail": "failed", None: "accepted"}[on_reject]
    assert [table for table in tables(db) if MARKER in str(rows(db, f'SELECT * FROM "{table}"'))] == []


def tables(db: Path) -> list[str]:
    return [name for (name,) in rows(db, "SELECT name FROM sqlite_master WHERE type = 'table'")]


async def test_every_file_of_a_run_is_for_its_owner_alone(tmp_path: Path) -> None:
    from orchestrator.batch import RunOptions, arun_file

    tasks = write_tasks(tmp_path / "tasks.jsonl", 3)
    with tasks.open("ab") as file:
        file.write(b"{broken\n")
    made = tmp_path / "made"
    made.mkdir()
    policy = {**POLICY, "after": [{"name": "all", "then": "hand_off"}]}
    async with Loopback(models=MODELS) as server:
        path = write_pipeline(tmp_path / "p", drafter=at(server), validator=at(server), policy=policy)
        await arun_file(RunOptions(
            pipeline=path, tasks=tasks, out=made / "out.jsonl", store=f"sqlite:///{made}/s.db", yes=True,
            handed_off=made / "handed.jsonl",
        ))
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in made.iterdir()}
    assert {"out.jsonl", "out.rejected.jsonl", "handed.jsonl", "s.db"} <= set(modes)
    assert set(modes.values()) == {"0o600"}, modes


async def test_a_secret_is_sent_and_never_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THE_KEY", SECRET)
    db = tmp_path / "s.db"
    async with Loopback(models=MODELS, plan=["ok", "401", "ok"]) as server:
        keyed = at(server, api_key="${THE_KEY}")
        path = write_pipeline(tmp_path / "p", drafter=keyed, validator=keyed, policy=ESCALATE)
        async with Pipeline.load(path, store=f"sqlite:///{db}") as pipeline:
            outcomes = [await pipeline.arun(Task(id=f"t{i}", input={"text": f"{i}"})) for i in range(2)]
        assert all(seen.headers["Authorization"] == f"Bearer {SECRET}" for seen in server.seen)
    assert SECRET.encode() not in files_of(db)
    assert b"${THE_KEY}" in files_of(db), "the configuration is stored as written"
    assert SECRET not in repr(outcomes)
    assert SECRET not in caplog.text
