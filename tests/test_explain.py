"""explain: the arithmetic of each call, who said what of a run's success, and where its rows are sealed and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator import Pipeline, Task
from orchestrator.finance.closing.close import close_month
from orchestrator.finance.explain import explain, explain_text
from orchestrator.store.engine import Store
from orchestrator.store.learned import FeedbackEntry
from orchestrator.testing import ScriptedModel
from tests.pipelines import write_pipeline
from tests.stores import Clock
from tests.trail import TEXTS, at, rows, serve, sql, url

NOV_2 = at("2026-11-02T09:00")


async def explained(folder: Path, run_id: str) -> dict[str, Any]:
    store = await Store.open(url(folder), clock=Clock(NOV_2))
    try:
        return {**explain(store, run_id), "text": explain_text(store, run_id)}
    finally:
        await store.aclose()


async def first(folder: Path, **settings: Any) -> str:
    outcomes = await serve(folder, TEXTS, **settings)
    return next(o.run_id for o in outcomes if o.id is not None and o.id.endswith(" 0"))


async def test_each_class_of_a_call_is_written_out_and_comes_to_its_cost(tmp_path: Path) -> None:
    book = {"drafter": {"account": "team-a"}}
    found = await explained(tmp_path, await first(tmp_path, **book, budget={"per_task": "1 USD"}))
    (one,) = found["calls"]
    bill = one["bill"]
    assert [(part["class"], part["per_million"]) for part in bill["classes"]] == [("input", "0.1"), ("output", "0.4")]
    tokens = {part["class"]: part["tokens"] for part in bill["classes"]}
    assert tokens == {"input": one["usage"]["input"], "output": one["usage"]["output"]}
    assert bill["adds_up"] is True
    assert one["account"] == "team-a"
    assert [scope.partition(":")[0] for scope in one["budgets"]] == ["task"]
    assert f"{tokens['input']} input x 0.1 a million = " in found["text"]


async def test_the_history_of_success_says_which_word_counts_and_why(tmp_path: Path) -> None:
    run_id = await first(tmp_path)
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    for when, success, source in ((1, True, "feedback"), (2, False, "spot_check"), (3, False, "feedback")):
        await store.record_feedback(run_id, success=success, source=source, at=NOV_2 + when)  # type: ignore[arg-type]
    await store.aclose()
    found = await explained(tmp_path, run_id)
    history = found["history"]
    assert [(one["by"], one["success"], one["counts"]) for one in history] == [
        ("outcome", None, False), ("feedback", True, False), ("spot_check", False, False), ("feedback", False, True)]
    assert [one["why"] for one in history] == [
        "it says nothing of success", "a later word of the same source replaced it",
        "feedback comes before spot_check",
        "feedback comes before status, label, proof, spot_check, validator, unknown"]
    assert all(one["seal"]["state"] == "ok" for one in history)


async def test_a_cache_hit_shows_what_is_known_of_its_source(tmp_path: Path) -> None:
    await first(tmp_path)
    (hit,) = await serve(tmp_path, ["text 3"], when="2026-10-06T00:00")
    ((source,),) = rows(tmp_path, f"SELECT source_run_id FROM run WHERE run_id = '{hit.run_id}'")
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    await store.record_feedback(source, success=True)
    await store.aclose()
    found = await explained(tmp_path, hit.run_id)
    (counts,) = [one for one in found["history"] if one["counts"]]
    assert (counts["run_id"], counts["success"]) == (source, True)
    assert f"feedback of run {source}: success" in found["text"]


async def test_seals_and_the_close_a_run_belongs_to_are_shown(tmp_path: Path) -> None:
    run_id = await first(tmp_path)
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    month = await close_month(store, "2026-10", now=NOV_2)
    await store.aclose()
    found = await explained(tmp_path, run_id)
    assert found["outcome"]["close"] == found["calls"][0]["close"] == {"period": "2026-10", "sha256": month.digest}
    assert {found["outcome"]["seal"]["state"], found["calls"][0]["seal"]["state"]} == {"ok"}
    assert "ok; closed in 2026-10" in found["text"]


async def test_a_changed_call_shows_in_its_seal_and_in_its_bill(tmp_path: Path) -> None:
    run_id = await first(tmp_path)
    sql(tmp_path, f"UPDATE call SET cost_nano = cost_nano + 1 WHERE run_id = '{run_id}'")
    found = await explained(tmp_path, run_id)
    assert (found["calls"][0]["seal"]["state"], found["calls"][0]["bill"]["adds_up"]) == ("changed", False)
    assert "this does NOT come to the cost of the call" in found["text"]


async def test_dated_words_on_a_closed_run_count_in_the_order_of_their_dates(tmp_path: Path) -> None:
    """The close moves both to the moment they are recorded; explain and the stored outcome agree on the last."""
    run_id = await first(tmp_path)
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    await close_month(store, "2026-10", now=NOV_2)
    for i in range(4):
        await store.record_feedbacks([
            FeedbackEntry(run_id=run_id, success=i % 2 == 0, reason=f"second {i}", at=at("2026-10-12T00:00") + i),
            FeedbackEntry(run_id=run_id, success=i % 2 == 1, reason=f"first {i}", at=at("2026-10-11T00:00") + i),
        ])
        stored = await store.stored_outcome(run_id)
        assert stored is not None
        (counts,) = [one for one in explain(store, run_id)["history"] if one["counts"]]
        assert (stored.success, counts["success"], counts["reason"]) == (i % 2 == 0, i % 2 == 0, f"second {i}")
        store._clock.now += 1  # type: ignore[attr-defined]
    await store.aclose()


async def test_a_spot_check_s_cost_comes_on_top_of_what_the_run_cost_when_it_ended(tmp_path: Path) -> None:
    run_id = await first(tmp_path)
    before = (await explained(tmp_path, run_id))["text"]
    assert ", cost 0.0000028 USD" in before
    assert "when it ended" not in before
    sql(tmp_path, f"UPDATE call SET role = 'spot_check', cost_nano = 7000 WHERE run_id = '{run_id}'",
        f"UPDATE outcome SET cost_nano = 480 WHERE run_id = '{run_id}'")
    text = (await explained(tmp_path, run_id))["text"]
    assert "cost when it ended 0.00000048 USD; with later checks 0.00000748 USD" in text


async def test_verdicts_that_could_not_be_read_show_at_their_calls(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step={"validate": {"model": "validator", "mode": "repair",
                                                             "on_reject": "redo"}})
    models = {"drafter": ScriptedModel([{"label": "a"}], logprob=-3.0),
              "validator": ScriptedModel(["I approve!", "I still do!", {"label": "b"}])}
    async with Pipeline.load(path, store=url(tmp_path), clients=models) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "unsure"}))
    found = await explained(tmp_path, outcome.run_id)
    assert [(one["role"], one["followed_by"]) for one in found["calls"]] == [
        ("draft", None), ("repair", "asked_again"), ("repair", "redone"), ("redo", None)]
    assert found["text"].count("its verdict could not be read: asked once more") == 1
    assert found["text"].count("its verdict was not served (rejected, unreadable") == 1
