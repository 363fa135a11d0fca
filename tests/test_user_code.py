"""Code of the user's own looks at an answer and can't change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator import Pipeline, Task
from tests.pipelines import POLICY, write_pipeline
from tests.test_pipeline import A, both


def scribble(value: Any, task: Task) -> bool:
    value["label"], task.input["text"] = "zzz", "scribbled"  # type: ignore[index]  # a user's may well try
    return True


def alike(one: Any, other: Any) -> bool:
    same = bool(one == other)
    one["label"] = other["label"] = "zzz"
    return same


async def test_what_it_writes_into_an_answer_is_not_served_cached_or_compared(tmp_path: Path) -> None:
    here = "tests.test_user_code"
    path = write_pipeline(
        tmp_path / "p", policy={**POLICY, "after": [{"name": "all", "then": "escalate"}]}, allow_imports=[here],
        step={"signals": ["schema", {"python": {"call": f"{here}:scribble"}}], "confidence": None,
              "compare": f"{here}:alike"}, guards=[f"{here}:scribble"], cache={"ttl": "1h"},
    )
    clients = both(lambda _: dict(A), lambda _: dict(A))
    async with Pipeline.load(path, store="memory:", clients=clients) as pipeline:
        tasks = [{"id": str(number), "input": {"text": "x"}} for number in range(2)]
        outcomes = [await pipeline.arun(task) for task in tasks]
    assert [(outcome.status, outcome.value) for outcome in outcomes] == [("approved", A)] * 2
    assert outcomes[0].steps["label"].draft_ok
    assert tasks[0]["input"] == {"text": "x"}
    assert len(clients["drafter"].calls) == 1
