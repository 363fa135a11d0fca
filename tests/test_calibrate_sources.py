"""Where records come from: ids of recorded tasks, the ledger, and a sum spent on validations. And bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.errors import InputError, RequestRefused
from orchestrator.pipeline import Pipeline
from orchestrator.quality.calibration.evidence import Evidence, Place, place_of
from orchestrator.quality.calibration.from_ledger import from_ledger
from orchestrator.quality.calibration.labels import from_labels, read_labels
from orchestrator.quality.calibration.spending import Purse, by_spending
from orchestrator.quality.history.recorded import read_recorded
from orchestrator.records import Answer, Money, Request, Task
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.calibrations import CERTIFIED, FITTED, calibrated, draft, drafter, labels, validator
from tests.pipelines import POLICY, user_text, write_pipeline

USD = 1_000_000_000
RECORD = 10 * 3_000 + 5 * 15_000 + 10 * 100 + 5 * 400
"""What one validated record costs at the tests' prices, in billionths: 108,000."""
LOOKS = {**POLICY, "after": [*POLICY["after"], {"name": "look", "sample": 0.5, "then": "spot_check"}]}


def lines(path: Path, *rows: Any) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows) + b"\n")
    return path


async def run_live(folder: Path, tasks: list[Task], **options: Any) -> None:
    clients = {"drafter": drafter(), "validator": validator()}
    async with Pipeline.load(
        folder / "p", store=f"sqlite:///{folder / 's.db'}", clients=clients, **options
    ) as pipeline:
        async for outcome in pipeline.amap(tasks):
            assert outcome.status != "failed"


async def _spent(folder: Path) -> int:
    store = await Store.open(f"sqlite:///{folder / 's.db'}")
    try:
        with store.read() as connection:
            return int(connection.exec_driver_sql("SELECT coalesce(sum(cost_nano), 0) FROM call").scalar_one())
    finally:
        await store.aclose()


# -- labels of recorded tasks ------------------------------------------------------------------------------------------


async def test_a_label_that_names_an_id_is_joined_with_the_recorded_task(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED)
    recorded = [Task(id=task.id, input=task.input) for task in labels(80, 20)]
    await run_live(tmp_path, recorded)
    path = lines(tmp_path / "labels.jsonl", *({"id": t.id, "expected": {"label": "a"}} for t in recorded))
    done = await calibrated(tmp_path, from_labels(lambda: read_labels(path)))
    assert (done.certificate.n, done.certificate.draft_accuracy) == (100, 0.8)


async def test_an_unknown_id_is_an_error_that_names_it_and_its_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "labels.jsonl", *({"id": f"x{i}", "expected": 1} for i in range(80)))
    with pytest.raises(InputError, match=r"ids without a recorded task.*'x0' \(.*labels.jsonl:1\).* and 75 more"):
        await calibrated(tmp_path, from_labels(lambda: read_labels(path)))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"id": "t", "input": {"text": "x"}, "expected": {"label": "b"}}, "labels.jsonl:1 and .*:2 contradict"),
        ({"id": "u", "input": {"text": "x"}, "expected": {"label": "b"}}, "the same input has two different"),
        ({"id": "t", "input": {"text": "y"}, "expected": {"label": "a"}}, "id 't' stands for two inputs"),
    ],
)
async def test_contradictory_labels_name_both_lines(tmp_path: Path, second: Any, words: str) -> None:
    first = {"id": "t", "input": {"text": "x"}, "expected": {"label": "a"}}
    path = lines(tmp_path / "labels.jsonl", first, second)
    with pytest.raises(InputError, match=words):
        await calibrated(tmp_path, from_labels(lambda: read_labels(path)))


async def test_too_few_labels_are_refused_before_anything_is_asked_and_told_what_they_could_reach(
    tmp_path: Path,
) -> None:
    model = drafter()
    with pytest.raises(InputError, match=r"25 labels can't certify.*it takes 76") as caught:
        await calibrated(tmp_path, labels(20, 5), clients={"drafter": model, "validator": validator()})
    assert model.calls == []
    assert "25 labels can't certify 3% regret at 90% confidence: " in str(caught.value)
    assert "25 could reach 8.80% regret at 90% confidence, or 3% at 53% confidence, at best" in caught.value.hint


async def test_a_nan_is_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "t", "input": {"text": "x"}, "expected": NaN}\n')
    with pytest.raises(InputError, match=r"labels.jsonl:1: not JSON \(NaN"):
        await calibrated(tmp_path, from_labels(lambda: read_labels(path)))
    with pytest.raises(InputError, match=r"NaN|not JSON"):
        await calibrated(tmp_path, [Task(id="t", input={"text": "x"}, expected=float("nan"))])


async def test_a_corrected_label_counts_although_the_task_was_drafted_before(tmp_path: Path) -> None:
    tasks = labels(100, 0)
    before = await calibrated(tmp_path, tasks)
    corrected = [Task(id=t.id, input=t.input, expected={"label": "b"}) for t in tasks[:10]] + tasks[10:]
    after = await calibrated(tmp_path, corrected, attempt=0)
    assert (before.certificate.draft_accuracy, after.certificate.draft_accuracy) == (1.0, 0.9)


# -- the ledger --------------------------------------------------------------------------------------------------------


async def test_the_ledgers_own_spot_checks_and_escalations_certify(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", policy=LOOKS, step={"confidence": {"from": "logprob.mean", "threshold": -0.5}})
    await run_live(tmp_path, [Task(id=t.id, input=t.input) for t in labels(300, 60)])
    write_pipeline(tmp_path / "p", policy=LOOKS, step=CERTIFIED)
    done = await calibrated(tmp_path, from_ledger())
    written = json.loads(done.path.read_text())
    assert written["reference"] == "validator"
    assert done.certificate.threshold is not None
    assert done.certificate.regretted <= 0.03 * done.certificate.n
    assert "known by spot check: " in done.words
    assert done.certificate.n < done.certificate.given
    assert f"{done.certificate.n} of {done.certificate.given} records are tested: those whose truth was" in done.words
    assert load_pipeline(tmp_path / "p").steps[0].confidence.problem is None


async def test_drafts_that_nothing_could_have_looked_at_count_as_wrong(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step={"confidence": {"from": "logprob.mean", "threshold": -0.5}})
    await run_live(tmp_path, [Task(id=t.id, input=t.input) for t in labels(100, 40)])
    write_pipeline(tmp_path / "p", step=CERTIFIED)
    done = await calibrated(tmp_path, from_ledger())
    assert done.certificate.threshold is None
    assert "100 drafts could never have been looked at, and count as wrong" in done.words


async def test_numbers_and_tags_of_a_ledgers_drafts_are_held_only_where_a_confidence_is_fitted(tmp_path: Path) -> None:
    told: list[Evidence] = []

    async def heard(place: Place) -> Evidence:
        told.append(await from_ledger()(place))
        return told[-1]

    raw = {"confidence": {"from": "logprob.mean", "threshold": -0.5}}
    write_pipeline(tmp_path / "p", policy=LOOKS, step=raw, tags=["team"])
    await run_live(tmp_path, [Task(id=t.id, input=t.input, meta={"team": "blue"}) for t in labels(300, 60)])
    write_pipeline(tmp_path / "p", policy=LOOKS, step=CERTIFIED, tags=["team"])
    await calibrated(tmp_path, heard, max_regret=0.1)
    write_pipeline(tmp_path / "p", policy=LOOKS, step=FITTED, tags=["team"])
    await calibrated(tmp_path, heard, max_regret=0.1)
    plain, fitted = told
    assert not any(one.features or one.meta for one in plain.known)
    assert not any(one.features or one.meta for one in plain.traffic)
    store = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    drafts = await read_recorded(store, load_pipeline(tmp_path / "p"), "label")
    await store.aclose()
    numbers = {one.run_id: dict(one.features) for one in drafts}
    assert {one.id: dict(one.features) for one in fitted.known} == {one.id: numbers[one.id] for one in plain.known}
    assert all(one.meta == {"team": "blue"} for one in fitted.known)
    assert 0 < len(fitted.traffic) < len(plain.traffic) == 360 - len(plain.known)
    assert all(place_of(f"fit {one.id}", 0) >= 0.4 for one in fitted.traffic)


async def test_an_empty_ledger_is_refused_with_the_other_sources_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the ledger holds no draft of step 'label'") as caught:
        await calibrated(tmp_path, from_ledger())
    assert "--spend" in caught.value.hint


# -- a sum to spend ----------------------------------------------------------------------------------------------------


def unlabelled(folder: Path, sure: int, unsure: int) -> Path:
    return lines(folder / "tasks.jsonl", *({"id": t.id, "input": t.input} for t in labels(sure, unsure)))


async def test_a_sum_buys_a_certificate_with_the_cost_told_before(tmp_path: Path) -> None:
    told: list[str] = []
    path = unlabelled(tmp_path, 150, 50)
    done = await calibrated(tmp_path, by_spending(Money(nano=USD), path, tell=told.append))
    assert done.certificate.n == 200
    assert json.loads(done.path.read_text())["reference"] == "validator"
    assert done.certificate.cost_ratio == pytest.approx(1 - done.certificate.coverage + 3_000 / 105_000)
    assert "a record costs at most" in told[0]
    assert "takes 76 at least" in told[0]
    assert await _spent(tmp_path) == 200 * RECORD


@pytest.mark.parametrize("of_bound", [3, 12])
async def test_never_more_than_the_sum_is_spent_and_the_next_try_goes_on(tmp_path: Path, of_bound: int) -> None:
    path = unlabelled(tmp_path, 150, 50)
    told: list[str] = []
    with pytest.raises(InputError, match="not started"):
        await calibrated(
            tmp_path, by_spending(Money(nano=USD), path, tell=told.append, confirm=lambda words: False)
        )
    assert await _spent(tmp_path) == 0
    bound = round(float(told[0].split("at most ")[1].split(" ")[0]) * USD)
    await calibrated(tmp_path, by_spending(Money(nano=USD), path), max_regret=0.5)  # some costs are recorded by now
    limit = of_bound * bound + 90 * RECORD
    other = unlabelled_other(tmp_path)
    before = await _spent(tmp_path)
    done = await calibrated(tmp_path, by_spending(Money(nano=limit), other))
    first = await _spent(tmp_path) - before
    assert 0 < first <= limit
    assert limit - first < bound + RECORD * 64
    again = await calibrated(tmp_path, by_spending(Money(nano=limit), other))
    assert await _spent(tmp_path) - before <= limit
    assert again.certificate.n >= done.certificate.n


async def test_what_the_schemas_defaults_add_to_a_task_is_held_with_it(tmp_path: Path) -> None:
    """They are sent, and are in no line of the file: what was held is what is given back, not more with each task."""
    path = write_pipeline(tmp_path / "p", step=CERTIFIED, task="task.json")
    meta = {"type": "object", "properties": {"desk": {"type": "string", "default": "d" * 400}}}
    (path.parent / "task.json").write_bytes(orjson.dumps({"type": "object", "properties": {"meta": meta}}))
    told: list[str] = []
    source = by_spending(Money(nano=30_000_000), unlabelled_other(tmp_path), tell=told.append)
    done = await calibrated(tmp_path, source)
    assert await _spent(tmp_path) <= 30_000_000
    assert done.labelled < 30_000_000 / RECORD
    assert float(told[0].split("at most ")[1].split(" ")[0]) * USD > 400 * 3_000


def unlabelled_other(folder: Path) -> Path:
    texts = [f"sure {i} again" for i in range(2_000)]
    return lines(folder / "other.jsonl", *({"id": text, "input": {"text": text}} for text in texts))


async def test_a_sum_that_buys_too_little_is_refused_with_what_it_takes(tmp_path: Path) -> None:
    model = validator()
    source = by_spending(Money(nano=1_000_000), unlabelled(tmp_path, 150, 50))
    with pytest.raises(InputError, match="too little") as caught:
        await calibrated(tmp_path, source, clients={"drafter": drafter(), "validator": model})
    assert model.calls == []
    assert "or more" in caught.value.hint


async def test_without_a_file_the_tasks_that_the_store_keeps_are_drawn_from(tmp_path: Path) -> None:
    write_pipeline(tmp_path / "p", step=CERTIFIED)
    await run_live(tmp_path, [Task(id=t.id, input=t.input) for t in labels(90, 30)])
    done = await calibrated(tmp_path, by_spending(Money(nano=USD)))
    assert (done.labelled, done.certificate.n) == (120, 120)


async def test_a_draft_that_was_refused_is_paid_for_by_nobody_and_is_no_record(tmp_path: Path) -> None:
    def sometimes(request: Request) -> Answer | Exception:
        return RequestRefused("400") if "sure 7" in user_text(request) else draft(request)

    clients = {"drafter": ScriptedModel(sometimes, name="drafter"), "validator": validator()}
    done = await calibrated(tmp_path, by_spending(Money(nano=USD), unlabelled(tmp_path, 150, 0)), clients=clients)
    assert done.certificate.n == done.reached == 139


async def test_a_validator_without_a_price_can_be_held_to_no_sum(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no price in EUR"):
        await calibrated(tmp_path, by_spending(Money(nano=USD, currency="EUR"), unlabelled(tmp_path, 150, 0)))


async def test_a_purse_lets_a_task_wait_and_refuses_what_will_never_fit() -> None:
    purse = Purse(limit=100)
    assert await purse.take("a", 60)
    waiting = _start(purse, "b", 60)
    await purse.settle("a", 10)
    assert await waiting()
    await purse.settle("b", 60)
    assert not await purse.take("c", 60)
    assert purse.spent == 70


def _start(purse: Purse, task_id: str, bound: int) -> Callable[[], Any]:
    import asyncio

    task = asyncio.create_task(purse.take(task_id, bound))

    async def result() -> bool:
        return await task

    return result
