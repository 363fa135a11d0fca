"""handoffs: what waits for a person by rule and reason, and what people answered: once, and as the schema allows."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.errors import InputError
from orchestrator.store.engine import Store
from orchestrator.store.entries import HandOffEntry, StepEntry
from orchestrator.store.resolutions import Resolution
from tests.pipelines import OUTPUT
from tests.stores import Clock, Opener, claim, config, ended

BODY = json.dumps({"steps": {
    "label": {"output": OUTPUT},
    "count": {"output": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}},
}})
ANSWER = {"label": "a"}


async def handed_off(store: Store, *run_ids: str, step: str = "label", rule: str = "budget", reason: str = "") -> None:
    await store.record_config(replace(config(), body_json=BODY))
    await store.claim([claim(run_id) for run_id in run_ids])
    await store.finish([
        ended(run_id, status="handed_off", success=False, success_source="status", contents=(),
              handoff=HandOffEntry(step=step, reason=reason or f"{rule}: of {run_id}"),
              steps=(StepEntry(step=step, status="handed_off", action="hand_off", rule=rule),))
        for run_id in run_ids
    ])


async def refused(store: Store, run_id: str, value: Any) -> str:
    with pytest.raises(InputError) as error:
        await store.resolve_handoff(run_id, value=value, success=True)
    return str(error.value)


async def test_a_value_that_breaks_the_schema_of_the_step_is_refused_and_the_hand_off_stays_open(store: Store) -> None:
    await handed_off(store, "r1", step="count")
    said = await refused(store, "r1", {"n": "three"})
    assert said.startswith("the value for run 'r1' breaks the output schema of step 'count': value.n: ")
    assert '"three" is not of type "integer"' in said
    assert [one.run_id for one in await store.handoffs()] == ["r1"]
    await store.resolve_handoff("r1", value={"n": 3}, success=True)
    assert await store.handoffs() == []


async def test_of_an_early_step_the_value_of_a_later_one_is_taken_but_not_the_other_way_round(store: Store) -> None:
    """The run ends there, and its value is its last step's: which of them a person gives, nobody can know."""
    await handed_off(store, "r1")
    await handed_off(store, "r2", step="count")
    await store.resolve_handoff("r1", value={"n": 3}, success=True)
    assert "breaks the output schema of step 'count'" in await refused(store, "r2", ANSWER)


async def test_without_a_value_there_is_nothing_to_check(store: Store) -> None:
    await handed_off(store, "r1")
    await store.resolve_handoff("r1", value=None, success=False, reason="unreadable")
    assert await store.handoffs() == []


async def test_a_resolution_stands_and_the_error_says_how_to_say_more(store: Store, clock: Clock) -> None:
    await handed_off(store, "r1")
    await store.resolve_handoff("r1", value=ANSWER, success=True)
    with pytest.raises(InputError, match="resolved already, at 1970-01-12 13:46 UTC, and a resolution stands") as error:
        await store.resolve_handoff("r1", value={"label": "b"}, success=False)
    assert "orchestrator outcome r1" in str(error.value.hint)
    clock.now += 1
    await store.record_feedback("r1", success=False)
    stored = await store.stored_outcome("r1")
    assert stored is not None
    assert (stored.value, stored.success) == (ANSWER, False)


async def test_many_are_resolved_in_one_commit_or_none(opened: Opener) -> None:
    store = await opened()
    await handed_off(store, "r1", "r2", "r3")
    good = [Resolution(run_id=f"r{i}", value=ANSWER, success=i != 2) for i in (1, 2)]
    for bad in (Resolution(run_id="r3", value="a", success=True), Resolution(run_id="r4", success=True), good[0]):
        with pytest.raises(InputError):
            await store.resolve_handoffs([*good, bad])
        assert len(await store.handoffs()) == 3
    await store.resolve_handoffs(good)
    assert [one.run_id for one in await store.handoffs()] == ["r3"]
    outcomes = [await store.stored_outcome(one.run_id) for one in good]
    assert [one and (one.success, one.success_source) for one in outcomes] == [(True, "feedback"), (False, "feedback")]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `orchestrator handoffs …` over a store with 60 hand-offs of one rule, 2 of another."""
    url = f"sqlite:///{tmp_path}/s.db"

    async def fill() -> None:
        store = await Store.open(url)
        await handed_off(store, *(f"r{i:02}" for i in range(60)), reason="the day's budget is spent")
        await handed_off(store, "q0", "q1", rule="rejected", reason="validator: " + "no such item; " * 30)
        await store.aclose()

    asyncio.run(fill())

    def run(*arguments: Any) -> tuple[int, str, str]:
        code = run_command(["handoffs", *map(str, arguments), "--store", url])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_list_begins_with_how_many_there_are_of_each_rule(command: Any) -> None:
    code, out, err = command("list")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[:3] == ["hand-offs", "pipeline", "rule"]
    assert [line.split()[:3] for line in lines[1:3]] == [["60", "p", "budget"], ["2", "p", "rejected"]]
    assert lines[4].split() == ["run", "pipeline", "step", "since", "why"]
    assert len(lines[5:]) == 50
    assert "12 more: --limit 62 shows them" in err


def test_a_limit_cuts_the_list_and_says_how_many_more(command: Any) -> None:
    _, out, err = command("list", "--limit", 3)
    assert len(out.splitlines()) == 5 + 3
    assert "59 more" in err
    assert command("list", "--limit", 62)[2] == ""
    assert len(json.loads(command("list", "--json")[1])) == 62
    assert [one["rule"] for one in json.loads(command("list", "--json", "--limit", 2)[1])] == ["rejected"] * 2


def test_long_reasons_are_cut_on_a_terminal_and_whole_elsewhere(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(map(len, command("list")[1].splitlines())) > 400
    monkeypatch.setenv("TERM", "dumb")  # which has 80 columns and no colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = command("list")[1].splitlines()
    assert len(lines) == 5 + 50
    assert max(map(len, lines)) <= 80
    assert any(line.rstrip().endswith("…") for line in lines)


def test_a_file_resolves_many(command: Any, tmp_path: Path) -> None:
    rows = tmp_path / "answers.csv"
    rows.write_text('run_id,value,success,reason\nr00,"{""label"": ""a""}",true,by hand\nr01,,no,unreadable\n')
    assert command("resolve", "--file", rows)[0] == 0
    lines = tmp_path / "answers.jsonl"
    lines.write_text('{"run_id": "r02", "value": {"label": "b"}, "success": true}\n')
    assert command("resolve", "--file", lines)[0] == 0
    waiting = {one["run_id"] for one in json.loads(command("list", "--json")[1])}
    assert waiting == {"q0", "q1", *(f"r{i:02}" for i in range(3, 60))}


def test_a_file_with_a_bad_line_resolves_nothing_and_names_each(command: Any, tmp_path: Path) -> None:
    rows = tmp_path / "answers.jsonl"
    bad = [
        {"run_id": "r00", "value": {"label": "a"}, "success": True}, {"run_id": "r01", "value": {"label": "x"},
        "success": True}, {"run_id": "nosuch", "success": True}, {"run_id": "r00", "success": False},
    ]
    rows.write_text("\n".join(map(json.dumps, bad)) + "\n")
    code, _, err = command("resolve", "--file", rows)
    assert code == 2
    assert "answers.jsonl:2: the value for run 'r01' breaks the output schema of step 'label': value.label: " in err
    assert "answers.jsonl:3: run 'nosuch' was never handed off" in err
    assert "answers.jsonl:4: run 'r00' is resolved twice here" in err
    assert "nothing was recorded" in err
    assert len(json.loads(command("list", "--json")[1])) == 62


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run_id,value,success\nr00,red,true\n", "answers.csv:2: value is 'red', which is not JSON"),
        ("run_id,value,success\nr00,,maybe\n", "answers.csv:2: success is 'maybe'"),
        ("run_id,value,success\n,,true\n", "answers.csv:2: run_id is empty"),
        ("run,success\nr00,true\n", "answers.csv:1: no column run_id; the file has run, success"),
    ],
)
def test_a_file_that_can_t_be_read_says_where(command: Any, tmp_path: Path, text: str, said: str) -> None:
    rows = tmp_path / "answers.csv"
    rows.write_text(text)
    code, _, err = command("resolve", "--file", rows)
    assert (code, said in err) == (2, True), err


@pytest.mark.parametrize("arguments", [[], ["r00"], ["r00", "--success", "--file"], ["--file", "--success"]])
def test_resolve_wants_a_run_and_a_verdict_or_a_file_alone(command: Any, tmp_path: Path, arguments: list[str]) -> None:
    rows = tmp_path / "answers.csv"
    rows.write_text("run_id,success\nr00,true\n")
    given = [part for one in arguments for part in ([one, rows] if one == "--file" else [one])]
    assert command("resolve", *given)[0] == 2
