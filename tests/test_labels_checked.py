"""What is said before money is spent: of labels that can't be right, of nothing to replay, of a share written 3%."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline, Task
from orchestrator.config.loader import load_pipeline
from orchestrator.errors import InputError
from orchestrator.quality.calibration.labels import Label, _counted, _fit_schema, read_labels
from orchestrator.quality.what_if.simulate import simulate
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline


def labels(folder: Path, *expected: Any) -> tuple[Sequence[Label], list[Task]]:
    path = folder / "labels.jsonl"
    rows = [{"id": f"t{i}", "input": {"text": "x"}, "expected": one} for i, one in enumerate(expected)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_labels(path)
    return found, [one.task for one in found if one.task is not None]


@pytest.mark.parametrize("compare", ["exact", "fields"])
def test_an_expected_that_breaks_the_output_schema_is_named_by_its_line(tmp_path: Path, compare: str) -> None:
    step = load_pipeline(write_pipeline(tmp_path / "p", step={"compare": compare})).steps[0]
    with pytest.raises(InputError, match=r"labels.jsonl:2: `expected` breaks the step's output schema"):
        _fit_schema(*labels(tmp_path, {"label": "a"}, {"lable": "a"}), step)


def test_a_comparison_of_one_s_own_may_read_another_form(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step={"compare": "operator:eq"}, allow_imports=["operator"])
    _fit_schema(*labels(tmp_path, "a"), load_pipeline(path).steps[0])


def test_bad_lines_are_told_together(tmp_path: Path) -> None:
    bad = ['{"id": "a", "input": {}}', "{", '{"id": 1.5, "expected": 1}', '{"input": {}, "expected": 1, "label": 1}']
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join([*bad, '{"input": {}, "expected": 1}', *["["] * 9]) + "\n")
    with pytest.raises(InputError) as caught:
        read_labels(file)
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in said[:4]] == [f"{file}:{number}" for number in (1, 2, 3, 4)]
    assert all(word in line for word, line in zip(("expected", "not JSON", "1.5", "label"), said[:4], strict=True))
    assert (len(said), said[-1]) == (11, "and 3 more")


def test_labels_that_say_the_same_are_counted_once_and_that_is_said() -> None:
    assert _counted(1, 1) == "1 labelled task"
    assert _counted(3, 5) == "3 labelled tasks (2 more said the same of the same id, and count once)"


async def test_nothing_to_replay_has_a_cause(tmp_path: Path) -> None:
    clients = {"drafter": ScriptedModel(lambda _: {"label": "a"}, name="drafter"),
               "validator": ScriptedModel(lambda _: {"label": "a"}, name="validator")}
    path = write_pipeline(tmp_path / "p")
    store = await Store.open("memory:")
    try:
        with pytest.raises(InputError, match="no recorded run of step 'label': the store has none of pipeline"):
            await simulate(store, load_pipeline(path))
        async with Pipeline.load(path, store=store, clients=clients) as pipeline:
            await pipeline.arun(Task(input={"text": "x"}))
        with pytest.raises(InputError, match="ended in that time; 1 of the pipeline ended before or after"):
            await simulate(store, load_pipeline(path), until=1.0)
        (tmp_path / "p" / "prompt.md").write_text("Another prompt: {{ task.input.text }}\n")
        with pytest.raises(InputError, match="was drafted as the pipeline drafts today: 1 ran, with another prompt"):
            await simulate(store, load_pipeline(path))
    finally:
        await store.aclose()
