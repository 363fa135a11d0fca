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
from tests.trail import TEXTS, at, command, rows, serve, sql, url

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


LONG = "unsure " * 100
WIPE = "wipe \x1b[2J it\nall"
REPAIR = {"validate": {"model": "validator", "mode": "repair"}}


async def repaired(folder: Path, *, id: str = "t1", tenant: str = "", **settings: Any) -> str:
    """A run whose draft `a` the validator made a `b`."""
    path = write_pipeline(folder / "p", step=REPAIR, **settings)
    models = {"drafter": ScriptedModel([{"label": "a"}], logprob=-3.0),
              "validator": ScriptedModel([{"verdict": "repaired", "value": {"label": "b"}, "reasons": ["it is b"]}])}
    async with Pipeline.load(path, store=url(folder), clients=models, clock=Clock(NOV_2)) as pipeline:
        return (await pipeline.arun(Task(id=id, meta={"tenant": tenant}, input={"text": LONG}))).run_id


async def test_what_was_said_is_shown_and_long_texts_are_cut(tmp_path: Path) -> None:
    run_id = await repaired(tmp_path, cache={"ttl": "30d"})
    found = await explained(tmp_path, run_id)
    shown = f'{{"text": "{LONG}'[:300]
    for line in ('  id: "t1"', f"  input: {shown}… (712 characters; --full shows them)", '  the draft: {"label": "a"}',
                 '  served (the validator\'s, repaired): {"label": "b"}',
                 '      answered: {"verdict": "repaired", "value": {"label": "b"}, "reasons": ["it is b"]}'):
        assert line in found["text"].splitlines()
    assert found["said"]["contents"]["draft:label"] == {"label": "a"}
    assert found["said"]["not_kept"] is None
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    assert f'  input: {{"text": "{LONG}"}}' in explain_text(store, run_id, full=True).splitlines()
    await store.aclose()


async def test_an_accepted_draft_is_shown_as_what_was_served(tmp_path: Path) -> None:
    text = (await explained(tmp_path, await first(tmp_path)))["text"]
    assert '  the draft, served: {"label": "a"}' in text.splitlines()
    assert "  served (" not in text


async def test_where_nothing_is_kept_it_says_why(tmp_path: Path) -> None:
    none = await explained(tmp_path / "none", await repaired(tmp_path / "none", content={"keep": "none"}))
    assert "what was said is not kept: the pipeline says `content: {keep: none}`" in none["text"]
    assert (none["said"]["contents"], none["said"]["answers"]) == ({}, {})
    run_id = await repaired(tmp_path)
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2 + 31 * 86400))
    await store.sweep()
    assert "what was said is not kept: `content: {keep: 30d}` is over" in explain_text(store, run_id)
    await store.forget(run_ids=[run_id])
    assert "what was said is not kept: erased by `orchestrator forget`" in explain_text(store, run_id)
    await store.aclose()


async def test_numbers_have_the_names_that_rules_write_and_answers_their_value(tmp_path: Path) -> None:
    run_id = await repaired(tmp_path)
    found = await explained(tmp_path, run_id)
    (step,) = found["steps"]
    assert step["features"]["lp_q0"] == step["measured"]["logprob.min"] == -3
    assert step["features"]["span_mean"] == step["measured"]["logprob.span.mean"]
    assert (step["answered"], step["compared"]) == ({"label": {"value": "a", "place": 0, "of": 3}}, "logprob.mean")
    assert "  answer:label = 0, which is 'a' (of 3 in the schema)" in found["text"]
    assert "  confidence logprob.mean -3, threshold -0.5 (UNCERTIFIED)" in found["text"]
    assert "logprob.min" not in found["text"]
    store = await Store.open(url(tmp_path), clock=Clock(NOV_2))
    told = explain_text(store, run_id, features=True)
    await store.aclose()
    assert told.index("outcome: repaired") < told.index("logprob.min = -3")


async def test_words_of_others_command_no_terminal(tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", step={"validate": {**REPAIR["validate"], "on_reject": "redo"}})
    models = {"drafter": ScriptedModel([{"label": "a"}], logprob=-3.0),
              "validator": ScriptedModel([{"verdict": "rejected", "reasons": [WIPE]}, {"label": "b"}])}
    async with Pipeline.load(path, store=url(tmp_path), clients=models) as pipeline:
        outcome = await pipeline.arun(Task(input={"text": "unsure"}))
    text = (await explained(tmp_path, outcome.run_id))["text"]
    assert "wipe \\x1b[2J it\\nall" in text
    assert "\x1b" not in text


async def test_a_task_is_explained_by_its_id(tmp_path: Path, capsys: Any) -> None:
    runs = {tenant: await repaired(tmp_path, tenant=tenant) for tenant in ("acme", "globex")}
    at_store = ("--store", url(tmp_path))
    code, found = await command(capsys, "explain", "--task", "t1", "--tenant", "acme", "--json", *at_store)
    assert (code, found["run_id"]) == (0, runs["acme"])
    code, told = await command(capsys, "explain", "--task", "t1", "--pipeline", "labels", *at_store)
    assert code == 2
    assert "2 runs are of a task 't1'" in told
    assert all(f"run {run_id} of pipeline 'labels', tenant {tenant!r}" in told for tenant, run_id in runs.items())
    code, told = await command(capsys, "explain", "--task", "t2", *at_store)
    assert (code, "the store holds no run of task 't2'" in told) == (2, True)
    for wrong in ([], [runs["acme"], "--task", "t1"], [runs["acme"], "--tenant", "acme"]):
        assert (await command(capsys, "explain", *wrong, *at_store))[0] == 2


async def test_of_a_task_done_again_the_latest_run_is_explained(tmp_path: Path, capsys: Any) -> None:
    kept = {"keep": "36500d"}  # the command goes by today's clock
    run_id = await repaired(tmp_path, content=kept)
    ((key,),) = rows(tmp_path, "SELECT task_key FROM run")
    sql(tmp_path, f"UPDATE run SET task_key = '{key}#{run_id}'")
    latest = await repaired(tmp_path, content=kept)
    code, found = await command(capsys, "explain", "--task", "t1", "--json", "--store", url(tmp_path))
    assert (code, found["run_id"]) == (0, latest)
    assert latest != run_id
    assert found["said"]["contents"]["task"]["id"] == "t1"
