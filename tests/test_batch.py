"""File runs: bad lines stop nothing, the same command resumes, outages are waited for, exit codes tell."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.batch import RunOptions, RunSummary, arun_file
from orchestrator.config.quantities import parse_money
from orchestrator.errors import ConfigChanged, InputError, Outage, StoreError, UnpricedCall
from tests.loopback import Loopback
from tests.pipelines import POLICY, write_pipeline, write_tasks
from tests.trail import command

MODELS = ("drafter", "validator")


def options(folder: Path, url: str, *, settings: dict[str, Any] | None = None, **given: Any) -> RunOptions:
    model = {"endpoints": [url], "retries": 0}
    path = write_pipeline(folder / "p", drafter=model, validator=model, **(settings or {}))
    given = {"tasks": folder / "tasks.jsonl", "out": folder / "out.jsonl", "yes": True, **given}
    return RunOptions(pipeline=path, store=f"sqlite:///{folder}/s.db", **given)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def run(folder: Path, **given: Any) -> RunSummary:
    async with Loopback(models=MODELS) as server:
        return await arun_file(options(folder, server.url, **given))


async def test_a_file_is_run_and_each_line_of_out_is_an_outcome(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 30)
    summary = await run(tmp_path)
    out = lines(tmp_path / "out.jsonl")
    assert (summary.tasks, summary.exit_code, len(out)) == (30, 0, 30)
    promised = {"id", "run_id", "status", "value", "success", "success_source", "decision", "cost_usd", "calls"}
    assert promised <= set(out[0])
    assert isinstance(out[0]["cost_usd"], float)
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o077 == 0


async def test_the_same_command_again_does_nothing_twice(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 20)
    async with Loopback(models=MODELS) as server:
        asked = options(tmp_path, server.url)
        first = await arun_file(RunOptions(**{**_fields(asked), "limit": 8}))
        seen = len(server.seen)
        again = await arun_file(asked)
        third = await arun_file(asked)
        total = len([s for s in server.seen if s.path.endswith("completions")])
    assert first.tasks == 8
    assert seen >= 8
    assert (again.tasks, again.resumed, again.written) == (20, 8, 12)
    assert (third.resumed, third.written) == (20, 0)
    assert total == 20
    assert sorted(o["id"] for o in lines(tmp_path / "out.jsonl")) == sorted(f"t{i}" for i in range(20))


async def test_the_screen_says_which_costs_are_unknown_and_which_figures_are_of_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("orchestrator.cascade.outages.POLL_S", 0.05)
    write_tasks(tmp_path / "tasks.jsonl", 5)
    async with Loopback(models=MODELS) as server:
        asked = options(tmp_path, server.url)
        words = ["run", str(asked.pipeline), str(asked.tasks), "--out", str(asked.out), "--store", asked.store, "--yes"]
        _, first = await command(capsys, *words, "--limit", "3")
        server.plan.append("cut")
        code, again = await command(capsys, *words)
    assert code == 0, again
    assert "in all" not in first
    assert "unsettled" not in first
    assert re.search(r"^tasks +5 +in all +3 of them done before", again, re.MULTILINE)
    assert re.search(r"^accepted +5 +in all", again, re.MULTILINE)
    assert re.search(r"^spent +0\.\d+ USD +of this run +1 call unsettled \(may be billed", again, re.MULTILINE)
    assert "unpriced" not in again


async def test_a_torn_last_line_of_out_is_mended(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 5)
    await run(tmp_path)
    out = tmp_path / "out.jsonl"
    whole = out.read_bytes()
    out.write_bytes(whole[:-30])
    async with Loopback(models=MODELS) as server:
        model = {"endpoints": [server.url], "retries": 0}
        path = write_pipeline(tmp_path / "p", drafter=model, validator=model)
        await arun_file(RunOptions(pipeline=path, tasks=tmp_path / "tasks.jsonl", out=out, yes=True,
                                   store=f"sqlite:///{tmp_path}/s.db", resume_with_changes=True))
    assert sorted(o["id"] for o in lines(out)) == [f"t{i}" for i in range(5)]


async def test_bad_lines_are_rejected_with_their_number_and_stop_nothing(tmp_path: Path) -> None:
    good = [json.dumps({"id": f"t{i}", "input": {"text": "x"}}).encode() for i in range(3)]
    bad = [b"{not json", b"\xff\xfe\x00", b"[1, 2]", b'{"id": "n"}', b'{"id": ["x"], "input": {}}',
           b'{"input": {"text": "x"}, "tenant": "typo"}', b'{"input": {"text": "' + b"y" * 3_000_000 + b'"}}',
           b'{"id": "t0", "input": {"text": "other content"}}']
    (tmp_path / "tasks.jsonl").write_bytes(b"\n".join([good[0], *bad, good[1], b"", good[2]]) + b"\n")
    summary = await run(tmp_path, concurrency=1)
    rejected = lines(tmp_path / "out.rejected.jsonl")
    assert (summary.tasks, summary.rejected, summary.exit_code) == (3, 8, 1)
    assert sorted(r["line"] for r in rejected) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert all(r["error"] for r in rejected)
    assert "lines 1 and 9 of the file have the same id, 't0'," in next(r["error"] for r in rejected if r["line"] == 9)


async def test_csv_columns_become_input_meta_and_expected(tmp_path: Path) -> None:
    rows = ["id,text,meta.amount,expected.label", 'c1,"hello, you",12.5,a', "c2,second,,b", "c3,x"]
    (tmp_path / "tasks.csv").write_text("\n".join(rows) + "\n")
    summary = await run(tmp_path, tasks=tmp_path / "tasks.csv")
    out = {o["id"]: o for o in lines(tmp_path / "out.jsonl")}
    assert set(out) == {"c1", "c2"}
    assert {o["success_source"] for o in out.values()} == {"label"}
    assert summary.rejected == 1


async def test_a_changed_configuration_is_not_mixed_into_a_run_by_accident(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 4)
    async with Loopback(models=MODELS, plan=["hang"] * 4) as server:
        asked = options(tmp_path, server.url)
        running = asyncio.create_task(arun_file(asked))
        await server.arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        server.plan.clear()
        changed = options(tmp_path, server.url, settings={"policy": {**POLICY, "otherwise": "escalate"}})
        with pytest.raises(ConfigChanged):
            await arun_file(changed)
        summary = await arun_file(RunOptions(**{**_fields(changed), "resume_with_changes": True}))
    assert summary.tasks == 4


async def test_a_drafter_that_goes_down_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers, is gone for longer than every retry, and comes back on the same port: nothing is lost."""
    monkeypatch.setattr("orchestrator.cascade.outages.POLL_S", 0.05)
    monkeypatch.setattr("orchestrator.models.limits.CircuitBreaker.check", lambda self: False)
    write_tasks(tmp_path / "tasks.jsonl", 40)
    first = Loopback(models=MODELS, latency_s=0.01)
    async with first:
        asked = options(tmp_path, first.url, concurrency=4)
        running = asyncio.create_task(arun_file(asked))
        await first.arrived.wait()
    assert not running.done()
    async with Loopback(models=MODELS, port=first.port):
        summary = await running
    assert (summary.tasks, summary.by_status["accepted"]) == (40, 40)


async def test_an_endpoint_that_is_not_there_at_the_start_is_said_at_once(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 2)
    with pytest.raises(Outage, match="can't be reached") as caught:
        await arun_file(options(tmp_path, "http://127.0.0.1:9/v1"))
    assert caught.value.exit_code == 3


async def test_a_worst_case_above_the_budget_asks_first(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 50)
    asked: list[str] = []
    with pytest.raises(InputError, match="above the budget"):
        await run(tmp_path, settings={"budget": {"per_day": "0.001 USD"}}, yes=False,
                  confirm=lambda words: bool(asked.append(words)))
    assert "worst case" in asked[0]


async def test_max_cost_and_max_failures_stop_the_run(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 200)
    spent = await run(tmp_path, max_cost=parse_money("0.0001 USD"), concurrency=2)
    assert spent.stopped
    assert spent.exit_code == 1
    assert spent.tasks < 200


async def test_strict_prices_refuses_what_the_book_does_not_hold(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 2)
    async with Loopback(models=("nobody", "validator")) as server:
        asked = options(tmp_path, server.url, strict_prices=True)
        text = asked.pipeline.read_text().replace("openai:drafter", "openai:nobody")
        asked.pipeline.write_text(text)
        with pytest.raises(UnpricedCall, match="nobody"):
            await arun_file(asked)


async def test_out_of_another_store_is_not_written_into(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 3)
    await run(tmp_path)
    (tmp_path / "s.db").rename(tmp_path / "old.db")
    with pytest.raises(InputError, match="not in this store"):
        await run(tmp_path)
    (tmp_path / "notes.txt").write_text("my notes\n")
    with pytest.raises(InputError, match="not an outcome file"):
        await run(tmp_path, out=tmp_path / "notes.txt")


async def test_a_task_file_that_cannot_be_read_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"can't read .*tasks\.jsonl"):
        await run(tmp_path)


async def test_a_store_that_cannot_be_written_is_said_before_anything_is_spent(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 2)
    (tmp_path / "s.db").mkdir()
    async with Loopback(models=MODELS) as server:
        with pytest.raises(StoreError):
            await arun_file(options(tmp_path, server.url))
        assert not [s for s in server.seen if s.path.endswith("completions")]


async def test_handed_off_tasks_can_be_run_again_from_their_file(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.jsonl", 3)
    policy = {"policy": "p", "after": [{"name": "person", "then": "hand_off"}]}
    await run(tmp_path, settings={"policy": policy}, handed_off=tmp_path / "people.jsonl")
    handed = lines(tmp_path / "people.jsonl")
    assert len(handed) == 3
    assert all(line["reason"].startswith("person") for line in handed)
    again = tmp_path / "again"
    again.mkdir()
    summary = await run(again, tasks=tmp_path / "people.jsonl")
    assert summary.tasks == 3


def _fields(asked: RunOptions) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in RunOptions.__dataclass_fields__}
