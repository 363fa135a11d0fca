"""The commands: exit codes, what goes to stdout and what to stderr, and help worth reading.

Longer than 300 lines because it is one list, of what holds for every command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from orchestrator.cli import cli, run_command
from orchestrator.errors import Cancelled, ConfigError, Outage, StoreError
from orchestrator.price_book import load_book
from tests.config_files import write_scripted, write_tasks


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Three tasks run through the command; the lines of the out file."""
    write_scripted(tmp_path)
    write_tasks(tmp_path / "tasks.jsonl", 3)
    assert run_command(["run", ".", "tasks.jsonl", "--out", "out.jsonl"]) == 0
    capsys.readouterr()
    return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]


def commands(group: click.Group = cli, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*words, name), command


def test_the_commands_are_those_of_the_product() -> None:
    assert {" ".join(words) for words, _ in commands()} == {
        "run", "check", "report", "outcome", "handoffs list", "handoffs resolve", "explain", "forget", "calibrate",
        "assess", "simulate", "drafter up", "drafter status", "drafter down", "prices show", "prices pin",
        "prices check", "cache stats", "cache purge", "schema", "init", "demo", "verify", "report close",
        "budget show", "budget set", "budget remove", "drafter bench", "drafter break-even",
    }


@pytest.mark.parametrize("words", [words for words, _ in commands()], ids=" ".join)
def test_every_help_has_an_example_and_explains_each_option(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"orchestrator {' '.join(words)}" in shown.split("Example", 1)[1]
    command = dict(commands())[words]
    unexplained = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert set(unexplained) <= {"format_", "currency"}


def test_help_loads_nothing_heavy() -> None:
    heavy = ("langgraph", "litellm", "openai", "sqlalchemy", "pydantic", "onnxruntime_genai", "rich", "jinja2")
    program = (
        "import sys; from orchestrator.cli import run_command; run_command(['--help']);"
        f"sys.exit(','.join(m for m in {heavy!r} if m in sys.modules) or 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_an_unknown_command_is_exit_code_2_and_suggests_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["rnu"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "rnu" in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong", file="p.yaml", line=3, hint="write it right"), 2), (StoreError("full"), 1),
        (Outage("away"), 3), (Cancelled("given up"), 130), (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_a_message_on_stderr_and_an_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.commands["check"], "callback", fail)
    assert run_command(["check", "."]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    if isinstance(error, ConfigError):
        assert shown.err == "error: p.yaml:3: wrong\nhint: write it right\n"


def test_a_bad_pipeline_file_is_told_on_stderr_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.yaml").write_text("pipeline: p\nmodells: {}\n")
    write_tasks(tmp_path / "tasks.jsonl", 1)
    assert run_command(["run", ".", "tasks.jsonl"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "pipeline.yaml:2: unknown key 'modells'; did you mean 'models'?" in shown.err


def test_run_writes_a_line_a_task_and_ends_with_figures(done: list[dict[str, Any]]) -> None:
    assert [line["status"] for line in done] == ["accepted"] * 3
    assert {line["id"] for line in done} == {"t0", "t1", "t2"}


def test_the_same_run_again_resumes_and_json_is_one_document_on_stdout(
    done: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["run", ".", "tasks.jsonl", "--out", "out.jsonl", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["resumed"] == 3
    assert "worst case" in shown.err
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == len(done)


def test_report_explain_and_cache_read_what_a_run_left(
    done: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["report", "--format", "json", "--by", "pipeline,desk"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"][0]["runs"] == 3
    assert run_command(["report", "--format", "csv", "-o", "report.csv"]) == 0
    assert Path("report.csv").read_text().startswith("pipeline,")
    assert run_command(["explain", done[0]["run_id"]]) == 0
    assert "confidence" in capsys.readouterr().out
    assert run_command(["explain", done[0]["run_id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == done[0]["run_id"]
    assert run_command(["cache", "stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 0
    assert run_command(["cache", "purge", "--expired"]) == 0


def test_feedback_from_a_file_is_taken_whole_or_not_at_all(
    done: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [line["run_id"] for line in done]
    rows = tmp_path / "feedback.csv"
    rows.write_text(f"run_id,success,reason\n{known[0]},false,wrong qty\nr_unknown,true,\n")
    assert run_command(["outcome", "--file", "feedback.csv"]) == 2
    rows.write_text(f"run_id,success\n{known[0]},maybe\n,true\n")
    assert run_command(["outcome", "--file", "feedback.csv"]) == 2
    assert "feedback.csv:2: success is 'maybe'" in capsys.readouterr().err
    assert run_command(["explain", known[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["feedback"] == []
    rows.write_text(f"run_id,success,reason\n{known[0]},false,wrong qty\n{known[1]},yes,\n")
    assert run_command(["outcome", "--file", "feedback.csv"]) == 0
    assert run_command(["outcome", known[2], "--failure", "--reason", "late"]) == 0
    capsys.readouterr()
    assert run_command(["explain", known[0], "--json"]) == 0
    assert [row["success"] for row in json.loads(capsys.readouterr().out)["feedback"]] == [False]


@pytest.mark.parametrize("arguments", [[], ["r1"], ["--success"], ["r1", "--success", "--file", "f.csv"]])
def test_outcome_wants_a_run_and_a_verdict_or_a_file(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("run_id,success\n")
    assert run_command(["outcome", *arguments]) == 2


def test_a_hand_off_is_listed_and_resolved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scripted(tmp_path, confidence="{from: logprob.mean, threshold: 0.5}")
    write_tasks(tmp_path / "tasks.jsonl", 1)
    assert run_command(["run", ".", "tasks.jsonl", "--handed-off", "people.jsonl"]) == 0
    assert len(Path("people.jsonl").read_text().splitlines()) == 1
    capsys.readouterr()
    assert run_command(["handoffs", "list", "--json"]) == 0
    (waiting,) = json.loads(capsys.readouterr().out)
    assert run_command(["handoffs", "resolve", waiting["run_id"], "--value", "{total: 1}", "--success"]) == 2
    assert run_command(["handoffs", "resolve", waiting["run_id"], "--value", '{"total": 1}']) == 2
    assert run_command(["handoffs", "resolve", waiting["run_id"], "--value", '{"total": 1}', "--success"]) == 0
    capsys.readouterr()
    assert run_command(["handoffs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_forget_erases_a_task_and_needs_one_of_task_and_tenant(
    done: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["forget"]) == 2
    assert run_command(["forget", "--task", "t1", "--tenant", "acme"]) == 2
    capsys.readouterr()
    assert run_command(["forget", "--task", "t1", "--yes"]) == 0
    assert "erased of task 't1': 1 run," in capsys.readouterr().err


def test_a_mistyped_store_is_an_error_and_no_new_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["report", "--store", f"sqlite:///{tmp_path}/nowhere.db"]) == 2
    assert "there is no store at" in capsys.readouterr().err
    assert not (tmp_path / "nowhere.db").exists()


def test_the_store_may_be_named_by_the_environment(
    done: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orchestrator.db").rename(tmp_path / "elsewhere.db")
    assert run_command(["explain", done[0]["run_id"]]) == 2
    monkeypatch.setenv("ORCHESTRATOR_STORE", f"sqlite:///{tmp_path}/elsewhere.db")
    assert run_command(["explain", done[0]["run_id"]]) == 0


def test_check_prints_findings_and_returns_their_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scripted(tmp_path)
    assert run_command(["check", ".", "--residency"]) == 0
    assert "UNCERTIFIED" in capsys.readouterr().out
    (tmp_path / "policy.yaml").write_text("policy: p\nafter: [{name: a, when: 'signals.no.ok', then: accept}]\n")
    assert run_command(["check", ".", "--json"]) == 2
    assert "error" in {finding["level"] for finding in json.loads(capsys.readouterr().out)["findings"]}


def test_schema_prints_the_json_schema_of_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, key in (("pipeline", "steps"), ("policy", "otherwise"), ("prices", "aliases")):
        assert run_command(["schema", kind]) == 0
        schema = json.loads(capsys.readouterr().out)
        assert key in schema["properties"]
        assert schema["additionalProperties"] is False


def test_drafter_commands_refuse_a_model_that_vllm_does_not_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scripted(tmp_path)
    assert run_command(["drafter", "up", "."]) == 2
    assert "which is not served by vLLM" in capsys.readouterr().err
    assert run_command(["drafter", "status", ".", "--model", "other"]) == 2


def test_prices_are_pinned_from_litellms_table_and_by_hand_and_comments_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "prices.yaml"
    book.write_text("# ours\nbook: b\nprices:\n  - {model: m, per_million: {input: 1, output: 2}}  # agreed\n")
    day = ["--book", str(book), "--valid-from", "2026-11-01"]
    assert run_command(["prices", "pin", "openai/gpt-4o-mini", *day]) == 0
    assert run_command(["prices", "pin", "m", "--input", "0.1", "--output", "0.3", "--alias", "m-2026", *day]) == 0
    assert run_command(["prices", "pin", "m", "--input", "0.2", "--output", "0.3", *day]) == 2
    assert run_command(["prices", "pin", "m", "--input", "0.1", *day]) == 2
    assert run_command(["prices", "pin", "no/such-model", *day]) == 2
    text = book.read_text()
    assert text.startswith("# ours\n")
    assert "# agreed" in text
    loaded = load_book(book)
    found = {(e.model, e.valid_from.isoformat()): e.per_million for e in loaded.prices}
    mini = found["openai/gpt-4o-mini", "2026-11-01"]
    assert mini is not None
    assert (str(mini.input), str(mini.output)) == ("0.15", "0.6")
    assert loaded.aliases == {
        "gpt-4o-mini": "openai/gpt-4o-mini", "gpt-4o-mini-2024-07-18": "openai/gpt-4o-mini", "m-2026": "m",
    }
    capsys.readouterr()
    assert run_command(["prices", "show", str(book)]) == 0
    assert "gpt-4o-mini" in capsys.readouterr().out


def test_prices_check_names_the_unpriced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scripted(tmp_path)
    assert run_command(["prices", "check", "."]) == 0
    (tmp_path / "prices.yaml").write_text("book: empty\n")
    assert run_command(["prices", "check", "."]) == 1
    assert "no price" in capsys.readouterr().out


def test_init_copies_pipelines_that_load_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["init", "mine"]) == 0
    copied = [Path(line) for line in capsys.readouterr().out.split()]
    assert Path("mine/pipelines/order_lines/pipeline.yaml") in copied
    assert (tmp_path / "mine/policies/high_volume.yaml").is_file()
    for path in copied:
        assert run_command(["check", str(path)]) == 0, capsys.readouterr().out
    assert run_command(["init", "mine"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run_command(["init", "other", "--pipeline", "order_line"]) == 2


def test_calibrate_writes_a_certificate_that_the_pipeline_then_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scripted(tmp_path, confidence="{from: logprob.mean, certificate: certificates/c.json}")
    write_tasks(tmp_path / "labels.jsonl", 100)
    assert run_command(["calibrate", str(path), "--labels", "labels.jsonl", "--max-regret", "0.05"]) == 0
    assert "recommendation" in capsys.readouterr().out
    assert json.loads(Path("certificates/c.json").read_text())["kind"] == "certificate"
    assert run_command(["check", str(path)]) == 0
    assert "certified at" in capsys.readouterr().out
    assert run_command(["calibrate", str(path), "--labels", "labels.jsonl", "--max-regret", "1.5"]) == 2
