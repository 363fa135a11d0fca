"""Tasks that a synchronous caller's iterable gives when it likes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Pipeline
from orchestrator.cascade.drawn import AHEAD, drawn
from orchestrator.errors import InputError
from tests.pipelines import write_pipeline
from tests.test_pipeline import A, both


def task(number: int) -> dict[str, Any]:
    return {"id": str(number), "input": {"text": str(number)}}


def test_an_iterable_that_waits_for_an_outcome_gets_it(tmp_path: Path) -> None:
    """And so does another thread that asks meanwhile: nothing waits in the event loop."""
    seen = threading.Event()
    path, store = write_pipeline(tmp_path / "p"), f"sqlite:///{tmp_path}/s.db"
    with Pipeline.load(path, store=store, clients=both(lambda _: A)) as pipeline:
        def tasks() -> Iterator[dict[str, Any]]:
            yield task(1)
            assert seen.wait(60), "the first outcome came while this waited"
            assert pipeline.run(task(3)).status == "accepted"
            yield task(2)

        ids = []
        for outcome in pipeline.map(tasks()):
            ids.append(outcome.id)
            seen.set()
    assert ids == ["1", "2"]


def test_what_the_iterable_raises_is_raised(tmp_path: Path) -> None:
    def tasks() -> Iterator[dict[str, Any]]:
        yield task(1)
        raise KeyError("a column is missing")

    path = write_pipeline(tmp_path / "p")
    with (
        Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline,
        pytest.raises(KeyError, match="a column is missing"),
    ):
        list(pipeline.map(tasks()))


async def test_no_more_are_drawn_than_a_few_ahead_and_the_rest_is_given_up() -> None:
    closed, count = threading.Event(), 0

    def numbers() -> Iterator[int]:
        nonlocal count
        try:
            while True:
                yield count
                count += 1
        finally:
            closed.set()

    some = drawn(numbers())
    assert [await anext(some) for _ in range(10)] == list(range(10))
    await some.aclose()
    assert closed.wait(60)
    assert count <= 10 + AHEAD + 1


def test_it_is_the_same_for_many_and_for_none(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    with Pipeline.load(path, store="memory:", clients=both(lambda _: A)) as pipeline:
        assert {outcome.id for outcome in pipeline.map(map(task, range(500)), concurrency=8)} == set(
            map(str, range(500)))
        assert list(pipeline.map(iter(()))) == []
        with pytest.raises(ValueError, match="concurrency"):
            list(pipeline.map(iter([task(1)]), concurrency=0))
    with pytest.raises(InputError, match="closed"):
        list(pipeline.map(iter([task(1)])))
