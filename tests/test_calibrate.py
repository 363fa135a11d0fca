"""`calibrate --labels`: through the real path, into a file that the pipeline then trusts, or not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.errors import ConfigError, InputError, RequestRefused
from orchestrator.finance.report import build_report
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.calibrate import calibrate
from orchestrator.quality.calibration.labels import from_labels, read_labels
from orchestrator.records import Answer, Money, Request, Task
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, calibrated, draft, drafter, labels, validator
from tests.pipelines import user_text, write_pipeline


async def test_a_certificate_is_written_and_the_pipeline_accepts_by_it(tmp_path: Path) -> None:
    done = await calibrated(tmp_path, labels(90, 30))
    assert done.certificate.recommendation == "cascade"
    assert done.certificate.threshold == pytest.approx(-0.01089)  # of "sure 89"
    written = json.loads(done.path.read_text())
    assert (written["kind"], written["signal"], written["reference"]) == ("certificate", "logprob.mean", "label")
    assert (written["n"], written["regretted"], written["coverage"]) == (120, 0, 0.75)
    assert written["created"] == "2026-11-22T00:00:00+00:00"
    assert [one.name for one in done.path.parent.iterdir()] == ["label.json"]

    loaded = load_pipeline(tmp_path / "p")
    assert loaded.steps[0].confidence.problem is None
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline(loaded, store="memory:", clients=clients) as pipeline:
        sure = await pipeline.arun(Task(input={"text": "sure thing"}))
        unsure = await pipeline.arun(Task(input={"text": "unsure thing"}))
    assert (sure.status, unsure.status) == ("accepted", "redone")
    assert sure.decision is not None
    assert sure.decision.certified


async def test_a_changed_prompt_makes_the_certificate_lapse(tmp_path: Path) -> None:
    await calibrated(tmp_path, labels(90, 30))
    (tmp_path / "p/prompt.md").write_text("Another prompt: {{ task.input.text }}\n")
    assert "prompt" in (load_pipeline(tmp_path / "p").steps[0].confidence.problem or "")


async def test_a_calibration_that_certifies_nothing_makes_everything_escalate(tmp_path: Path) -> None:
    wrong = [Task(id=f"w{i}", input={"text": f"sure {i}"}, expected={"label": "c"}) for i in range(40)]
    done = await calibrated(tmp_path, [*wrong, *labels(0, 60)])
    assert json.loads(done.path.read_text())["threshold"] is None
    assert done.certificate.recommendation == "always_validate"
    assert "not one draft is right" in done.words
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline(load_pipeline(tmp_path / "p"), store="memory:", clients=clients) as pipeline:
        assert (await pipeline.arun(Task(input={"text": "sure thing"}))).status == "approved"


async def test_the_words_end_with_a_recommendation_and_its_figures(tmp_path: Path) -> None:
    words = (await calibrated(tmp_path, labels(90, 30))).words.splitlines()
    assert "validator not asked: it counts as right, so that the bound holds all the more" in words
    assert any("25.0%" in line and "22.0% must escalate" in line for line in words)
    assert words[-1].startswith("recommendation: cascade (the threshold accepts 90 of 120 drafts")


async def test_a_measured_validator_gives_costs_and_a_regret_of_its_own(tmp_path: Path) -> None:
    wrong = ScriptedModel(lambda request: {"label": "c"}, name="validator")
    done = await calibrated(tmp_path, labels(90, 30), validate=True, clients={"drafter": drafter(), "validator": wrong})
    assert done.certificate.validator_accuracy == 0.0
    written = json.loads(done.path.read_text())
    assert written["validator_asked"] == written["validator_wrong"] == written["accepted"] == 120
    assert done.certificate.base_loss == 0.0  # nothing is missed where the validator is wrong as well
    assert done.certificate.cost_ratio is not None
    assert done.certificate.recommendation == "always_draft"


async def test_an_interrupted_calibration_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    tasks, model, store = labels(80, 20), drafter(), f"sqlite:///{tmp_path / 's.db'}"

    class Stop(Exception):
        pass

    def stop() -> None:
        if len(model.calls) >= 30:
            raise Stop

    @contextlib.contextmanager
    def bars(words: str, total: int) -> Iterator[Callable[[], object]]:
        yield stop

    with pytest.raises(Stop):
        await calibrated(tmp_path, tasks, clients={"drafter": model, "validator": validator()}, store=store,
                        concurrency=4, bars=bars)
    done = await calibrated(tmp_path, tasks, clients={"drafter": model, "validator": validator()}, store=store)
    again = await calibrated(tmp_path, tasks, clients={"drafter": model, "validator": validator()}, store=store)
    assert done.certificate.n == again.certificate.n == 100
    assert done.certificate == again.certificate
    assert len(model.calls) <= 104  # what was in flight at the interruption may be asked again


async def test_a_draft_that_could_not_be_had_is_not_counted_as_right(tmp_path: Path) -> None:
    def sometimes(request: Request) -> Answer | Exception:
        return RequestRefused("400") if "sure 7" in user_text(request) else draft(request)

    broken = ScriptedModel(sometimes, name="drafter")
    done = await calibrated(tmp_path, labels(90, 0), clients={"drafter": broken, "validator": validator()})
    assert done.labelled == 90
    assert done.certificate.n == done.reached < 90


async def test_a_task_without_a_label_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model = drafter()
    with pytest.raises(InputError, match="'x' has no `expected`"):
        await calibrated(tmp_path, [Task(id="x", input={"text": "y"})], clients={"drafter": model})
    assert model.calls == []


async def test_a_pipeline_that_names_no_certificate_is_refused(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    with pytest.raises(ConfigError, match="names no certificate file"):
        await calibrate(path, labels(100, 0), max_regret=0.03, store="memory:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"input": {"text": "x"}, "expected": {"label": "a"}}\n{"input": 3}\n', ":2: "),
        (b'{"input": {"text": "x"}}\n', "has no `expected`"),
        (b"not json\n", ":1: "),
        (b"[1]\n", "not an object"),
        (b"\xff\xfe\n", "UTF-8"),
    ],
)
async def test_a_line_that_is_no_labelled_task_is_named(tmp_path: Path, text: bytes, said: str) -> None:
    path = write_pipeline(tmp_path / "p", step=CERTIFIED)
    (tmp_path / "labels.jsonl").write_bytes(text)
    with pytest.raises(InputError, match=said):
        await calibrate(
            path, from_labels(lambda: read_labels(tmp_path / "labels.jsonl")), max_regret=0.03, store="memory:"
        )


async def test_a_calibration_is_in_the_ledger_and_in_no_figure_of_the_report(tmp_path: Path) -> None:
    await calibrated(tmp_path, labels(90, 30))
    store = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline(load_pipeline(tmp_path / "p"), store=store, clients=clients) as pipeline:
        await pipeline.arun(labels(1, 0)[0])
    report = build_report(store)
    await store.aclose()
    (line,) = report.lines
    (spend,) = line.spend
    assert (line.runs, line.successes, line.calls) == (1, 1, 121)
    each = 10 * 100 + 5 * 400
    assert (spend.total, spend.calibration) == (Money(nano=each), Money(nano=120 * each))
