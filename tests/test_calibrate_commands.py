"""`calibrate` and `assess` as commands, and a step that is not the only one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.cli import run_command
from orchestrator.errors import ConfigError, InputError
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.spending import by_spending
from orchestrator.records import Money, Task
from orchestrator.scaffold import starters
from tests.calibrations import CERTIFIED, calibrated, drafter, labels, validator
from tests.pipelines import dump, write_pipeline

ORDERS = starters() / "pipelines/order_lines/pipeline.yaml"


def two_steps(folder: Path) -> Path:
    """The second step labels the text anew; of the first, unsure drafts are validated as they are in service."""
    path = write_pipeline(folder / "p")
    from ruamel.yaml import YAML

    document = YAML(typ="safe").load(path)
    first = document["steps"][0]
    document["steps"].append({**first, "id": "again", **CERTIFIED})
    first["confidence"] = {"from": "logprob.mean", "threshold": -0.5}
    dump(path, document)
    return path


async def test_the_steps_before_run_as_they_do_in_service(tmp_path: Path) -> None:
    two_steps(tmp_path)
    model, asked = drafter(), validator()
    done = await calibrated(tmp_path, labels(90, 30), clients={"drafter": model, "validator": asked})
    assert (done.reached, done.certificate.draft_accuracy) == (120, 0.75)
    assert len(model.calls) == 240
    assert len(asked.calls) == 30  # the first step's unsure drafts, and nothing of the second step


async def test_labels_tell_nothing_of_a_step_in_between_but_a_sum_does(tmp_path: Path) -> None:
    path = two_steps(tmp_path)
    text = path.read_text().replace("{from: logprob.mean, threshold: -0.5}",
                                    "{from: logprob.mean, certificate: certificates/first.json}")
    path.write_text(text)
    with pytest.raises(InputError, match="labels say what is right at the end of the pipeline, not at step 'label'"):
        await calibrated(tmp_path, labels(90, 30), step="label")
    with pytest.raises(ConfigError, match="there is no step 'other': the pipeline has label, again"):
        await calibrated(tmp_path, labels(90, 30), step="other")
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_bytes(b"\n".join(orjson.dumps({"id": t.id, "input": t.input}) for t in labels(90, 30)))
    done = await calibrated(tmp_path, by_spending(Money(nano=10**9), tasks), step="label")
    assert done.path.name == "first.json"
    assert done.certificate.draft_accuracy == 0.75


async def test_recorded_drafts_without_a_label_sharpen_the_test_unless_told_not_to(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED)
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline.load(tmp_path / "p", store=f"sqlite:///{tmp_path / 's.db'}", clients=clients) as pipeline:
        async for _ in pipeline.amap(Task(id=f"live {t.id}", input=t.input) for t in labels(375, 125)):
            pass
    done = await calibrated(tmp_path, labels(90, 30))
    assert done.certificate.traffic == 500
    without = await calibrated(tmp_path, labels(90, 30), traffic=False, attempt=0)
    assert without.certificate.traffic == 0


async def test_live_traffic_of_another_population_is_left_aside_and_that_is_said(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED)
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline.load(tmp_path / "p", store=f"sqlite:///{tmp_path / 's.db'}", clients=clients) as pipeline:
        async for _ in pipeline.amap(Task(id=f"live {t.id}", input=t.input) for t in labels(0, 500)):
            pass
    done = await calibrated(tmp_path, labels(110, 10))
    assert done.certificate.traffic == 0
    assert "recorded drafts without a label are left aside" in done.words


async def test_a_calibration_pauses_no_live_task_and_is_paused_by_none(tmp_path: Path) -> None:
    write_pipeline(
        tmp_path / "p", step=CERTIFIED, limits={"escalation": {"share": 0.2, "at_least": 10, "then": "pause"}}
    )
    await calibrated(tmp_path, labels(90, 30), validate=True)
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline.load(tmp_path / "p", store=f"sqlite:///{tmp_path / 's.db'}", clients=clients) as pipeline:
        assert (await pipeline.arun(Task(input={"text": "sure 5"}))).status == "accepted"
    again = await calibrated(tmp_path, labels(190, 30), attempt=0)
    assert again.certificate.given == 220


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one source of records"),
        (["--ledger", "--spend", "1USD"], "give one source of records"),
        (["--ledger", "--tasks", str(ORDERS)], "--tasks goes with --spend"),
        (["--ledger", "--validate"], "--validate goes with --labels"),
        (["--spend", "1"], "is not an amount of money"),
        (["--ledger", "--since", "soon"], "--since is 'soon': write a day"),
        (["--ledger", "--since", "2026-11-02", "--until", "2026-11-01"], "--until is the day after the last"),
        (["--ledger", "--max-regret", "3"], "'3' is not a share: write 3% or 0.03"),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["calibrate", str(ORDERS), "--max-regret", "0.03", *arguments]) == 2
    assert said in capsys.readouterr().err


def lines(path: Path, *rows: Any) -> str:
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    return str(path)


def test_nothing_is_spent_without_a_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime_genai")
    tasks = lines(tmp_path / "t.jsonl", *({"id": str(i), "input": {"text": f"{i} pc. nut"}} for i in range(200)))
    store = f"sqlite:///{tmp_path / 's.db'}"
    told = run_command([
        "calibrate", str(ORDERS), "--spend", "50USD", "--tasks", tasks, "--max-regret", "0.03", "--store", store,
    ])
    said = capsys.readouterr().err
    assert told == 2
    assert "a record costs at most" in said
    assert "give --yes" in said


def test_an_assessment_is_one_json_document_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime_genai")
    data = (starters() / "examples/order_lines/data/held_out.jsonl").read_bytes().splitlines()[:120]
    rows = [orjson.loads(row) for row in data]
    logs = lines(tmp_path / "l.jsonl", *(
        {"messages": [{"role": "user", "content": row["input"]["text"]}], "answer": row["expected"]} for row in rows
    ))
    store = f"sqlite:///{tmp_path / 's.db'}"
    assert run_command([
        "assess", logs, "--pipeline", str(ORDERS), "--max-regret", "0.1", "--store", store, "--json"
    ]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drafted"] == 120
    assert 0.0 <= found["measured"]["validated"]["low"] <= found["measured"]["validated"]["high"] <= 1.0
    assert found["measured"]["cost"] is None


