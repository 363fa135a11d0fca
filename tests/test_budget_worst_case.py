"""What `run` says of the cost before it starts: never less than it comes to, and no call that can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.batch import RunOptions, arun_file
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import InputError
from orchestrator.pipeline import Pipeline
from orchestrator.records import Answer, Money, Request, Task, Usage
from orchestrator.store.spending import SpentSoFar
from orchestrator.task_file import Size, measure, read
from orchestrator.testing import ScriptedModel
from orchestrator.worst_case import WorstCase, typical, worst_case
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks

TASKS = 3
LONG = "x" * 150
ALWAYS: dict[str, Any] = {**POLICY, "after": [POLICY["after"][0], {"name": "all", "then": "escalate"}]}


def greedy(text: str, name: str) -> ScriptedModel:
    """Answers `text`, and bills all that a provider could: each byte a token, and the whole of max_tokens."""

    def answer(request: Request) -> Answer:
        sent = sum(len(str(m["content"]).encode()) for m in request.messages) + len(orjson.dumps(request.schema or ""))
        return Answer(
            text=text, finish_reason="stop", usage=Usage(input=sent, output=request.max_tokens), model=name
        )

    return ScriptedModel(answer, name=name)


async def worst(folder: Path, path: Path, tasks: int = TASKS, mode: Any = None) -> WorstCase:
    async with Pipeline.load(
        path, store="memory:", mode=mode, clients={name: greedy("", name) for name in ("drafter", "validator")}
    ) as pipeline:
        return worst_case(measure(write_tasks(folder / "tasks.jsonl", tasks)), await pipeline.runtime())


def rules(*after: dict[str, Any], before: Any = ()) -> dict[str, Any]:
    return {"policy": "p", "before": list(before), "after": list(after), "otherwise": "escalate"}


@pytest.mark.parametrize(
    ("mode", "validate", "policy", "validations"),
    [
        ("cascade", {"mode": "redo"}, ALWAYS, 2),
        ("cascade", {"mode": "judge"}, ALWAYS, 4),
        ("cascade", {"mode": "repair"}, ALWAYS, 4),
        ("cascade", {"mode": "judge", "on_reject": "hand_off"}, ALWAYS, 2),
        ("cascade", {"mode": "repair", "on_reject": "fail"}, ALWAYS, 2),
        ("cascade", {"mode": "redo"}, rules({"name": "j", "then": "escalate", "mode": "judge"}), 4),
        ("cascade", {"mode": "judge"}, rules(before=[{"name": "b", "then": "escalate"}]), 2),
        ("shadow", {"mode": "judge"}, ALWAYS, 2),
        ("validate_only", {"mode": "judge"}, ALWAYS, 2),
        ("draft_only", {"mode": "judge"}, ALWAYS, 0),
    ],
)
async def test_no_run_costs_more_than_the_worst_case(
    tmp_path: Path, mode: Any, validate: dict[str, Any], policy: dict[str, Any], validations: int
) -> None:
    """Whatever can go wrong does: drafts are broken, verdicts unreadable, and the validator's own answers too."""
    clients = {"drafter": greedy(LONG, "drafter"), "validator": greedy("no verdict", "validator")}
    path = write_pipeline(tmp_path / "p", policy=policy, step={"validate": {"model": "validator", **validate}})
    most = await worst(tmp_path, path, mode=mode)
    async with Pipeline.load(path, store="memory:", clients=clients, mode=mode) as pipeline:
        tasks = [Task(input={"text": f"text {i}"}) for i in range(TASKS)]
        outcomes = [outcome async for outcome in pipeline.amap(tasks)]
    cost = sum(money.nano for outcome in outcomes for money in outcome.costs)
    assert len(clients["validator"].calls) == validations * TASKS
    (limit,) = most.costs
    assert 0 < cost <= limit.nano


@pytest.mark.parametrize("name", ["tasks.jsonl", "tasks.csv"])
async def test_what_a_schema_fills_in_and_what_a_header_names_is_in_the_worst_case(tmp_path: Path, name: str) -> None:
    path = write_pipeline(tmp_path / "p", policy=ALWAYS, task="task.json")
    (path.parent / "prompt.md").write_text("{{ task.input | tojson }} {{ task.meta | tojson }}\n")
    desk = {"type": "object", "properties": {"desk": {"type": "string", "default": "d" * 500}}}
    nested = {"type": "object", "properties": {"place": desk}}
    schema = {"type": "object", "properties": {"meta": desk, "input": nested}}
    (path.parent / "task.json").write_bytes(orjson.dumps(schema))
    columns, file = [f"a_long_name_of_a_column_{i}" for i in range(9)], tmp_path / name
    rows = [dict.fromkeys(columns, "x") for _ in range(TASKS)]
    if file.suffix == ".csv":
        file.write_text("\n".join([",".join(columns), *(",".join(row.values()) for row in rows)]) + "\n")
    else:
        file.write_bytes(b"\n".join(orjson.dumps({"input": {**row, "place": {}}}) for row in rows) + b"\n")
    clients = {one: greedy(LONG, one) for one in ("drafter", "validator")}
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        (limit,) = worst_case(measure(file), await pipeline.runtime()).costs
        given = [line.task for line in read(file, task_bytes=100_000, schema=None) if line.task is not None]
        outcomes = [outcome async for outcome in pipeline.amap(given)]
    assert len(outcomes) == TASKS
    assert 0 < sum(money.nano for outcome in outcomes for money in outcome.costs) <= limit.nano


async def test_the_worst_case_counts_no_call_that_the_mode_and_on_reject_rule_out(tmp_path: Path) -> None:
    async def of(**validate: Any) -> int:
        path = write_pipeline(tmp_path / "p", policy=ALWAYS, step={"validate": {"model": "validator", **validate}})
        (cost,) = (await worst(tmp_path, path, tasks=100)).costs
        return cost.nano

    redo, stops = await of(mode="redo"), await of(mode="repair", on_reject="hand_off")
    both = await of(mode="repair", on_reject="redo")
    assert redo < both
    assert stops < both
    drafts_only = (await worst(tmp_path, tmp_path / "p" / "pipeline.yaml", tasks=100, mode="draft_only")).costs[0].nano
    assert both - drafts_only == (redo - drafts_only) + (stops - drafts_only)


async def test_an_answer_by_the_validator_alone_is_counted_where_there_is_a_baseline(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=ALWAYS)
    without = (await worst(tmp_path, path)).costs[0].nano
    path = write_pipeline(tmp_path / "p", policy=ALWAYS, baseline=0.5)
    assert (await worst(tmp_path, path)).costs[0].nano > without


async def test_a_model_without_a_price_is_named_and_not_counted(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=ALWAYS, drafter={"use": "openai:drafter"})
    async with Pipeline.load(
        path, store="memory:", clients={"drafter": greedy("", "unknown"), "validator": greedy("", "validator")}
    ) as pipeline:
        found = worst_case(Size(lines=1, size_bytes=10, longest=10), await pipeline.runtime())
    assert found.unpriced == ("unknown",)
    assert len(found.costs) == 1


def test_the_typical_cost_is_the_mean_of_the_runs_so_far() -> None:
    seen = SpentSoFar(runs=3, costs=(Money(nano=1_000_000),))
    assert typical(1_000, seen) == (
        "typical: 0.333 USD (1,000 tasks at the mean of this pipeline's last 3 answered runs in this mode)"
    )
    assert typical(1_000, SpentSoFar(runs=2, costs=())).startswith("typical: nothing (1,000 tasks")
    assert typical(1_000, SpentSoFar(runs=0, costs=())) == typical(1_000, None) == ""


async def test_run_says_the_typical_cost_once_there_is_history_and_asks_with_both(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 20)
    asked: list[str] = []

    async def run(**given: Any) -> Any:
        async with Loopback(models=("drafter", "validator")) as server:
            model = {"endpoints": [server.url], "retries": 0}
            path = write_pipeline(tmp_path / "p", drafter=model, validator=model, budget={"per_month": "0.01 USD"})
            return await arun_file(RunOptions(
                pipeline=path, tasks=tmp_path / "tasks.jsonl", out=tmp_path / "out.jsonl",
                store=f"sqlite:///{tmp_path}/s.db", **given,
            ))

    first = await run(yes=True, limit=5)
    assert first.typical == ""
    with pytest.raises(InputError, match="above the budget"):
        await run(confirm=lambda words: bool(asked.append(words)))
    assert "(15 tasks at the mean of this pipeline's last 5 answered runs in this mode)" in asked[0]
    assert "above the limit of 0.01 USD" in asked[0]


async def test_the_typical_cost_leaves_the_drafts_of_calibrate_out(tmp_path: Path) -> None:
    path, url = write_pipeline(tmp_path / "p", policy=ALWAYS), f"sqlite:///{tmp_path}/s.db"
    clients = {"drafter": greedy('{"label":"a"}', "drafter"), "validator": greedy('{"label":"b"}', "validator")}
    tasks = [Task(input={"text": f"text {i}"}, expected={"label": "a"}) for i in range(4)]
    async with Pipeline.load(path, store=url, clients=clients) as pipeline:
        outcome = await pipeline.arun(tasks[0])
    async with Pipeline(load_pipeline(path), store=url, clients=clients, calibrating=True) as pipeline:
        async for _ in pipeline.collect(tasks):
            pass
        seen = await (await pipeline.runtime()).store.spent_so_far("labels")
    assert seen == SpentSoFar(runs=1, costs=outcome.costs)
