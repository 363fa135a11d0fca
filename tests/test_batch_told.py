"""What a file run tells: by what tasks are known to be successes, what is of another configuration, what is left."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch import RunOptions, RunSummary, arun_file
from orchestrator.commands.run import run
from orchestrator.config.quantities import parse_money
from orchestrator.errors import Cancelled, InputError, Outage, StoreError
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks
from tests.trail import command, rows

MODELS = ("drafter", "validator")
CHECKED = {
    "policy": "checked",
    "after": [
        {"name": "long", "when": 'task.input.text.contains("1")', "then": "escalate"},
        {"name": "look", "sample": 0.999999, "then": "spot_check"},
    ],
    "otherwise": "accept",
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with Loopback(models=MODELS) as server:
        yield server.url


def asked(folder: Path, url: str, *, settings: dict[str, Any] | None = None, **given: Any) -> RunOptions:
    model = {"endpoints": [url], "retries": 0}
    settings = {"drafter": model, **(settings or {})}
    settings["validator"] = {**model, **settings.get("validator", {})}
    path = write_pipeline(folder / "p", **settings)
    given = {"out": folder / "out.jsonl", "yes": True, **given}
    return RunOptions(pipeline=path, tasks=folder / "tasks.jsonl", store=f"sqlite:///{folder}/store.db", **given)


def words(one: RunOptions, *more: str) -> list[str]:
    return ["run", str(one.pipeline), str(one.tasks), "--out", str(one.out), "--store", one.store, "--yes", *more]


async def run_with(one: RunOptions, **changed: Any) -> RunSummary:
    fields = {name: getattr(one, name) for name in RunOptions.__dataclass_fields__}
    return await arun_file(RunOptions(**{**fields, **changed}))


# -- by whose word -----------------------------------------------------------------------------------------------------


async def test_the_validators_own_word_is_not_counted_as_evidence_of_success(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 12)
    one = asked(tmp_path, url, settings={"policy": CHECKED})
    _, first = await command(capsys, *words(one))
    assert re.search(r"^successes +3 +by the validator's own word", first, re.MULTILINE), first
    assert re.search(r"^ +9 +unknown: accepted, and not looked at", first, re.MULTILINE)
    assert re.search(r"^spot checks +9 +\d drafts right", first, re.MULTILINE)
    _, again = await command(capsys, *words(one))
    right = rows(tmp_path, "SELECT count(*) FROM spot_check WHERE draft_ok")[0][0]
    assert re.search(rf"^successes +{right} of 9 +in all +by spot check", again, re.MULTILINE), again
    assert re.search(r"^ +3 +in all +by the validator's own word", again, re.MULTILINE)
    assert "12 of 12" not in again


async def test_json_has_successes_by_source(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 12)
    summary = await arun_file(asked(tmp_path, url, settings={"policy": CHECKED}))
    assert (summary.known_by, summary.succeeded_by) == ({"validator": 3}, {"validator": 3})
    assert (summary.known, summary.succeeded) == (3, 3)


# -- under another configuration ---------------------------------------------------------------------------------------


async def test_outcomes_of_a_changed_prompt_are_told_by_what_changed_and_how_to_have_others(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 8)
    one = asked(tmp_path, url)
    await arun_file(one)
    with (one.pipeline.parent / "prompt.md").open("a") as prompt:
        prompt.write("Be careful.\n")
    write_tasks(tmp_path / "tasks.jsonl", 10)
    _, told = await command(capsys, *words(one))
    before = r"8 of them done before, 8 under another configuration \(prompt changed\)"
    assert re.search(rf"^tasks +10 +in all +{before}", told, re.MULTILINE), told
    assert "8 outcomes here stood before, under another configuration: prompt changed since." in told
    assert "give them new ids" in told


@pytest.mark.parametrize(("settings", "name"), [
    ({"validator": {"max_tokens": 33}}, "validator params"),
    ({"policy": {**POLICY, "otherwise": "escalate"}}, "policy"),
    ({"step": {"confidence": {"from": "logprob.mean", "threshold": -0.4}}}, "threshold"),
    ({"mode": "validate_only"}, "mode"),
    ({"success": {"require": "value.label != 'c'"}}, "success"),
])
async def test_each_setting_that_matters_to_an_answer_is_named(
    tmp_path: Path, url: str, settings: dict[str, Any], name: str
) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 3)
    await arun_file(asked(tmp_path, url))
    mode = settings.get("mode")
    summary = await arun_file(asked(tmp_path, url, settings={} if mode else settings, mode=mode))
    assert (summary.resumed, summary.otherwise, summary.changed) == (3, 3, {name: 3})


async def test_what_touches_no_answer_is_no_other_configuration(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 3)
    await arun_file(asked(tmp_path, url))
    summary = await arun_file(asked(tmp_path, url, settings={"owner": "finance", "budget": {"per_day": "5 USD"}}))
    assert (summary.resumed, summary.otherwise) == (3, 0)


# -- what is left ------------------------------------------------------------------------------------------------------


async def test_the_worst_case_and_the_typical_are_of_the_tasks_that_are_left(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 1200)
    one = asked(tmp_path, url)
    first = await run_with(one, limit=20)
    second = await run_with(one, limit=30)
    assert (first.remaining, second.remaining) == (20, 10)
    assert second.typical.startswith("typical: ")
    assert "(10 tasks at the mean of this pipeline's last 20 answered runs in this mode)" in second.typical
    assert second.worst_case is not None
    assert first.worst_case is not None
    assert second.worst_case.costs[0].nano < first.worst_case.costs[0].nano
    with pytest.raises(InputError, match="above --max-cost"):
        await run_with(one, yes=False, max_cost=first.worst_case.costs[0])
    third = await run_with(one, limit=30, yes=False, max_cost=first.worst_case.costs[0])
    assert (third.remaining, third.typical, third.stopped) == (0, "", "")
    assert third.worst_case is not None
    assert [cost.nano for cost in third.worst_case.costs] == [0]


async def test_what_is_to_be_done_again_is_left(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 6)
    hand_off = {"policy": {"policy": "p", "after": [{"name": "person", "then": "hand_off"}]}}
    one = asked(tmp_path, url, settings=hand_off)
    await arun_file(one)
    assert (await arun_file(one)).remaining == 0
    assert (await run_with(one, again=("handed_off",))).remaining == 6


async def test_lines_without_an_id_and_bad_ones_are_looked_up_too(tmp_path: Path, url: str) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"input": {"text": "a"}}\n{bad\n{"input": {"text": "a"}}\n')
    one = asked(tmp_path, url)
    assert (await arun_file(one)).tasks == 2
    again = await arun_file(one)
    assert (again.remaining, again.resumed, again.rejected) == (0, 2, 1)


async def test_the_typical_cost_is_of_answered_runs_of_the_same_mode(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 9)
    one = asked(tmp_path, url)
    await run_with(one, limit=3, mode="validate_only")
    assert (await run_with(one, limit=5)).typical == ""
    hand_off = {"policy": {"policy": "p", "after": [{"name": "person", "then": "hand_off"}]}}
    await run_with(asked(tmp_path, url, settings=hand_off), limit=7)
    last = await arun_file(asked(tmp_path, url))
    assert "(2 tasks at the mean of this pipeline's last 2 answered runs" in last.typical


# -- costs and codes ---------------------------------------------------------------------------------------------------


async def test_the_typical_cost_is_told_before_the_worst_case(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 6)
    one = asked(tmp_path, url)
    await run_with(one, limit=4)
    _, told = await command(capsys, *words(one))
    assert re.search(r"^typical: .* \(2 tasks at .*\)\nworst case of the 2 tasks left: ", told, re.MULTILINE), told


async def test_the_question_whether_to_go_on_names_the_typical_cost_first(tmp_path: Path, url: str) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 6)
    one, questions = asked(tmp_path, url), list[str]()
    await run_with(one, limit=4)
    with pytest.raises(InputError, match="not started"):
        await run_with(one, yes=False, max_cost=parse_money("0.000001 USD"),
                       confirm=lambda question: bool(questions.append(question)))
    assert re.match(r"typical: .*; worst case of the 2 tasks left: .*Go on\?$", questions[0])


async def test_nothing_spent_is_nothing_of_a_currency(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 3)
    one = asked(tmp_path, url)
    await arun_file(one)
    _, told = await command(capsys, *words(one))
    assert re.search(r"^spent +0 USD +of this run", told, re.MULTILINE), told


def test_the_help_tells_the_exit_codes_that_there_are() -> None:
    """Each is tried in test_batch.py and test_cli.py."""
    told = (run.help or "").partition("Exit codes: ")[2].partition("Examples:")[0]
    errors = {kind.exit_code for kind in (StoreError, InputError, Outage, Cancelled)}
    assert {int(code) for code in re.findall(r"\b\d+\b", told)} == errors | {0}
