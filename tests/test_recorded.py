"""What the ledger knows of each draft: real runs, read back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from orchestrator.config.loader import load_pipeline
from orchestrator.errors import Outage
from orchestrator.models.logprobs import summarise
from orchestrator.pipeline import Pipeline
from orchestrator.quality.history import recorded
from orchestrator.quality.history.recorded import RecordedDraft, each_recorded, read_recorded
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, user_text, write_pipeline
from tests.stores import Clock

AFTER: list[dict[str, Any]] = POLICY["after"]
BROKEN, UNSURE = AFTER
LOOK: dict[str, Any] = {"name": "look", "sample": 1.0, "then": "spot_check"}
DRAFT_NANO = 10 * 100 + 5 * 400


def draft(request: Request) -> Answer:
    """Right ("a") unless the text says wrong; sure unless it says unsure; broken as long as it says so."""
    said = user_text(request)
    label = "b" if "wrong" in said else "a"
    text = "not json" if "broken" in said and request.sample < 100 else json.dumps({"label": label})
    found = summarise([text], [-2.0 if "unsure" in said else -0.01])
    return Answer(text=text, finish_reason="stop", usage=Usage(input=10, output=5), model="drafter", logprobs=found,
                  value_logprobs=found)


def validate(request: Request) -> Answer | Exception:
    if "unanswered" in user_text(request):
        return Outage("503")
    return Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=20, output=5), model="validator")


VALIDATOR_NANO = 20 * 3000 + 5 * 15000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    yield found
    await found.aclose()


def policy(*after: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    return {**POLICY, "after": list(after), **rest}


async def recorded_of(
    store: Store, path: Path, *texts: str | Task, validator: Any = validate, mode: Any = None, **wanted: Any
) -> dict[str, RecordedDraft]:
    """The drafts of these tasks after a run, by the text of the task (their order is that of the texts)."""
    tasks = [Task(input={"text": one}) if isinstance(one, str) else one for one in texts]
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validator, name="validator")}
    by_id = {}
    async with Pipeline.load(path, store=store, clients=clients, mode=mode) as pipeline:
        for task in tasks:
            by_id[(await pipeline.arun(task)).run_id] = task.input["text"]
    found = await read_recorded(store, load_pipeline(path), "label", **wanted)
    return {by_id.get(one.run_id, one.run_id): one for one in found}


async def test_an_accepted_draft_that_nobody_samples_can_never_be_seen(store: Store, tmp_path: Path) -> None:
    (one,) = (await recorded_of(store, write_pipeline(tmp_path / "p"), "sure")).values()
    assert (one.action, one.rule, one.status, one.reached) == ("accept", "otherwise", "accepted", True)
    assert (one.propensity, one.draft_ok, one.truth, one.validator_ok) == (0.0, None, None, None)
    assert (one.confidence, one.threshold, one.certified, one.attempts) == (-0.01, -0.5, False, 1)
    assert one.features["lp_mean"] == -0.01
    assert one.features["schema.ok"] == 1
    assert (one.draft_cost and one.draft_cost.nano, one.validator_cost, one.alone_cost) == (DRAFT_NANO, None, None)


async def test_what_was_sent_to_the_validator_is_known_for_sure(store: Store, tmp_path: Path) -> None:
    found = await recorded_of(store, write_pipeline(tmp_path / "p"), "unsure", "unsure and wrong")
    assert [one.draft_ok for one in found.values()] == [True, False]
    for one in found.values():
        assert (one.propensity, one.truth, one.validator_ok, one.reached) == (1.0, "validator", True, True)
        assert one.validator_cost is not None
        assert one.validator_cost.nano == VALIDATOR_NANO


async def test_a_spot_check_is_known_with_its_logged_probability_and_so_is_what_it_left_alone(
    store: Store, tmp_path: Path
) -> None:
    path = write_pipeline(tmp_path / "p", policy=policy(UNSURE, {**LOOK, "sample": 0.5}))
    found = await recorded_of(store, path, *(f"sure {i}" for i in range(12)), *(f"wrong {i}" for i in range(12)))
    assert {one.propensity for one in found.values()} == {0.5}
    looked = {name: one for name, one in found.items() if one.action == "spot_check"}
    assert 0 < len(looked) < 24
    for name, one in looked.items():
        assert (one.draft_ok, one.truth, one.validator_ok) == ("sure" in name, "spot_check", True)
        assert one.validator_cost == one.alone_cost
        assert one.alone_cost is not None
    assert {one.truth for name, one in found.items() if name not in looked} == {None}


async def test_a_spot_check_without_an_answer_is_a_class_of_its_own(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=policy(UNSURE, LOOK))
    found = await recorded_of(store, path, "sure", "unanswered")
    assert found["sure"].propensity == 1.0
    assert (found["unanswered"].propensity, found["unanswered"].draft_ok) == (0.0, None)


async def test_a_label_is_stronger_than_the_validator_and_judges_it(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=policy(UNSURE, {**LOOK, "when": 'task.input.text.contains("look")'}))
    tasks = {
        "sure": ("a", (True, None)), "sure wrong": ("a", (False, None)),
        "unsure": ("a", (True, True)), "unsure wrong": ("b", (True, False)), "unsure neither": ("c", (False, False)),
        "look": ("a", (True, True)), "look wrong": ("b", (True, False)), "look, both wrong": ("c", (False, None)),
    }
    labelled = [Task(input={"text": name}, expected={"label": right}) for name, (right, _) in tasks.items()]
    found = await recorded_of(store, path, *labelled)
    assert {name: (one.draft_ok, one.validator_ok) for name, one in found.items()} == {
        name: said for name, (_, said) in tasks.items()
    }
    assert {(one.truth, one.propensity) for one in found.values()} == {("label", 1.0)}


async def test_a_proof_decides_every_draft(store: Store, tmp_path: Path) -> None:
    signals = ["schema", "logprob", {"regex": {"pattern": '"a"', "proof": True, "required": False}}]
    path = write_pipeline(tmp_path / "p", step={"signals": signals})
    found = await recorded_of(store, path, "sure", "wrong", "unsure wrong")
    assert [one.draft_ok for one in found.values()] == [True, False, False]
    assert {(one.truth, one.propensity) for one in found.values()} == {("proof", 1.0)}
    assert found["unsure wrong"].validator_ok is True


async def test_in_shadow_every_draft_is_seen_whatever_was_drawn(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", policy=policy(UNSURE, {**LOOK, "sample": 0.5}))
    found = await recorded_of(store, path, "sure", "wrong", "unsure", mode="shadow")
    assert [one.draft_ok for one in found.values()] == [True, False, True]
    assert {(one.mode, one.propensity, one.reached) for one in found.values()} == {("shadow", 1.0, True)}


async def test_a_redraft_counts_with_both_costs_and_its_last_numbers(store: Store, tmp_path: Path) -> None:
    (one,) = (await recorded_of(store, write_pipeline(tmp_path / "p"), "broken")).values()
    assert (one.attempts, one.features["schema.ok"]) == (2, 1)
    assert one.draft_cost is not None
    assert one.draft_cost.nano == 2 * DRAFT_NANO


async def test_what_was_decided_before_the_comparison_did_not_reach_it(store: Store, tmp_path: Path) -> None:
    first = {"name": "asked", "when": 'task.input.text.contains("person")', "then": "hand_off"}
    found = await recorded_of(store, write_pipeline(tmp_path / "p", policy=policy(first, UNSURE)), "person", "unsure")
    assert [one.reached for one in found.values()] == [False, True]
    assert (found["person"].propensity, found["person"].draft_ok) == (0.0, None)


async def test_a_draft_that_a_judge_rejected_was_wrong_although_a_person_took_over(
    store: Store, tmp_path: Path
) -> None:
    judged = {"validate": {"model": "validator", "mode": "judge", "on_reject": "hand_off"}}

    def judge(request: Request) -> dict[str, Any]:
        return {"verdict": "rejected" if "bad" in str(request.messages) else "approved", "reasons": []}

    path = write_pipeline(tmp_path / "p", step=judged)
    found = await recorded_of(store, path, "unsure", "unsure bad", validator=judge)
    assert [one.draft_ok for one in found.values()] == [True, False]
    assert (found["unsure bad"].status, found["unsure bad"].propensity) == ("handed_off", 1.0)


async def test_a_validator_that_is_out_has_not_seen_the_draft(store: Store, tmp_path: Path) -> None:
    (one,) = (await recorded_of(store, write_pipeline(tmp_path / "p"), "unsure unanswered")).values()
    assert (one.status, one.propensity, one.draft_ok, one.validator_cost) == ("handed_off", 0.0, None, None)


async def test_runs_without_a_draft_are_told_only_one_by_one(store: Store, tmp_path: Path) -> None:
    long = {"name": "too_long", "when": "size(task.input.text) > 10", "then": "escalate"}
    path = write_pipeline(tmp_path / "p", policy={**POLICY, "before": [long]})
    found = await recorded_of(store, path, "a text that is too long")
    assert found == {}
    with store.read() as connection:
        (one,) = each_recorded(connection, load_pipeline(path), "label")
    assert (one.features, one.rule, one.propensity, one.reached, one.truth) == ({}, "too_long", 0.0, False, None)
    assert one.validator_cost is not None


async def test_an_answer_from_the_cache_cost_nothing_that_is_known(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", cache={"ttl": "1d"})
    await recorded_of(store, path, "sure")
    first, again = (await recorded_of(store, path, "sure")).values()
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.draft_cost is None
    assert again.features == first.features


async def test_an_unpriced_call_leaves_the_cost_unknown(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p", prices=None)
    (one,) = (await recorded_of(store, path, "unsure")).values()
    assert (one.draft_cost, one.validator_cost) == (None, None)


async def test_only_drafts_made_as_todays_are_match(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    await recorded_of(store, write_pipeline(folder), "one")
    other = write_pipeline(folder, step={"confidence": {"from": "logprob.min", "threshold": -0.3}})
    assert len(await recorded_of(store, other, "two")) == 2
    (folder / "prompt.md").write_text("Label this: {{ task.input.text }}\n")
    assert len(await recorded_of(store, folder, "three")) == 1
    assert len(await read_recorded(store, load_pipeline(folder), "label", matching=False)) == 3


async def test_a_calibration_is_told_only_where_it_is_asked_for(store: Store, tmp_path: Path) -> None:
    path = write_pipeline(tmp_path / "p")
    clients = {"drafter": ScriptedModel(draft, name="drafter")}
    async with Pipeline(load_pipeline(path), store=store, clients=clients, calibrating=True) as pipeline:
        async for _ in pipeline.collect([Task(input={"text": "wrong"}, expected={"label": "a"})]):
            pass
    assert await read_recorded(store, load_pipeline(path), "label") == []
    (one,) = await read_recorded(store, load_pipeline(path), "label", include_calibration=True)
    assert (one.mode, one.truth, one.draft_ok, one.reached) == ("calibration", "label", False, True)


async def test_a_ledger_from_before_the_names_were_kept_is_read_but_never_matches(tmp_path: Path) -> None:
    path, url = write_pipeline(tmp_path / "p"), f"sqlite:///{tmp_path / 's.db'}"
    store = await Store.open(url)
    await recorded_of(store, path, "sure")
    with store._writing.begin() as connection:
        body = json.loads(str(connection.execute(text("SELECT body_json FROM config")).scalar()))
        del body["fingerprints"], body["features"]
        connection.execute(text("UPDATE config SET body_json = :body"), {"body": json.dumps(body)})
        connection.execute(text("""UPDATE step SET features_json = '{"lp_mean":-0.5}'"""))
    assert await read_recorded(store, load_pipeline(path), "label") == []
    (one,) = await read_recorded(store, load_pipeline(path), "label", matching=False)
    assert one.features == {"lp_mean": -0.5}
    await store.aclose()


async def test_runs_come_in_order_by_pages_and_within_the_period(
    opened: Any, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "PAGE", 3)
    store, path = await opened(), write_pipeline(tmp_path / "p")
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validate, name="validator")}
    async with Pipeline.load(path, store=store, clients=clients, clock=clock) as pipeline:
        for i in range(10):
            clock.now = 1000.0 + i
            await pipeline.arun(Task(input={"text": f"unsure {i}"}))
    loaded = load_pipeline(path)
    found = await read_recorded(store, loaded, "label")
    assert [one.ended_at for one in found] == [1000.0 + i for i in range(10)]
    assert all(one.validator_cost is not None for one in found)
    within = await read_recorded(store, loaded, "label", since=1002.0, until=1005.0)
    assert [one.ended_at for one in within] == [1002.0, 1003.0, 1004.0]


async def test_a_step_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no step 'lable': it has 'label'"):
        await read_recorded(store, load_pipeline(write_pipeline(tmp_path / "p")), "lable")
