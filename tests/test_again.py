"""What a file run handed off for want of money or of a model is done again on request: once, and paid once."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch import RunOptions, RunSummary, arun_file
from orchestrator.cascade.again import REASONS
from orchestrator.commands.run import AGAIN
from orchestrator.errors import InputError
from orchestrator.store.engine import Store
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks
from tests.trail import command, rows

MODELS = ("drafter", "validator")
KILLS = max(2, int(os.environ.get("ORCHESTRATOR_KILLS", "6")) // 3)
HARD = {"name": "hard", "when": 'task.input.text.endsWith("3")', "then": "escalate"}
POOR, RICH = "0.001 USD", "1 USD"
"""For a draft, but not for a validation; and for both."""


class Place:
    """Fourteen tasks of which t3 and t13 need the validator, and a provider that counts."""

    def __init__(self, folder: Path, server: Loopback) -> None:
        self.folder, self.server = folder, server
        self.out, self.people = folder / "out.jsonl", folder / "people.jsonl"
        write_tasks(folder / "tasks.jsonl", 14)
        self.set(POOR)

    def set(self, per_task: str, **settings: Any) -> None:
        model = {"endpoints": [self.server.url], "retries": 0}
        policy = {**POLICY, "after": [HARD, *POLICY["after"]]}
        self.pipeline = write_pipeline(
            self.folder / "p", drafter=model, validator=model, policy=policy, budget={"per_task": per_task},
            step={"confidence": {"from": "logprob.mean", "threshold": -1e9}}, **settings,
        )

    async def run(self, *again: Any) -> RunSummary:
        return await arun_file(RunOptions(
            pipeline=self.pipeline, tasks=self.folder / "tasks.jsonl", out=self.out, handed_off=self.people, yes=True,
            store=self.url, again=again,
        ))

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder}/store.db"

    def lines(self) -> dict[str, Any]:
        found = [json.loads(line) for line in self.out.read_text().splitlines()]
        assert len({one["id"] for one in found}) == len(found), "a task stands in the file once"
        return {one["id"]: one for one in found}

    def asked(self, model: str) -> int:
        return sum(seen.body.get("model") == model for seen in self.server.seen)


@pytest.fixture
async def place(tmp_path: Path) -> Any:
    async with Loopback(models=MODELS) as server:
        yield Place(tmp_path, server)


def undone(place: Place) -> list[str]:
    return sorted(name for name, line in place.lines().items() if line["status"] == "handed_off")


async def test_what_was_handed_off_for_want_of_money_is_done_again_and_only_that(place: Place) -> None:
    first = await place.run()
    before = place.lines()
    assert (first.by_status["handed_off"], first.undone) == (2, {"budget": 2})
    place.set(RICH)
    assert (await place.run()).by_status["handed_off"] == 2, "unasked, what has ended stands"
    again = await place.run("budget")
    after = place.lines()
    assert (again.tasks, again.resumed, again.again, again.by_status["handed_off"]) == (14, 12, 2, 0)
    assert not again.undone
    assert (place.asked("drafter"), place.asked("validator")) == (14, 2), "no draft is paid for twice"
    assert [name for name in after if after[name] == before[name]] == [n for n in before if n not in ("t3", "t13")]
    assert after["t3"]["again_of"] == [before["t3"]["run_id"]]
    assert after["t3"]["status"] in ("approved", "redone")
    assert place.people.read_text() == "", "nothing of it waits for a person"
    third = await place.run("budget", "outage", "handed_off", "failed")
    assert (third.resumed, third.written, third.again) == (14, 0, 0)


async def test_the_queue_of_people_and_the_report_know_each_task_once(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    await place.run()
    spent = rows(place.folder, "SELECT sum(cost_nano) FROM call")[0][0]
    place.set(RICH)
    await place.run("budget")
    _, queue = await command(capsys, "handoffs", "list", "--store", place.url, "--json")
    _, closed = await command(capsys, "handoffs", "list", "--all", "--store", place.url, "--json")
    assert (queue, [one["done_again"] for one in closed]) == ([], [True, True])
    _, listed = await command(capsys, "handoffs", "list", "--all", "--store", place.url)
    assert listed.count("(done again)") == 2
    _, report = await command(capsys, "report", "--store", place.url, "--format", "json")
    (line,) = report["lines"]
    assert line["statuses"]["handed_off"] == 2, "what was, stays in the account"
    assert line["runs"] == 16
    assert sum(line["statuses"].values()) - 2 == 14
    total = rows(place.folder, "SELECT sum(cost_nano) FROM call")[0][0]
    assert total > spent
    assert rows(place.folder, "SELECT count(*) FROM outcome WHERE status = 'handed_off' AND cost_nano > 0") == [(2,)]
    assert (await command(capsys, "verify", "--store", place.url))[0] == 0


async def test_handed_off_once_more_it_waits_for_the_next_time(place: Place) -> None:
    await place.run()
    first = place.lines()["t3"]["run_id"]
    second = await place.run("budget")
    assert (second.again, second.undone) == (2, {"budget": 2})
    middle = place.lines()["t3"]["run_id"]
    place.set(RICH)
    await place.run("handed_off")
    assert place.lines()["t3"]["again_of"] == [first, middle]
    assert (place.asked("drafter"), undone(place)) == (14, [])


async def test_an_outage_is_another_reason_than_a_budget(place: Place) -> None:
    place.set(RICH, on_validator_outage="hand_off")
    answering = place.server._fault
    place.server._fault = lambda request, body: "503" if body["model"] == "validator" else "ok"  # type: ignore[method-assign]
    assert (await place.run()).undone == {"outage": 2}
    place.server._fault = answering  # type: ignore[method-assign]
    assert (await place.run("budget")).again == 0
    assert (await place.run("outage")).again == 2
    assert (undone(place), place.asked("drafter")) == ([], 14)


async def test_a_refused_key_is_no_fault_of_the_task(place: Place) -> None:
    place.set(RICH)
    place.server._fault = lambda request, body: "401" if body["model"] == "validator" else "ok"  # type: ignore[method-assign]
    assert (await place.run()).undone == {"outage": 2}
    assert place.lines()["t3"]["decision"]["rule"] == "key_refused"


async def test_what_a_person_has_settled_is_not_done_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await place.run()
    found = place.lines()
    resolve = ("handoffs", "resolve", found["t3"]["run_id"], "--value", '{"label": "a"}', "--store", place.url)
    assert (await command(capsys, *resolve, "--success"))[0] == 0
    said = ("outcome", found["t13"]["run_id"], "--success", "--store", place.url)
    assert (await command(capsys, *said))[0] == 0
    place.set(RICH)
    again = await place.run("handed_off")
    assert (again.again, place.asked("validator")) == (0, 0)
    assert not again.undone


async def test_the_earlier_run_can_never_become_a_success(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await place.run()
    earlier = place.lines()["t3"]["run_id"]
    place.set(RICH)
    await place.run("budget")
    latest = place.lines()["t3"]["run_id"]
    for words in (("outcome", earlier, "--success"), ("handoffs", "resolve", earlier, "--success")):
        code, told = await command(capsys, *words, "--store", place.url)
        assert code == 2
        assert f"the task of run {earlier!r} was done again, as run {latest!r}" in told
    feedback = place.folder / "feedback.csv"
    feedback.write_text(f"run_id,success\n{earlier},true\n{latest},true\n")
    assert (await command(capsys, "outcome", "--file", str(feedback), "--store", place.url))[0] == 2
    assert rows(place.folder, "SELECT count(*) FROM feedback") == [(0,)]
    asked = ("outcome", "--task", "t3", "--pipeline", "labels", "--success", "--store", place.url)
    assert (await command(capsys, *asked))[0] == 0
    assert rows(place.folder, "SELECT run_id FROM feedback") == [(latest,)]
    assert (await command(capsys, "outcome", earlier, "--failure", "--store", place.url))[0] == 0


async def test_explain_leads_from_either_run_to_the_other(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await place.run()
    earlier = place.lines()["t3"]["run_id"]
    place.set(RICH)
    await place.run("budget")
    latest = place.lines()["t3"]["run_id"]
    _, first = await command(capsys, "explain", earlier, "--store", place.url)
    _, second = await command(capsys, "explain", latest, "--store", place.url)
    assert f"its task was done again, as run {latest}" in first
    assert f"does again what gave no answer as run {earlier}" in second


async def test_forgetting_a_task_forgets_its_earlier_runs(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    await place.run()
    earlier = place.lines()["t3"]["run_id"]
    place.set(RICH)
    await place.run("budget")
    assert (await command(capsys, "forget", "--task", "t3", "--yes", "--store", place.url))[0] == 0
    assert rows(place.folder, f"SELECT count(*) FROM content WHERE run_id = '{earlier}'") == [(0,)]
    store = await Store.open(place.url)
    with pytest.raises(InputError, match="was done again"):
        await store.record_feedback(earlier, success=True)
    await store.aclose()


async def test_the_run_says_the_command_that_does_it(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(place.pipeline), str(place.folder / "tasks.jsonl"), "--store", place.url, "--yes"]
    _, told = await command(capsys, *words, "--out", str(place.out), "--max-cost", "20USD")
    assert "2 tasks got no answer because a budget had no room left." in told
    place.set(RICH)
    said = shlex.split(told.rpartition("with:\n")[2])
    assert said[0] == "orchestrator"
    code, again = await command(capsys, *said[1:])
    assert code == 0
    assert "done again" in again
    assert "got no answer" not in again
    assert (undone(place), place.asked("validator")) == ([], 2)


async def test_both_lines_are_left_by_a_kill_and_the_next_run_takes_the_old_one_out(place: Place) -> None:
    await place.run()
    old = place.out.read_bytes()
    place.set(RICH)
    await place.run("budget")
    new = place.out.read_bytes()
    added = b"".join(line for line in new.splitlines(keepends=True) if b"again_of" in line)
    for left in (old, old + added, old + added[:-9]):
        place.out.write_bytes(left)
        await place.run()
        assert undone(place) == []
        assert len(place.lines()) == 14


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks")
def test_killed_again_and_again_each_task_is_done_again_once_and_paid_once() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.again_harness", "--kills", str(KILLS), "--tasks", str(300 * KILLS)],
        capture_output=True, text=True, check=False, timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found.pop("kills"), found.pop("lines"), found.pop("done_again")) == (KILLS, 300 * KILLS, 300 * KILLS)
    assert found.pop("unsettled") > 0, "no kill hit a call in flight: the harness kills at the wrong moments"
    assert found == dict.fromkeys(found, 0)


def test_the_reasons_of_the_command_are_those_of_the_house() -> None:
    assert AGAIN == REASONS
