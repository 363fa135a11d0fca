"""The benchmarks on real text: their cheap parts. What they print of trained pairs stands in docs/banking77.md."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.intents import benchmark, data, results, table
from benchmarks.intents.data import Dataset
from benchmarks.intents.datasets import BANKING77, CLINC150, DATASETS, OUT_OF_SCOPE
from benchmarks.intents.place import ROLES, ROOT, Place, prepared, variable
from orchestrator.check import check_pipeline
from orchestrator.models import vllm_command
from orchestrator.models.logprobs import summarise
from orchestrator.outcome_file import OutcomeFile
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import calibrate
from orchestrator.quality.calibration.labels import from_labels, read_labels
from orchestrator.records import Answer, Mode, Request, Usage
from orchestrator.task_file import read
from orchestrator.testing import ScriptedModel
from tests.pipelines import user_text

DATA = Path(os.environ.get("ORCHESTRATOR_DATA", ROOT.parent / "shared" / "data"))
ALL_DATA = pytest.mark.skipif(not all((DATA / name).is_dir() for name in DATASETS), reason="the data sets are not here")
KINDS = ("easy", "easy", "easy", "regretted", "both_wrong", "unsure")
INTENTS = ("card_arrival", "age_limit")
MODES: dict[Mode, str] = {"draft_only": "all", "validate_only": "all", "cascade": "measure"}

TOKENIZED = """
import sys
from pathlib import Path
from benchmarks.intents import data, tokens
from benchmarks.intents.datasets import DATASETS

questions = DATASETS[sys.argv[1]].read(Path(sys.argv[2]), "train")
intents = data.intents(questions)
t = tokens.build([q.text for q in questions], intents)
assert all(len(tokens.answer_ids(t, intent)) == 6 for intent in intents)
text = questions[0].text
chat = t.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
trained_on = [*tokens.question_ids(t, [text])[0], *tokens.answer_ids(t, intents[0])]
user = t.convert_tokens_to_ids(tokens.USER)
assert t(chat, add_special_tokens=False)["input_ids"] == [user, *trained_on[:-4]]
assert t.decode(tokens.answer_ids(t, intents[7])[2:5]) == '{"intent":"%s"}' % intents[7]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Data of the same form: 60 test questions, whose text says how the scripted models fare."""
    found = tmp_path / "data"
    found.mkdir()
    for name in BANKING77.files:
        with (found / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["text", "category"])
            rows.writerows([f"{KINDS[i % 6]} question {i}", INTENTS[i % 2]] for i in range(60))
    return found


@pytest.fixture
def place(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = prepared(tmp_path / "work", resume=False)
    for role in ROLES:
        monkeypatch.setenv(variable(role), found.environment[variable(role)])
    benchmark.write_tasks(BANKING77, found, folder)
    return found


def test_the_halves_are_disjoint_cover_all_and_are_always_the_same(folder: Path) -> None:
    questions = BANKING77.read(folder, "test")
    certify, measure = data.halves(questions)
    assert len(certify) == len(measure) == 30
    assert {q.id for q in certify} | {q.id for q in measure} == {q.id for q in questions}
    assert data.halves(questions) == (certify, measure)


def test_other_columns_are_refused(folder: Path) -> None:
    (folder / "test.csv").write_text("text,label\na,b\n")
    with pytest.raises(ValueError, match="'label'"):
        BANKING77.read(folder, "test")


def test_what_is_in_none_of_the_domains_is_an_intent_too(tmp_path: Path) -> None:
    _write_clinc150(tmp_path, {"test": [["what time is it", "time"]], "oos_test": [["a show", "oos"]]})
    assert CLINC150.read(tmp_path, "test") == [
        data.Question("test-1", "what time is it", "utility.time"), data.Question("oos_test-1", "a show", OUT_OF_SCOPE)
    ]


@pytest.mark.parametrize("whole", [{"test": [["a", "time"]]}, {"test": [["a", "tide"]], "oos_test": []}])
def test_a_missing_part_and_an_intent_of_no_domain_are_refused(tmp_path: Path, whole: dict[str, Any]) -> None:
    _write_clinc150(tmp_path, whole)
    with pytest.raises(ValueError, match=r"'oos_test'|'tide'"):
        CLINC150.read(tmp_path, "test")


@ALL_DATA
@pytest.mark.parametrize(
    ("dataset", "sizes", "of_intents", "in_both"),
    [(BANKING77, (10_003, 3_080), 77, 0), (CLINC150, (15_100, 5_500), 151, 2)],
)
def test_the_real_files_are_read_whole(
    dataset: Dataset, sizes: tuple[int, int], of_intents: int, in_both: int
) -> None:
    train, test = dataset.read(DATA / dataset.name, "train"), dataset.read(DATA / dataset.name, "test")
    assert (len(train), len(test)) == sizes
    assert data.intents(train) == data.intents(test)
    assert len(data.intents(train)) == of_intents
    assert len({q.text for q in train} & {q.text for q in test}) == in_both


@ALL_DATA
@pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))
def test_no_intent_stands_in_a_text_where_it_would_be_read_as_one_token(dataset: Dataset) -> None:
    questions = [q for part in ("train", "test") for q in dataset.read(DATA / dataset.name, part)]
    texts = "\n".join(q.text.lower() for q in questions)
    assert not [intent for intent in data.intents(questions) if intent.lower() in texts]


def test_tasks_and_pipeline_pass_the_checks_of_the_command_line(place: Place) -> None:
    report = check_pipeline(place.pipeline)
    assert [f.message for f in report.findings if f.level == "error"] == []
    tasks = [line.task for line in read(place.tasks("all"), task_bytes=10_000, schema=None)]
    assert len(tasks) == 60
    assert {task.meta["part"] for task in tasks if task is not None} == {"certify", "measure"}


def test_the_servers_of_a_killed_run_are_found_again_by_the_next_one(tmp_path: Path) -> None:
    first = prepared(tmp_path / "work", resume=False).environment
    again = prepared(tmp_path / "work", resume=False)
    assert again.environment[variable("drafter")] == first[variable("drafter")]
    again.new_endpoints()
    assert prepared(tmp_path / "work", resume=True).environment == again.environment


def test_resuming_keeps_what_was_made_and_beginning_anew_removes_it_and_nothing_else(tmp_path: Path) -> None:
    work = tmp_path / "work"
    made = prepared(work, resume=False).model("drafter")
    made.mkdir()
    (work / "notes.txt").write_text("mine")
    prepared(work, resume=True)
    assert made.exists()
    prepared(work, resume=False)
    assert not made.exists()
    assert (work / "notes.txt").read_text() == "mine"


async def test_regret_is_counted_where_the_cascade_served_a_wrong_draft_that_the_validator_had_right(
    place: Place,
) -> None:
    found = await _after_all_runs(place)
    measured = found.of_part("measure")
    kinds = [_kind(place, one.id) for one in measured]
    assert found.certificate["threshold"] > -2.0, "else nothing escalates"
    assert found.ways["cascade"].regretted == kinds.count("regretted") > 0
    assert found.ways["draft_only"].regretted == kinds.count("regretted") + kinds.count("unsure")
    assert found.ways["cascade"].line.escalated == kinds.count("unsure") > 0
    assert found.ways["cascade"].cost < found.ways["validate_only"].cost
    assert found.ways["validate_only"].line.successes == 30 - kinds.count("both_wrong")
    assert table.rendered("banking77", place, found, seconds=1.0).startswith("banking77: 60 test questions")


async def test_a_record_of_every_test_task_is_written_with_its_features(place: Place) -> None:
    results.write_records(place, await _after_all_runs(place))
    records = [json.loads(line) for line in (place.folder / "records.jsonl").read_text().splitlines()]
    assert len(records) == 60
    for one in records:
        kind = _kind(place, one["id"])
        assert one["draft_ok"] == (kind == "easy")
        assert one["validator_ok"] == (kind != "both_wrong")
        assert one["score"] == pytest.approx(-2.0 if kind == "unsure" else -0.01)
        assert 0 < one["draft_cost"] < one["validator_cost"]
        assert one["features"]["span_mean"] == pytest.approx(one["score"])


@pytest.mark.live
@ALL_DATA
@pytest.mark.parametrize("name", DATASETS)
def test_every_intent_is_one_token_and_a_question_stands_as_vllm_will_see_it(name: str) -> None:
    """Under the Python that has vLLM: this one has no transformers."""
    python = vllm_command.vllm_python()
    if not vllm_command.installed(python):
        pytest.skip(f"no vLLM in {python}: `bash .ci/vllm.sh` installs one")
    done = subprocess.run(
        [python, "-c", TOKENIZED, name, DATA / name], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr


async def _after_all_runs(place: Place) -> results.Results:
    """Certify and run as the benchmark does, with scripted models in place of the trained ones."""
    clients = {"drafter": ScriptedModel(_drafter), "validator": ScriptedModel(_validator)}
    await calibrate(
        place.pipeline, from_labels(lambda: read_labels(place.tasks("certify")), validate=True), max_regret=0.4,
        store=place.store("calibrate"), clients=clients,
    )
    for mode, name in MODES.items():
        lines = place.tasks(name).read_text().splitlines()
        async with Pipeline.load(place.pipeline, store=place.store(mode), mode=mode, clients=clients) as pipeline:
            with OutcomeFile(place.outcomes(mode)) as out:
                async for outcome in pipeline.amap([json.loads(line) for line in lines]):
                    out.write(outcome)
    return await asyncio.to_thread(results.read, place)


def _write_clinc150(folder: Path, whole: dict[str, Any]) -> None:
    (folder / "domains.json").write_text(json.dumps({"utility": ["time"]}))
    (folder / "data_full.json").write_text(json.dumps(whole))


def _drafter(request: Request) -> Answer:
    text = user_text(request)
    return _said(_right(text) if text.startswith("easy") else _wrong(text), -2.0 if "unsure" in text else -0.01)


def _validator(request: Request) -> Answer:
    text = user_text(request)
    return _said(_wrong(text) if text.startswith("both_wrong") else _right(text), -0.01)


def _said(intent: str, logprob: float) -> Answer:
    text = json.dumps({"intent": intent})
    found = summarise([text], [logprob])
    return Answer(
        text=text, finish_reason="stop", usage=Usage(input=20, output=4), model="scripted", logprobs=found,
        value_logprobs=found,
    )


def _right(text: str) -> str:
    return INTENTS[int(text.split()[-1]) % 2]


def _wrong(text: str) -> str:
    return INTENTS[1 - int(text.split()[-1]) % 2]


def _kind(place: Place, task_id: str) -> str:
    lines = place.tasks("all").read_text().splitlines()
    return next(str(one["input"]["text"]).split()[0] for one in map(json.loads, lines) if one["id"] == task_id)
