"""What a file run has spent holds what it spends after its last answer, and why a verdict was not served is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.batch import RunOptions, arun_file
from orchestrator.config.quantities import parse_money
from orchestrator.testing import ScriptedModel
from tests.loopback import Loopback
from tests.pipelines import write_pipeline, write_tasks
from tests.trail import command, rows

MODELS = ("drafter", "validator")
CHECKED = {"policy": "checked", "after": [{"name": "look", "sample": 0.999999, "then": "spot_check"}],
           "otherwise": "accept"}


def asked(folder: Path, url: str, **settings: Any) -> RunOptions:
    model = {"endpoints": [url], "retries": 0}
    path = write_pipeline(folder / "p", drafter=model, validator=model, policy=CHECKED, **settings)
    return RunOptions(pipeline=path, tasks=write_tasks(folder / "tasks.jsonl", 12), out=folder / "out.jsonl", yes=True,
                      store=f"sqlite:///{folder}/store.db")


def spent(folder: Path, *roles: str) -> int:
    among = ", ".join(repr(role) for role in roles)
    return int(rows(folder, f"SELECT coalesce(sum(cost_nano), 0) FROM call WHERE role IN ({among})")[0][0])


async def test_spot_checks_and_baselines_after_the_last_answer_are_in_what_was_spent(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        summary = await arun_file(asked(tmp_path, server.url, baseline=0.5))
    afterwards = spent(tmp_path, "spot_check", "baseline")
    assert afterwards > spent(tmp_path, "spot_check") > 0
    assert summary.spent_afterwards == {"USD": afterwards}
    assert summary.spent == {"USD": spent(tmp_path, "draft") + afterwards}


async def test_a_check_without_an_answer_is_told_among_the_unknown_costs(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        server._fault = lambda request, body: "cut" if body["model"] == "validator" else "ok"  # type: ignore[method-assign]
        summary = await arun_file(asked(tmp_path, server.url))
    assert summary.spent_afterwards == {}
    assert summary.unsettled_calls == rows(tmp_path, "SELECT count(*) FROM call WHERE state = 'unsettled'")[0][0] > 0


async def test_the_screen_says_how_much_went_into_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with Loopback(models=MODELS) as server:
        run = asked(tmp_path, server.url)
        words = ["run", str(run.pipeline), str(run.tasks), "--out", str(run.out), "--store", run.store, "--yes"]
        _, told = await command(capsys, *words)
    checks, drafts = spent(tmp_path, "spot_check"), spent(tmp_path, "draft")
    line = rf"^spent +{(checks + drafts) / 1e9:.6f} USD +{checks / 1e9:.6f} USD of it for spot checks and baselines"
    assert re.search(line, told, re.MULTILINE)


async def test_max_cost_counts_the_checks_made_so_far(tmp_path: Path) -> None:
    async with Loopback(models=MODELS) as server:
        run = asked(tmp_path, server.url)
        fields = {name: getattr(run, name) for name in RunOptions.__dataclass_fields__}
        write_tasks(run.tasks, 600)
        most = parse_money("0.002 USD")
        summary = await arun_file(RunOptions(**{**fields, "max_cost": most, "concurrency": 4}))
    assert summary.stopped
    assert spent(tmp_path, "draft") < most.nano, "drafts alone would not have stopped it"


@pytest.mark.parametrize(("said", "why"), [
    (["I approve!", "I still do!"], "the verdict was unreadable twice: it is not JSON"),
    (["[1]", "[2]"], "the verdict was unreadable twice: it is no object but list"),
    ([{"verdict": "fine"}] * 2, "the verdict was unreadable twice: its `verdict` is none of approved, repaired"),
    ([{"verdict": "approved", "mood": 1}] * 2, "the verdict was unreadable twice: it has keys besides reasons"),
    ([{"verdict": "rejected", "reasons": ["a total is wrong"]}], "repair was not served: a total is wrong"),
    ([{"verdict": "repaired", "value": {"label": "z"}}], "the repaired value breaks the output schema"),
])
async def test_why_a_verdict_was_not_served_is_kept_where_explain_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: list[Any], why: str
) -> None:
    path = write_pipeline(tmp_path / "p", step={"validate": {"model": "validator", "mode": "repair",
                                                             "on_reject": "redo"}})
    models = {"drafter": ScriptedModel([{"label": "a"}], logprob=-3.0),
              "validator": ScriptedModel([*said, {"label": "b"}])}
    store = f"sqlite:///{tmp_path}/store.db"
    async with Pipeline.load(path, store=store, clients=models) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "unsure"}))
    assert outcome.status == "redone"
    assert outcome.decision is not None
    assert why in outcome.decision.explanation
    _, told = await command(capsys, "explain", outcome.run_id, "--store", store)
    (line,) = [line for line in told.splitlines() if line.startswith("  why: ")]
    assert line.startswith("  why: not_sure")
    assert why in line
