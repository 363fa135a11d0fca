"""The way of a task: what is drafted, validated, served, and what is never accepted."""

from __future__ import annotations

import asyncio
import gc
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Outcome, Pipeline, Task
from orchestrator.cascade.calls import _through
from orchestrator.errors import CallTimedOut, ConnectionLost, ContextOverflow, RequestRefused, StoreError
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, user_text, write_pipeline

A, B = {"label": "a"}, {"label": "b"}
BROKEN = "not json"


def escalating(**rule: Any) -> dict[str, Any]:
    return {**POLICY, "after": [{"name": "all", "then": "escalate", **rule}]}


def models(draft: Any, verdict: Any = (), **options: Any) -> dict[str, ScriptedModel]:
    return {
        "drafter": ScriptedModel(draft, name="drafter", **options),
        "validator": ScriptedModel(verdict, name="validator"),
    }


async def run_one(
    folder: Path, clients: dict[str, ScriptedModel], task: Task | None = None, **settings: Any
) -> Outcome:
    path = write_pipeline(folder / "p", **settings)
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        return await pipeline.arun(task or Task(id="t", input={"text": "x"}))


async def test_a_draft_the_policy_accepts_is_served_without_asking_the_validator(tmp_path: Path) -> None:
    clients = models([A])
    outcome = await run_one(tmp_path, clients)
    assert (outcome.status, outcome.value, outcome.success) == ("accepted", A, None)
    assert outcome.decision is not None
    assert "UNCERTIFIED" in outcome.decision.explanation
    assert clients["validator"].calls == []


async def test_an_unsure_draft_is_redone_by_the_validator(tmp_path: Path) -> None:
    outcome = await run_one(tmp_path, models([A], [B], logprob=-3.0))
    assert (outcome.status, outcome.value, outcome.success_source) == ("redone", B, "validator")
    assert outcome.decision is not None
    assert outcome.decision.rule == "not_sure"
    assert [call.role for call in outcome.calls] == ["draft", "redo"]


async def test_a_validator_that_agrees_approves(tmp_path: Path) -> None:
    outcome = await run_one(tmp_path, models([A], [A], logprob=-3.0))
    assert outcome.status == "approved"
    assert outcome.steps["label"].draft_ok is True


async def test_a_broken_draft_is_drafted_again_with_another_seed_and_warmer(tmp_path: Path) -> None:
    clients = models([BROKEN, A])
    outcome = await run_one(tmp_path, clients)
    first, second = (call.request for call in clients["drafter"].calls)
    assert outcome.status == "accepted"
    assert second.seed != first.seed
    assert second.temperature > first.temperature
    assert outcome.steps["label"].attempts == 2


@pytest.mark.parametrize("after", [
    [{"name": "always", "then": "accept"}],
    [{"name": "again", "when": "attempt < 9", "then": "redraft"}],
    [{"name": "look", "sample": 1.0, "then": "spot_check"}],
    [],
])
async def test_a_twice_broken_draft_is_never_accepted_whatever_the_rules_say(tmp_path: Path, after: list[Any]) -> None:
    policy = {"policy": "eager", "after": after, "otherwise": "accept"}
    outcome = await run_one(tmp_path, models([BROKEN, BROKEN], [B]), policy=policy)
    assert (outcome.status, outcome.value) == ("redone", B)


async def test_an_after_rule_that_cannot_be_evaluated_escalates(tmp_path: Path) -> None:
    policy = {"policy": "p", "after": [{"name": "odd", "when": "task.meta.amount > 3.0", "then": "accept"}],
              "otherwise": "accept"}
    outcome = await run_one(tmp_path, models([A], [B]), policy=policy)
    assert outcome.status == "redone"
    assert outcome.decision is not None
    assert "cannot be evaluated" in outcome.decision.explanation


async def test_a_before_rule_that_cannot_be_evaluated_keeps_the_task_from_remote_models(tmp_path: Path) -> None:
    policy = {"policy": "p", "before": [{"name": "odd", "when": "task.meta.tier == 'x'", "forbid": ["remote"]}],
              "after": [{"name": "all", "then": "escalate"}]}
    clients = {"drafter": ScriptedModel([A]), "validator": ScriptedModel([B], location="remote")}
    remote = {"location": "remote"}
    outcome = await run_one(tmp_path, clients, policy=policy, validator=remote)
    assert outcome.status == "handed_off"
    assert clients["validator"].calls == []


@pytest.mark.parametrize("meta", [{"residency": "local"}])
async def test_a_task_that_must_stay_home_never_reaches_a_remote_validator(
    tmp_path: Path, meta: dict[str, Any]
) -> None:
    clients = {"drafter": ScriptedModel([A], logprob=-3.0), "validator": ScriptedModel([B], location="remote")}
    outcome = await run_one(tmp_path, clients, Task(input={"text": "x"}, meta=meta), validator={"location": "remote"})
    assert outcome.status == "handed_off"
    assert clients["validator"].calls == []


async def test_judge_approves_or_rejects_and_a_rejection_is_redone(tmp_path: Path) -> None:
    step = {"validate": {"model": "validator", "mode": "judge", "on_reject": "redo"}}
    rejected = {"verdict": "rejected", "reasons": ["wrong letter"]}
    outcome = await run_one(tmp_path, models([A], [rejected, B]), step=step, policy=escalating())
    assert (outcome.status, outcome.value) == ("redone", B)
    assert outcome.verdict is not None
    assert outcome.verdict.reasons == ("wrong letter",)
    assert [call.role for call in outcome.calls] == ["draft", "judge", "redo"]


@pytest.mark.parametrize(("on_reject", "status"), [("hand_off", "handed_off"), ("fail", "failed")])
async def test_on_reject_says_what_a_rejection_means(tmp_path: Path, on_reject: str, status: str) -> None:
    step = {"validate": {"model": "validator", "mode": "judge", "on_reject": on_reject}}
    said = {"verdict": "rejected", "reasons": ["no"]}
    outcome = await run_one(tmp_path, models([A], [said]), step=step, policy=escalating())
    assert (outcome.status, outcome.value, outcome.success) == (status, None, False)


async def test_repair_serves_the_corrected_value(tmp_path: Path) -> None:
    step = {"validate": {"model": "validator", "mode": "repair"}}
    said = {"verdict": "repaired", "reasons": ["letter"], "value": B}
    outcome = await run_one(tmp_path, models([A], [said]), step=step, policy=escalating())
    assert (outcome.status, outcome.value) == ("repaired", B)
    assert outcome.steps["label"].draft_ok is False


async def test_an_unreadable_verdict_is_asked_for_once_more_and_then_counts_as_rejected(tmp_path: Path) -> None:
    step = {"validate": {"model": "validator", "mode": "judge", "on_reject": "hand_off"}}
    clients = models([A], ["I approve!", '{"verdict": "fine"}'])
    outcome = await run_one(tmp_path, clients, step=step, policy=escalating())
    assert outcome.status == "handed_off"
    assert len(clients["validator"].calls) == 2


@pytest.mark.parametrize(("error", "status", "rule"), [
    (ContextOverflow("too long"), "redone", "context_overflow"),
    (RequestRefused("bad parameter"), "redone", "draft_failed"),
    (ConnectionLost("gone"), "failed", "drafter_outage"),
])
async def test_a_drafter_that_gives_no_answer_has_a_defined_end(
    tmp_path: Path, error: Exception, status: str, rule: str
) -> None:
    clients = models([error, error], [B])
    outcome = await run_one(tmp_path, clients, drafter={"retries": 0})
    assert (outcome.status, outcome.decision.rule if outcome.decision else "") == (status, rule)


async def test_a_request_above_max_input_bytes_is_never_sent(tmp_path: Path) -> None:
    clients = models([A], [B])
    outcome = await run_one(
        tmp_path, clients, Task(id="t", input={"text": "x" * 500}), drafter={"max_input_bytes": 400}
    )
    assert (outcome.status, outcome.decision.rule if outcome.decision else "") == ("redone", "context_overflow")
    assert clients["drafter"].calls == []


@pytest.mark.parametrize(("setting", "status"), [
    ("hand_off", "handed_off"), ("fail", "failed"), ("degraded", "accepted"),
])
async def test_a_validator_outage_does_what_the_pipeline_says(tmp_path: Path, setting: str, status: str) -> None:
    clients = models([A], [CallTimedOut("slow")], logprob=-3.0)
    outcome = await run_one(tmp_path, clients, validator={"retries": 0}, on_validator_outage=setting)
    assert outcome.status == status
    assert outcome.degraded is (setting == "degraded")


@pytest.mark.parametrize(("mode", "status", "validated"), [
    ("shadow", "redone", 1), ("draft_only", "accepted", 0), ("validate_only", "redone", 1), ("cascade", "accepted", 0),
])
async def test_modes_serve_whom_they_say(tmp_path: Path, mode: str, status: str, validated: int) -> None:
    clients = models([A], [B])
    outcome = await run_one(tmp_path, clients, mode=mode)
    assert outcome.status == status
    assert len(clients["validator"].calls) == validated
    assert len(clients["drafter"].calls) == (0 if mode == "validate_only" else 1)


async def test_a_label_decides_success_and_require_overrules_it(tmp_path: Path) -> None:
    right = await run_one(tmp_path, models([A]), Task(input={"text": "x"}, expected=A))
    wrong = await run_one(tmp_path, models([A]), Task(input={"text": "x"}, expected=B))
    broken = await run_one(tmp_path, models([A]), Task(input={"text": "x"}, expected=A),
                           success={"require": "value.label == 'z'"})
    assert (right.success, right.success_source) == (True, "label")
    assert (wrong.success, wrong.success_source) == (False, "label")
    assert (broken.success, broken.success_source) == (False, "require")


async def test_the_result_of_a_task_is_the_same_in_any_group(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    tasks = [Task(id=f"t{i}", input={"text": f"text {i}"}) for i in range(60)]

    def answer(request: Any) -> Any:
        number = int(user_text(request).split()[-1])
        return BROKEN if number % 7 == 0 else {"label": "abc"[number % 3]}

    seen: list[dict[str, Any]] = []
    for concurrency in (1, 7, 64):
        order = random.Random(concurrency).sample(tasks, len(tasks))
        clients = {"drafter": ScriptedModel(answer), "validator": ScriptedModel(lambda _: B)}
        async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
            outcomes = [o async for o in pipeline.amap(order, concurrency=concurrency)]
        seen.append({o.id or "": (o.status, o.value, o.decision and o.decision.rule) for o in outcomes})
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        done = await pipeline.graph.ainvoke({"tasks": tasks})
    assert [o.id for o in done["outcomes"]] == [t.id for t in tasks]
    seen.append({o.id: (o.status, o.value, o.decision.rule) for o in done["outcomes"]})
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert len(seen[0]) == 60


async def test_a_task_that_cannot_be_rendered_fails_alone(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    clients = {"drafter": ScriptedModel(lambda _: A), "validator": ScriptedModel([])}
    given = {"good": {"text": "x"}, "bad": {"other": 1}, "ok": {"text": "y"}}
    tasks = [Task(id=name, input=body) for name, body in given.items()]
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        found = {o.id: o.status async for o in pipeline.amap(tasks)}
    assert found == {"good": "accepted", "bad": "failed", "ok": "accepted"}


async def test_a_write_that_fails_for_a_cancelled_call_is_one_line_in_the_log_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    disk_fails = asyncio.Event()

    async def write() -> None:
        await disk_fails.wait()
        raise StoreError("disk I/O error")

    call = asyncio.create_task(_through(write(), "c_1"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0)
    disk_fails.set()
    await asyncio.wait([call])
    assert call.cancelled()
    del call  # and what it holds on to
    gc.collect()
    assert said == []
    assert caplog.messages == ["call c_1 was given up, and is not settled: disk I/O error"]
