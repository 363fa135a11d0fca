"""The SDK: idempotency, the cache, spot checks, limits, cancellation, and the caller's own graph."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import pytest

from orchestrator import Pipeline, Task
from orchestrator.errors import ConnectionLost, DuplicateTask, EscalationPaused, TaskError
from orchestrator.records import Answer, Request, Usage
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, user_text, write_pipeline

A, B = {"label": "a"}, {"label": "b"}
ESCALATE = {**POLICY, "after": [{"name": "all", "then": "escalate"}]}
CACHED = {"cache": {"ttl": "1h"}}


def both(draft: Any, verdict: Any = (), **options: Any) -> dict[str, ScriptedModel]:
    validator = ScriptedModel(verdict, name="validator")
    return {"drafter": ScriptedModel(draft, name="drafter", **options), "validator": validator}


def test_the_synchronous_face_runs_maps_and_records(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    with Pipeline.load(path, store=f"sqlite:///{tmp_path}/s.db", clients=both(lambda _: A)) as pipeline:
        outcome = pipeline.run(Task(id="t1", input={"text": "x"}))
        tasks = [{"id": f"m{i}", "input": {"text": str(i)}} for i in range(10)]
        ids = {o.id for o in pipeline.map(tasks, concurrency=4)}
        pipeline.record_outcome(outcome.run_id, success=False, reason="customer corrected it")
        again = pipeline.run(Task(id="t1", input={"text": "x"}))
    assert outcome.value == A
    assert outcome.cost_usd is not None
    assert ids == {f"m{i}" for i in range(10)}
    assert (again.run_id, again.resumed, again.success, again.success_source) == (
        outcome.run_id, True, False, "feedback")


async def test_the_same_id_is_answered_once_even_when_asked_at_the_same_time(tmp_path: Path) -> None:
    clients = both(lambda _: A)
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        task = Task(id="t", input={"text": "x"})
        outcomes = await asyncio.gather(*(pipeline.arun(task) for _ in range(5)))
        mapped = [o async for o in pipeline.amap([task] * 3)]
    assert {o.run_id for o in [*outcomes, *mapped]} == {outcomes[0].run_id}
    assert len(clients["drafter"].calls) == 1


async def test_the_same_id_with_other_content_is_an_error(tmp_path: Path) -> None:
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=both(lambda _: A)) as pipeline:
        await pipeline.arun(Task(id="t", input={"text": "x"}))
        with pytest.raises(DuplicateTask, match="other content"):
            await pipeline.arun(Task(id="t", input={"text": "y"}))


@pytest.mark.parametrize("task", [
    {"input": "text"}, {"input": {"text": "x"}, "extra": 1}, {"input": {"text": float("nan")}},
    {"input": {"text": "x" * 2_000_000}}, {"input": {"text": object()}},
])
async def test_a_task_that_is_none_is_refused_and_nothing_is_spent(tmp_path: Path, task: dict[str, Any]) -> None:
    clients = both(lambda _: A)
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        with pytest.raises(TaskError):
            await pipeline.arun(task)
    assert clients["drafter"].calls == []


async def test_answers_are_cached_and_decisions_are_not(tmp_path: Path) -> None:
    """A stricter policy escalates a draft that the cache already holds, without drafting again."""
    store = f"sqlite:///{tmp_path}/s.db"
    clients = both(lambda _: A, lambda _: B)
    async with Pipeline.load(write_pipeline(tmp_path / "p", **CACHED), store=store, clients=clients) as pipeline:
        first = await pipeline.arun(Task(id="t1", input={"text": "x"}))
        hit = await pipeline.arun(Task(id="t2", input={"text": "x"}))
    strict = write_pipeline(tmp_path / "q", policy=ESCALATE, **CACHED)
    async with Pipeline.load(strict, store=store, clients=clients) as pipeline:
        redone = await pipeline.arun(Task(id="t3", input={"text": "x"}))
    assert (first.status, hit.status, redone.status) == ("accepted", "accepted", "redone")
    assert len(clients["drafter"].calls) == 1
    assert (hit.cost_usd, hit.saved_usd) == (Decimal(0), first.cost_usd)


async def test_tenants_share_no_answers_and_a_known_failure_evicts(tmp_path: Path) -> None:
    clients = both(lambda _: A)
    async with Pipeline.load(write_pipeline(tmp_path / "p", **CACHED), store="memory:", clients=clients) as pipeline:
        first = await pipeline.arun(Task(input={"text": "x"}, meta={"tenant": "one"}))
        await pipeline.arun(Task(input={"text": "x"}, meta={"tenant": "two"}))
        assert len(clients["drafter"].calls) == 2
        await pipeline.arecord_outcome(first.run_id, success=False)
        await pipeline.arun(Task(input={"text": "x"}, meta={"tenant": "one"}))
    assert len(clients["drafter"].calls) == 3


async def test_truncated_and_deflecting_answers_are_never_cached(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step={"output": None, "signals": ["finish", "logprob"]}, **CACHED)
    cut = Answer(text="a", finish_reason="length", usage=Usage(), model="drafter")
    refusal = Answer(text="As an AI language model, I cannot help with that.", finish_reason="stop", usage=Usage(),
                     model="drafter")
    for answer in (cut, refusal):
        clients = both(lambda _, answer=answer: answer, lambda _: "b")
        async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
            await pipeline.arun(Task(input={"text": "x"}))
            await pipeline.arun(Task(input={"text": "x"}))
        assert len(clients["drafter"].calls) >= 2, answer


async def test_identical_requests_in_flight_are_sent_once(tmp_path: Path) -> None:
    clients = both(lambda _: A)
    async with Pipeline.load(write_pipeline(tmp_path / "p", **CACHED), store="memory:", clients=clients) as pipeline:
        outcomes = [o async for o in pipeline.amap([Task(id=f"t{i}", input={"text": "same"}) for i in range(20)])]
    assert len(outcomes) == 20
    assert len(clients["drafter"].calls) == 1


async def test_a_spot_check_looks_off_the_path_and_becomes_feedback(tmp_path: Path) -> None:
    policy = {**POLICY, "after": [{"name": "look", "sample": 1.0, "then": "spot_check"}]}
    clients = both(lambda _: A, lambda _: B)
    store = f"sqlite:///{tmp_path}/s.db"
    path = write_pipeline(tmp_path / "p", policy=policy)
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(id="t", input={"text": "x"}))
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        later = await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert (outcome.status, outcome.value, outcome.success) == ("accepted", A, None)
    assert outcome.decision is not None
    assert outcome.decision.propensity == 1.0
    assert (later.success, later.success_source, later.value) == (False, "spot_check", A)
    assert [c.role for c in later.calls] == ["draft", "spot_check"]


async def test_a_spent_budget_hands_off_before_anything_is_sent(tmp_path: Path) -> None:
    clients = both(lambda _: A)
    path = write_pipeline(tmp_path / "p", budget={"per_day": "0.00011 USD"})
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcomes = [await pipeline.arun(Task(input={"text": str(i)})) for i in range(9)]
    statuses = [o.status for o in outcomes]
    assert statuses[0] == "accepted"
    assert statuses[-1] == "handed_off"
    assert len(clients["drafter"].calls) == statuses.count("accepted")


async def test_a_budget_refuses_what_has_no_price(tmp_path: Path) -> None:
    clients = {**both(lambda _: A), "drafter": ScriptedModel([A], name="nobody-priced-this")}
    path = write_pipeline(tmp_path / "p", budget={"per_day": "5 USD", "when_spent": "fail"})
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert outcome.status == "failed"
    assert clients["drafter"].calls == []


async def test_an_unpriced_call_costs_null_and_not_zero(tmp_path: Path) -> None:
    clients = {**both(lambda _: A), "drafter": ScriptedModel([A], name="nobody-priced-this")}
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert outcome.cost_usd is None
    assert outcome.calls[0].provenance == "unpriced"


async def test_too_many_escalations_pause_the_pipeline(tmp_path: Path) -> None:
    limit = {"escalation": {"share": 0.5, "window": "1h", "then": "pause", "at_least": 3}}
    clients = both(lambda _: A, lambda _: B)
    path = write_pipeline(tmp_path / "p", policy=ESCALATE, limits=limit)
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        rt = await pipeline.runtime()
        for i in range(3):
            await pipeline.arun(Task(input={"text": str(i)}))
        rt.share_at = 0.0
        with pytest.raises(EscalationPaused, match="escalated"):
            await pipeline.arun(Task(input={"text": "one more"}))
        events = await (await pipeline.astore()).events(pipeline.loaded.config.pipeline)
    assert [event.kind for event in events] == ["escalation_limit"]


class Slow(ScriptedModel):
    """Answers never; says when it was asked."""

    def __init__(self) -> None:
        super().__init__([], name="drafter")
        self.asked = asyncio.Event()

    async def complete(self, request: Request, *, call_id: str, endpoint: str, timeout_s: float) -> Answer:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_cancelled_run_leaves_no_open_call(tmp_path: Path) -> None:
    slow = Slow()
    clients = {"drafter": slow, "validator": ScriptedModel([])}
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        running = asyncio.create_task(pipeline.arun(Task(id="t", input={"text": "x"})))
        await slow.asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        store = await pipeline.astore()
        with store.read() as connection:
            rows = connection.exec_driver_sql("SELECT state, cost_nano, bound_nano > 0 FROM call").all()
    assert [tuple(row) for row in rows] == [("unsettled", None, 1)]


async def test_a_map_given_up_halfway_cancels_what_is_in_flight(tmp_path: Path) -> None:
    slow = Slow()
    answered = ScriptedModel(lambda _: A, name="drafter")

    class Mixed(ScriptedModel):
        async def complete(self, request: Request, **given: Any) -> Answer:
            return await (answered if user_text(request) == "0" else slow).complete(request, **given)

    clients = {"drafter": Mixed([]), "validator": ScriptedModel([])}
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        outcomes = pipeline.amap([Task(id=f"t{i}", input={"text": str(i)}) for i in range(8)], concurrency=2)
        first = await anext(outcomes)
        await outcomes.aclose()
        store = await pipeline.astore()
        with store.read() as connection:
            open_calls = connection.exec_driver_sql("SELECT count(*) FROM call WHERE state = 'intent'").scalar()
    assert first.id == "t0"
    assert open_calls == 0


async def test_a_retry_is_a_call_of_its_own_in_the_ledger(tmp_path: Path) -> None:
    clients = both([ConnectionLost("gone", sent=False), A])
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert [(c.attempt, c.error is None) for c in outcome.calls] == [(1, False), (2, True)]


class Mail(TypedDict):
    ticket: dict[str, str]
    reply: Any


@pytest.mark.parametrize("sync", [True, False])
async def test_it_is_a_node_in_the_callers_own_graph(tmp_path: Path, sync: bool) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph

    path = write_pipeline(tmp_path / "p")
    pipeline = Pipeline.load(path, store=f"sqlite:///{tmp_path}/s.db", clients=both(lambda _: A))
    graph: Any = StateGraph(Mail)
    graph.add_node("label", pipeline.as_node(input="ticket", output="reply"))
    graph.add_edge(START, "label")
    graph.add_edge("label", END)
    compiled = graph.compile(checkpointer=InMemorySaver())
    given, config = {"ticket": {"text": "hello"}}, {"configurable": {"thread_id": "1"}}
    if sync:
        done = await asyncio.to_thread(compiled.invoke, given, config)
        await asyncio.to_thread(pipeline.close)
    else:
        done = await compiled.ainvoke(given, config)
        await pipeline.aclose()
    assert done["reply"] == A


async def test_live_tasks_are_answered_as_they_come(tmp_path: Path) -> None:
    """A source that waits for the first answer before it gives the second task is not held up to fill a group."""
    clients = both(lambda _: A)
    answered = asyncio.Event()

    async def live() -> Any:
        yield Task(id="one", input={"text": "1"})
        await answered.wait()
        yield Task(id="two", input={"text": "2"})

    seen = []
    async with Pipeline.load(write_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        async for outcome in pipeline.amap(live()):
            seen.append(outcome.id)
            answered.set()
    assert seen == ["one", "two"]
