"""How tasks end: steps in a row, samples, guards, overrides, hand-offs, feedback, the baseline, and what is kept.

Longer than 300 lines because it is one list, of how a run may end, and is read as one.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Outcome, Pipeline, Task
from orchestrator.cascade.rules import draw
from orchestrator.cli import run_command
from orchestrator.errors import ServerFailed
from orchestrator.testing import ScriptedModel
from tests.pipelines import dump, user_text, write_pipeline, write_tasks

A, B, C = {"label": "a"}, {"label": "b"}, {"label": "c"}
LOCAL = {"location": "local", "max_tokens": 32, "retries": 0}
ALWAYS: dict[str, Any] = {"policy": "p", "after": [{"name": "all", "then": "accept"}], "otherwise": "accept"}


def policy(*after: dict[str, Any], before: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"policy": "p", "before": list(before), "after": list(after), "otherwise": "accept"}


def both(draft: Any, verdict: Any = (), **options: Any) -> dict[str, ScriptedModel]:
    return {
        "drafter": ScriptedModel(draft, name="drafter", **options),
        "validator": ScriptedModel(verdict, name="validator"),
    }


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/s.db"


def rows(folder: Path, statement: str) -> list[Any]:
    with sqlite3.connect(folder / "s.db") as connection:
        return connection.execute(statement).fetchall()


async def run_one(
    folder: Path, clients: dict[str, ScriptedModel], task: Task | None = None, **settings: Any
) -> Outcome:
    path = write_pipeline(folder / "p", **settings)
    async with Pipeline.load(path, store=url(folder), clients=clients) as pipeline:
        return await pipeline.arun(task or Task(id="t", input={"text": "x"}))


# -- several steps ---------------------------------------------------------------------------------------------------


def two_steps(folder: Path, *, when: str | None = None, first: dict[str, Any] | None = None) -> Path:
    """`sort` gives a label; `extract` reads it in its prompt and gives another."""
    path = write_pipeline(folder / "p")
    (path.parent / "second.md").write_text("after {{ steps.sort.value.label }}: {{ task.input.text }}\n")
    step = {
        "prompt": "prompt.md", "output": "output.json", "draft": {"model": "drafter"}, "policy": "always.yaml",
        "signals": ["schema"], "validate": {"model": "validator", "mode": "redo"},
    }
    second = {**step, "id": "extract", "prompt": "second.md", **({"when": when} if when else {})}
    folder = path.parent
    dump(folder / "always.yaml", ALWAYS)
    if first is not None:
        dump(folder / "first.yaml", first)
    sort = {**step, "id": "sort", **({"policy": "first.yaml"} if first is not None else {})}
    models = {name: {"use": f"openai:{name}", "endpoints": ["http://127.0.0.1:9/v1"], **LOCAL}
              for name in ("drafter", "validator")}
    dump(path, {"pipeline": "two", "models": models, "steps": [sort, second], "prices": "prices.yaml"})
    return path


def by_step(request: Any) -> Any:
    return B if user_text(request).startswith("after") else A


async def test_a_later_step_reads_the_value_served_by_the_earlier_one(tmp_path: Path) -> None:
    """The first draft is redone: what the second step sees is the validator's value."""
    clients = both(by_step, lambda _: C)
    path = two_steps(tmp_path, first=policy({"name": "all", "then": "escalate"}))
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert user_text(clients["drafter"].calls[1].request) == "after c: x"
    assert (outcome.status, outcome.value) == ("redone", B)
    assert {name: step.value for name, step in outcome.steps.items()} == {"sort": C, "extract": B}


@pytest.mark.parametrize(("label", "value", "asked"), [("a", B, 2), ("b", A, 1)])
async def test_a_step_whose_when_is_false_is_skipped_and_the_value_is_the_last_one_that_ran(
    tmp_path: Path, label: str, value: Any, asked: int
) -> None:
    clients = both(by_step)
    path = two_steps(tmp_path, when=f"steps.sort.value.label == '{label}'")
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(id="t", input={"text": "x"}))
        again = await pipeline.arun(Task(id="t", input={"text": "x"}))
    assert (outcome.status, outcome.value, len(clients["drafter"].calls)) == ("accepted", value, asked)
    assert (again.value, again.resumed) == (value, True)


async def test_a_when_that_cannot_be_evaluated_hands_off(tmp_path: Path) -> None:
    clients = both(by_step)
    path = two_steps(tmp_path, when="task.meta.wanted == true")
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert (outcome.status, outcome.value, len(clients["drafter"].calls)) == ("handed_off", None, 1)


async def test_an_early_hand_off_ends_the_run(tmp_path: Path) -> None:
    clients = both(by_step)
    path = two_steps(tmp_path, first=policy({"name": "person", "then": "hand_off"}))
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert (outcome.status, outcome.value, list(outcome.steps)) == ("handed_off", None, ["sort"])
    assert len(clients["drafter"].calls) == 1


@pytest.mark.parametrize(("expected", "success"), [(B, True), (A, False)])
async def test_a_label_is_compared_with_the_last_steps_value_and_draft(
    tmp_path: Path, expected: Any, success: bool
) -> None:
    async with Pipeline.load(two_steps(tmp_path), store="memory:", clients=both(by_step)) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}, expected=expected))
    assert (outcome.success, outcome.success_source) == (success, "label")
    assert (outcome.steps["sort"].draft_ok, outcome.steps["extract"].draft_ok) == (None, success)


# -- no draft, samples, overrides, guards ----------------------------------------------------------------------------


async def test_a_task_that_skips_the_drafter_is_redone_whatever_the_mode(tmp_path: Path) -> None:
    before = ({"name": "hard", "when": "size(task.input.text) > 3", "then": "escalate"},)
    clients = both((), [B])
    outcome = await run_one(
        tmp_path, clients, Task(input={"text": "long"}), policy=policy(before=before),
        step={"validate": {"model": "validator", "mode": "judge"}},
    )
    assert (outcome.status, outcome.value, [c.role for c in outcome.calls]) == ("redone", B, ["redo"])
    assert outcome.steps["label"].draft_ok is None


@pytest.mark.parametrize(("third", "status"), [(A, "accepted"), (B, "redone")])
async def test_agreement_asks_for_samples_and_their_calls_are_recorded_as_such(
    tmp_path: Path, third: Any, status: str
) -> None:
    unsure = policy({"name": "unsure", "when": "confidence < threshold", "then": "escalate"})
    clients = both(lambda r: third if r.sample == 2 else A, lambda _: C)
    outcome = await run_one(
        tmp_path, clients, policy=unsure,
        step={"signals": ["schema", {"agreement": {"k": 3}}], "confidence": {"from": "agreement", "threshold": 0.9}},
    )
    assert outcome.status == status
    roles = Counter(role for (role,) in rows(tmp_path, "SELECT role FROM call"))
    assert roles == {"draft": 1, "sample": 2} | ({"redo": 1} if status == "redone" else {})
    seeds = [asked.request.seed for asked in clients["drafter"].calls]
    assert len(set(seeds)) == 3
    assert len([c for c in outcome.calls if c.role == "sample" and c.cost is not None]) == 2


async def test_a_rule_may_name_another_model_and_mode(tmp_path: Path) -> None:
    path = write_pipeline(
        tmp_path / "p",
        policy=policy({"name": "all", "then": "escalate", "to": "large", "mode": "judge"}),
    )
    text = path.read_text().replace("models:\n", "models:\n  large: {use: 'openai:large', location: local, "
                                    "endpoints: ['http://127.0.0.1:9/v1']}\n")
    path.write_text(text)
    clients = {**both([A]), "large": ScriptedModel([{"verdict": "approved", "reasons": []}], name="large")}
    async with Pipeline.load(path, store=url(tmp_path), clients=clients) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "x"}))
    assert outcome.status == "approved"
    assert [(c.role, c.model) for c in outcome.calls] == [("draft", "drafter"), ("judge", "large")]


def no_b(value: Any, task: Task) -> bool:
    return bool(value != B)


def breaks(value: Any, task: Task) -> bool:
    raise RuntimeError("no opinion")


def calm(task: Task) -> bool:
    return "angry" in task.input["text"]


@pytest.mark.parametrize(("guard", "draft", "status"), [
    ("no_b", A, "accepted"), ("no_b", B, "handed_off"), ("breaks", A, "handed_off"),
])
async def test_a_guard_looks_at_every_answer_and_fails_closed(
    tmp_path: Path, guard: str, draft: Any, status: str
) -> None:
    outcome = await run_one(
        tmp_path, both([draft]), policy=ALWAYS, guards=[f"tests.test_outcomes:{guard}"],
        allow_imports=["tests.test_outcomes"],
    )
    assert outcome.status == status
    assert outcome.value == (A if status == "accepted" else None)
    if status == "handed_off":
        assert guard in rows(tmp_path, "SELECT reason FROM hand_off")[0][0]


async def test_a_guard_before_stops_a_task_before_anything_is_sent(tmp_path: Path) -> None:
    before = ({"name": "temper", "guard": "tests.test_outcomes:calm", "then": "hand_off"},)
    clients = both(lambda _: A)
    outcome = await run_one(
        tmp_path, clients, Task(input={"text": "angry"}), policy=policy(before=before),
        allow_imports=["tests.test_outcomes"],
    )
    assert (outcome.status, clients["drafter"].calls) == ("handed_off", [])


@pytest.mark.parametrize("logprob", [-0.01, -3.0])
async def test_shadow_serves_the_validator_and_records_what_was_decided(tmp_path: Path, logprob: float) -> None:
    clients = both([A], [B], logprob=logprob)
    outcome = await run_one(tmp_path, clients, mode="shadow")
    assert (outcome.status, outcome.value) == ("redone", B)
    assert outcome.decision is not None
    assert outcome.decision.explanation.startswith(f"shadow: would {'accept' if logprob > -0.5 else 'escalate'}")
    assert outcome.decision.rule == ("otherwise" if logprob > -0.5 else "not_sure")
    assert rows(tmp_path, "SELECT rule, draft_ok FROM step") == [(outcome.decision.rule, 0)]


# -- what is learned later -------------------------------------------------------------------------------------------


async def test_a_cache_hit_follows_its_sources_later_failure(tmp_path: Path) -> None:
    clients = both(lambda _: A)
    path = write_pipeline(tmp_path / "p", cache={"ttl": "1h"})
    async with Pipeline.load(path, store=url(tmp_path), clients=clients) as pipeline:
        source = await pipeline.arun(Task(id="one", input={"text": "x"}))
        hit = await pipeline.arun(Task(id="two", input={"text": "x"}))
        await pipeline.arecord_outcome(source.run_id, success=False)
        told = await pipeline.arun(Task(id="two", input={"text": "x"}))
        fresh = await pipeline.arun(Task(id="three", input={"text": "x"}))
    assert (hit.success, told.success, told.success_source) == (None, False, "feedback")
    assert fresh.success is None
    assert len(clients["drafter"].calls) == 2, "the failed answer is in no cache any more"


def scripted(config: Any) -> ScriptedModel:
    return ScriptedModel(lambda _: A, name="drafter")


def by_command(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """Three tasks through `orchestrator run`; the lines of OUT."""
    model = {"use": "python:tests.test_outcomes:scripted", "endpoints": [], "price": "drafter"}
    path = write_pipeline(
        folder / "p", drafter=model, validator=model, allow_imports=["tests.test_outcomes"], cache={"ttl": "1h"},
        **settings,
    )
    write_tasks(folder / "tasks.jsonl", 3)
    out = folder / "out.jsonl"
    assert run_command(["run", str(path), str(folder / "tasks.jsonl"), "--out", str(out), "--store", url(folder)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_feedback_by_command_is_what_counts_and_evicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = by_command(tmp_path)
    assert rows(tmp_path, "SELECT count(*) FROM answer") == [(3,)]
    run_id = done[0]["run_id"]
    assert run_command(["outcome", run_id, "--failure", "--reason", "wrong", "--store", url(tmp_path)]) == 0
    assert rows(tmp_path, "SELECT count(*) FROM answer") == [(2,)]
    capsys.readouterr()
    assert run_command(["report", "--store", url(tmp_path), "--json"]) == 0
    assert '"feedback"' in capsys.readouterr().out
    assert run_command(["outcome", "r_unknown", "--failure", "--store", url(tmp_path)]) == 2


def test_hand_offs_are_listed_and_resolved_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = by_command(tmp_path, policy=policy({"name": "person", "then": "hand_off"}))
    run_id = done[1]["run_id"]
    capsys.readouterr()
    assert run_command(["handoffs", "list", "--json", "--store", url(tmp_path)]) == 0
    waiting = json.loads(capsys.readouterr().out)
    assert {one["run_id"] for one in waiting} == {line["run_id"] for line in done}
    assert waiting[0]["contents"]["task"]["input"]["text"].startswith("text")
    resolve = ["handoffs", "resolve", run_id, "--value", '{"label": "c"}', "--success", "--store", url(tmp_path)]
    assert run_command(resolve) == 0
    assert run_command(resolve) == 2, "a hand-off is resolved once"
    capsys.readouterr()
    assert run_command(["handoffs", "list", "--json", "--store", url(tmp_path)]) == 0
    assert run_id not in capsys.readouterr().out


def test_forget_by_command_leaves_accounts_and_frees_the_id(tmp_path: Path) -> None:
    by_command(tmp_path)
    spent = rows(tmp_path, "SELECT sum(cost_nano), count(*) FROM call")
    assert run_command(["forget", "--task", "t1", "--yes", "--store", url(tmp_path)]) == 0
    assert rows(tmp_path, "SELECT sum(cost_nano), count(*) FROM call") == spent
    assert rows(tmp_path, "SELECT count(*) FROM content WHERE kind = 'task'") == [(2,)]
    assert rows(tmp_path, "SELECT count(*) FROM answer") == [(2,)]
    assert b"text 1" not in (tmp_path / "s.db").read_bytes()


# -- what is kept ----------------------------------------------------------------------------------------------------


async def test_without_retention_nothing_is_cached_and_a_resumed_run_still_uses_its_answers(tmp_path: Path) -> None:
    """The validator's process ends between draft and verdict; the draft is not paid for again."""
    escalate = policy({"name": "all", "then": "escalate"})
    settings: dict[str, Any] = {"policy": escalate, "content": {"keep": "none"}, "cache": {"ttl": "1h"}}
    task = Task(id="t", input={"text": "x"})
    first = both([A], [KeyboardInterruption()])
    with pytest.raises(KeyboardInterruption):
        await run_one(tmp_path, first, task, **settings)
    assert rows(tmp_path, "SELECT count(*) FROM answer") == [(1,)]
    second = both((), [B])
    outcome = await run_one(tmp_path, second, task, **settings)
    assert (outcome.status, outcome.value) == ("redone", B)
    assert second["drafter"].calls == []
    for table in ("content", "answer"):
        assert rows(tmp_path, f"SELECT count(*) FROM {table}") == [(0,)]
    third = both([A], [B])
    await run_one(tmp_path, third, Task(id="u", input={"text": "x"}), **settings)
    assert len(third["drafter"].calls) == 1


class KeyboardInterruption(Exception):
    """What no code of the house expects: the run is given up where it stands."""


# -- the baseline ----------------------------------------------------------------------------------------------------


async def test_a_baseline_asks_the_validator_alone_and_counts_in_no_run(tmp_path: Path) -> None:
    clients = both(lambda _: A, lambda _: B)
    outcome = await run_one(tmp_path, clients, baseline=1.0, policy=ALWAYS)
    [(run_id, cost)] = rows(tmp_path, "SELECT run_id, cost_nano FROM call WHERE role = 'baseline'")
    assert run_id == outcome.run_id
    assert cost > 0
    assert [c.role for c in outcome.calls] == ["draft"]
    [(of_run,)] = rows(tmp_path, "SELECT cost_nano FROM outcome")
    assert (of_run,) == rows(tmp_path, "SELECT cost_nano FROM call WHERE role = 'draft'")[0]
    assert rows(tmp_path, "SELECT count(*) FROM feedback") == [(0,)]
    assert clients["validator"].calls[0].request.messages == clients["drafter"].calls[0].request.messages


async def test_a_baseline_is_paid_for_even_where_the_cache_knows_the_answer(tmp_path: Path) -> None:
    clients = both(lambda _: A, lambda _: B)
    escalate = policy({"name": "all", "then": "escalate"})
    await run_one(tmp_path, clients, baseline=1.0, policy=escalate, cache={"ttl": "1h"})
    roles = Counter(role for (role,) in rows(tmp_path, "SELECT role FROM call"))
    assert roles == {"draft": 1, "redo": 1, "baseline": 1}


async def test_a_baselines_share_is_drawn_by_the_run_and_resuming_draws_no_second(tmp_path: Path) -> None:
    clients = both(lambda _: A, lambda _: B)
    path = write_pipeline(tmp_path / "p", baseline=0.3, policy=ALWAYS)
    tasks = [Task(id=f"t{i}", input={"text": f"text {i}"}) for i in range(60)]
    outcomes: list[Outcome] = []
    for _ in range(2):
        async with Pipeline.load(path, store=url(tmp_path), clients=clients) as pipeline:
            outcomes = [o async for o in pipeline.amap(tasks)]
    drawn = {o.run_id for o in outcomes if draw(o.run_id, "baseline") < 0.3}
    asked = [run_id for (run_id,) in rows(tmp_path, "SELECT run_id FROM call WHERE role = 'baseline'")]
    assert sorted(asked) == sorted(drawn)
    assert 0 < len(drawn) < 60


async def test_a_baseline_walks_all_steps_on_values_of_its_own(tmp_path: Path) -> None:
    path = two_steps(tmp_path)
    path.write_text(path.read_text() + "baseline: 1.0\n")
    clients = both(by_step, lambda _: C)
    async with Pipeline.load(path, store=url(tmp_path), clients=clients) as pipeline:
        await pipeline.arun(Task(input={"text": "x"}))
    assert [user_text(asked.request) for asked in clients["validator"].calls] == ["x", "after c: x"]
    assert rows(tmp_path, "SELECT step FROM call WHERE role = 'baseline' ORDER BY started_at, step") == [
        ("sort",), ("extract",)]


async def test_an_unanswered_baseline_changes_nothing(tmp_path: Path) -> None:
    clients = both([A], lambda _: ServerFailed("it broke"))
    outcome = await run_one(tmp_path, clients, baseline=1.0, policy=ALWAYS, validator={"retries": 0})
    assert outcome.status == "accepted"


async def test_the_graph_starts_spot_checks_and_baselines_as_every_door_does(tmp_path: Path) -> None:
    clients = both(lambda _: A, lambda _: B)
    look = policy({"name": "look", "sample": 1.0, "then": "spot_check"})
    path = write_pipeline(tmp_path / "p", policy=look, baseline=1.0)
    async with Pipeline.load(path, store=url(tmp_path), clients=clients) as pipeline:
        await pipeline.graph.ainvoke({"tasks": [Task(input={"text": "x"})]})
    roles = Counter(role for (role,) in rows(tmp_path, "SELECT role FROM call"))
    assert roles == {"draft": 1, "spot_check": 1, "baseline": 1}
    assert rows(tmp_path, "SELECT state FROM spot_check") == [("done",)]
