"""Bad input as somebody at the command line meets it: one clear line with a hint, the right exit code, no traceback,
and nothing lost. Each command is a process of its own.

Longer than 300 lines because it is one list, of bad input a user may give, and is read as one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from tests.loopback import read_log
from tests.pipelines import dump, write_pipeline, write_tasks

ROOT = Path(__file__).parent.parent
AS_ROOT = os.geteuid() == 0
INPUT_WRONG, UNREACHABLE, INTERRUPTED = 2, 3, 130


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A provider in a process of its own, with a log of its own."""
    with provider(tmp_path) as address:
        yield address


@contextlib.contextmanager
def provider(folder: Path, *arguments: str) -> Iterator[str]:
    port = folder / "port"
    words = [sys.executable, "-m", "tests.loopback", "--port-file", str(port), "--log", str(folder / "log"),
             "--models", "drafter,validator", *arguments]
    with started(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield f"http://127.0.0.1:{port.read_text()}/v1"


@contextlib.contextmanager
def started(words: list[str], **given: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone, and its pipes closed, when the block ends, however that ends."""
    with subprocess.Popen(words, **given) as process:
        try:
            yield process
        finally:
            process.kill()


def command(folder: Path, *words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], cwd=folder, capture_output=True, text=True, timeout=400,
        check=False, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}, **given,
    )


def pipeline(folder: Path, url: str = "http://127.0.0.1:9/v1", **settings: Any) -> Path:
    model = {"endpoints": [url], "retries": 0}
    return write_pipeline(folder / "p", drafter=model, validator=model, **settings)


def run(folder: Path, *more: str, **given: Any) -> subprocess.CompletedProcess[str]:
    return command(folder, "run", "p", "tasks.jsonl", "--out", "out.jsonl", "--yes", *more, **given)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One message, the code, every word of it, and no traceback."""
    said = done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said, said
    assert said.count("error:") + said.count("Error:") == 1, said
    for word in words:
        assert word in said, (word, said)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- lines of a task file --------------------------------------------------------------------------------------------


def test_bad_lines_are_set_aside_with_number_and_reason_and_the_rest_is_done(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url, limits={"task_bytes": 500})
    bad = {
        2: (b'{"id": "x", "input": ', "not JSON"),
        3: (b'{"id": "x", "input": {"text": "\xff\xfe"}}', "not UTF-8"),
        4: (b'["a", "list"]', "an object, not list"),
        5: (b'{"id": "x", "input": "text"}', "input is 'text'"),
        6: (b'{"id": ["x"], "input": {"text": "a"}}', "give a string"),
        7: (b'{"id": "x", "input": {"text": "a"}, "meta": 3}', "give an object"),
        8: (b'{"id": "x", "input": {"text": "a"}, "extra": 3}', "unknown keys ['extra']"),
        9: (b'{"id": "x", "input": {"text": "%s"}}' % (b"y" * 600), "`limits.task_bytes` is 500"),
        10: (b'{"id": "x", "input": {"text": "%s"}}' % (b"y" * 5000), "longer than 1000 bytes"),
        11: (b'{"id": "t0", "input": {"text": "other content"}}', "with other content"),
        12: (b'{"id": "n", "input": {"text": NaN}}', "not JSON"),
        13: (b'{"id": "d", "input": {"text": %s1%s}}' % (b"[" * 200, b"]" * 200), ""),
    }
    good = [json.dumps({"id": f"t{i}", "input": {"text": f"text {i}"}}).encode() for i in range(3)]
    body = [good[0], *(line for line, _ in bad.values()), b"", *good[1:], good[1]]
    (tmp_path / "tasks.jsonl").write_bytes(b"\n".join(body))
    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert {"t0", "t1", "t2"} <= {line["id"] for line in lines(tmp_path / "out.jsonl")}
    told = {line["line"]: line["error"] for line in lines(tmp_path / "out.rejected.jsonl")}
    for number, (_, words) in bad.items():
        if words:
            assert words in told[number], told
    again = run(tmp_path)
    assert again.returncode == 1
    assert len(completions(tmp_path)) == len({entry["id"] for entry in completions(tmp_path)})


def test_a_variable_that_a_task_lacks_fails_that_task_alone(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url)
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "input": {"words": "x"}}\n{"id": "b", "input": {"text": "x"}}\n')
    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    found = {line["id"]: line for line in lines(tmp_path / "out.jsonl")}
    assert (found["a"]["status"], found["b"]["status"]) == ("failed", "accepted")
    assert "text" in found["a"]["error"]


def test_wrong_types_are_refused_by_the_task_schema_with_the_field(tmp_path: Path, url: str) -> None:
    (tmp_path / "p").mkdir()
    _with_schema(tmp_path, url)
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "input": {"text": 7}}\n{"id": "b", "input": {"text": "x"}}\n')
    done = run(tmp_path)
    assert done.returncode == 1, done.stderr
    [told] = lines(tmp_path / "out.rejected.jsonl")
    assert "input.text" in told["error"]
    assert [line["id"] for line in lines(tmp_path / "out.jsonl")] == ["b"]


def _with_schema(folder: Path, url: str) -> Path:
    text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    (folder / "p" / "task.json").write_text(json.dumps({"type": "object", "properties": {"input": text}}))
    return pipeline(folder, url, task="task.json")


def test_an_empty_file_is_done_at_once(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url)
    (tmp_path / "tasks.jsonl").write_bytes(b"")
    done = run(tmp_path)
    assert (done.returncode, (tmp_path / "out.jsonl").read_bytes()) == (0, b""), done.stderr


# -- configuration ---------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{one} [{', '.join(['*' + before] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(("text", "words"), [
    (BOMB, "pipeline.yaml"),
    ("pipeline: !!python/object/apply:os.system ['touch pwned']\n", "pipeline.yaml:1"),
    ("pipeline: a\npipeline: b\n", "pipeline.yaml:2"),
    ("pipeline: [unclosed\n", "pipeline.yaml"),
    ("- a list\n", "pipeline.yaml"),
    ("", "pipeline.yaml"),
    ("a: &a {b: *a}\n", "pipeline.yaml"),
    ("[" * 3000, "pipeline.yaml"),
], ids=["bomb", "tag", "twice", "unclosed", "list", "empty", "cycle", "deep"])
def test_a_hostile_pipeline_file_is_named_and_harmless(
    tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline(tmp_path).write_text(text)
    write_tasks(tmp_path / "tasks.jsonl", 1)
    assert run_command(["run", "p", "tasks.jsonl"]) == INPUT_WRONG
    assert words in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "orchestrator.db").exists(), "nothing was begun"


def test_an_unknown_model_and_a_misspelt_key_are_named_with_what_was_meant(tmp_path: Path) -> None:
    path = pipeline(tmp_path, step={"draft": {"model": "draftr"}})
    write_tasks(tmp_path / "tasks.jsonl", 1)
    refused(run(tmp_path), INPUT_WRONG, "'draftr'", "did you mean 'drafter'", "pipeline.yaml:")
    path = pipeline(tmp_path)
    path.write_text(path.read_text() + "budgett: {per_day: 5 USD}\n")
    refused(run(tmp_path), INPUT_WRONG, "budgett", "budget", "pipeline.yaml:")


def test_steps_that_wait_for_each_other_are_named(tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    (path.parent / "one.md").write_text("{{ steps.two.value }}\n")
    (path.parent / "two.md").write_text("{{ steps.one.value }}\n")
    step = {"draft": {"model": "drafter"}, "policy": "policy.yaml", "signals": ["schema", "logprob"],
            "confidence": {"from": "logprob.mean", "threshold": -0.5}}
    text = path.read_text()
    models = text[text.index("models:"):text.index("pipeline:")]
    assert "drafter" in models
    dump(path.parent / "steps.yaml", {"steps": [{"id": one, "prompt": f"{one}.md", **step} for one in ("one", "two")]})
    path.write_text("pipeline: cyclic\n" + models + (path.parent / "steps.yaml").read_text())
    write_tasks(tmp_path / "tasks.jsonl", 1)
    refused(run(tmp_path), INPUT_WRONG, "two")


def test_an_endpoint_that_nobody_listens_on_is_exit_code_3_and_nothing_is_begun(tmp_path: Path) -> None:
    pipeline(tmp_path)
    write_tasks(tmp_path / "tasks.jsonl", 2)
    refused(run(tmp_path), UNREACHABLE, "'drafter'", "127.0.0.1:9", "hint:")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("words", "told"), [
    (("run", "nowhere", "tasks.jsonl"), "nowhere"),
    (("run", "p", "nowhere.jsonl"), "nowhere.jsonl"),
    (("run", "p", "p"), "p"),
    (("run", "p", "tasks.jsonl", "--concurrency", "0"), "--concurrency"),
    (("run", "p", "tasks.jsonl", "--max-cost", "lots"), "lots"),
    (("run", "p", "tasks.jsonl", "--store", "mysql://x"), "mysql://x"),
    (("run", "p", "tasks.jsonl", "--store", "nonsense"), "nonsense"),
    (("report", "--store", "sqlite:///nowhere.db"), "nowhere.db"),
    (("report", "--month", "2026-13", "--store", "sqlite:///s.db"), "2026-13"),
    (("explain", "r_1", "--store", "nonsense"), "nonsense"),
], ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_a_wrong_argument_is_exit_code_2_and_named(
    tmp_path: Path, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline(tmp_path)
    write_tasks(tmp_path / "tasks.jsonl", 1)
    assert run_command(words) == INPUT_WRONG
    assert told in capsys.readouterr().err


# -- stores and files that can't be written --------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url)
    write_tasks(tmp_path / "tasks.jsonl", 1)
    (tmp_path / "orchestrator.db").write_text("my precious notes, long enough to be taken for a page " * 20)
    before = (tmp_path / "orchestrator.db").read_bytes()
    refused(run(tmp_path), 1, "no SQLite database", "hint:")
    assert (tmp_path / "orchestrator.db").read_bytes() == before
    assert completions(tmp_path) == []


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url)
    write_tasks(tmp_path / "tasks.jsonl", 2)
    assert run(tmp_path).returncode == 0
    with sqlite3.connect(tmp_path / "orchestrator.db") as store:
        store.execute("INSERT INTO migration (name, applied_at) VALUES ('m999_from_the_future', 1)")
    for words in (("report",), ("run", "p", "tasks.jsonl", "--out", "out.jsonl")):
        refused(command(tmp_path, *words), INPUT_WRONG, "newer version", "hint:")


@pytest.mark.skipif(AS_ROOT, reason="root may write everything")
def test_a_read_only_store_is_said_before_anything_is_sent(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url)
    write_tasks(tmp_path / "tasks.jsonl", 2)
    assert run(tmp_path).returncode == 0
    sent = len(completions(tmp_path))
    (tmp_path / "orchestrator.db").chmod(0o400)
    refused(run(tmp_path), 1, "read-only", "hint:")
    assert len(completions(tmp_path)) == sent


@pytest.mark.parametrize(("option", "name"), [
    ("--out", "nodir/file/out.jsonl"), ("--out", "p"), ("--handed-off", "nodir/handed.jsonl"), ("--handed-off", "p"),
])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_sent(
    tmp_path: Path, url: str, option: str, name: str
) -> None:
    pipeline(tmp_path, url)
    write_tasks(tmp_path / "tasks.jsonl", 2)
    if name.startswith("nodir/file"):
        (tmp_path / "nodir").write_text("a file, where a folder is needed")
    refused(command(tmp_path, "run", "p", "tasks.jsonl", "--yes", option, name), INPUT_WRONG, name)
    assert completions(tmp_path) == []


def limited(most: int) -> Callable[[], None]:
    """Run in the child: no file may grow past `most` bytes (EFBIG, as on a full disk, instead of a signal)."""
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return limit


@pytest.mark.parametrize("most", [300_000])
def test_a_full_disk_is_said_and_the_same_command_goes_on_where_it_stopped(
    tmp_path: Path, url: str, most: int
) -> None:
    pipeline(tmp_path, url)
    write_tasks(tmp_path / "tasks.jsonl", 600)
    done = run(tmp_path, "--concurrency", "8", preexec_fn=limited(most))
    refused(done, 1, "hint:")
    went_on = run(tmp_path)
    assert went_on.returncode == 0, went_on.stderr
    assert sorted(line["id"] for line in lines(tmp_path / "out.jsonl")) == sorted(f"t{i}" for i in range(600))
    accounted(tmp_path)


def test_an_interrupted_run_is_exit_code_130_and_resumes(tmp_path: Path) -> None:
    """Ctrl-C while answers are on their way: 130, no traceback; the same command does the rest, nothing twice."""
    never_done = ",".join(["ok"] * 60 + ["hang"])  # however late this process looks, the run has not ended
    with provider(tmp_path, "--latency-ms", "40", "--plan", never_done) as url:
        pipeline(tmp_path, url)
        write_tasks(tmp_path / "tasks.jsonl", 300)
        words = [sys.executable, "-m", "orchestrator", "run", "p", "tasks.jsonl", "--out", "out.jsonl", "--yes",
                 "--concurrency", "8"]
        with started(
            words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
        ) as running:
            wait_for(lambda: len(completions(tmp_path)) > 60)
            running.send_signal(signal.SIGINT)
            _, said = running.communicate(timeout=300)
        assert (running.returncode, "Traceback" in said) == (INTERRUPTED, False), said
        assert "interrupted" in said
        before = rows(tmp_path, "SELECT count(*) FROM call WHERE state = 'intent'")
        assert before == [(0,)], "cancelled calls are settled"
        done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(line["id"] for line in lines(tmp_path / "out.jsonl")) == sorted(f"t{i}" for i in range(300))
    accounted(tmp_path)


def test_a_worst_case_above_the_budget_is_refused_where_nobody_can_be_asked(tmp_path: Path, url: str) -> None:
    pipeline(tmp_path, url, budget={"per_day": "0.0001 USD"})
    write_tasks(tmp_path / "tasks.jsonl", 5)
    refused(command(tmp_path, "run", "p", "tasks.jsonl", "--out", "out.jsonl"), INPUT_WRONG, "--yes")
    assert completions(tmp_path) == []


def wait_for(holds: Callable[[], bool]) -> None:
    """Look until it holds, for five minutes at most."""
    pause = threading.Event()
    for _ in range(6000):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError("it never came to that")


def completions(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log"
    return [one for one in read_log(log) if one["path"].endswith("completions")] if log.exists() else []


def rows(folder: Path, statement: str) -> list[Any]:
    with sqlite3.connect(folder / "orchestrator.db") as connection:
        return connection.execute(statement).fetchall()


def accounted(folder: Path) -> None:
    """Every request that the provider saw is in the ledger; none of those settled was asked again."""
    calls = {call_id for (call_id,) in rows(folder, "SELECT call_id FROM call")}
    assert {one["id"] for one in completions(folder)} <= calls
    assert rows(folder, "SELECT count(*) FROM outcome")[0] == rows(folder, "SELECT count(*) FROM run")[0]
    twice = ("SELECT run_id FROM call WHERE state = 'settled' AND error IS NULL "
             "GROUP BY run_id, request_key HAVING count(*) > 1")
    assert rows(folder, twice) == []
