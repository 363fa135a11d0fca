"""`orchestrator simulate`: recorded runs under another policy, end to end; and what it refuses to say."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run_command
from orchestrator.config.loader import load_pipeline
from orchestrator.config.policy import PolicyConfig
from orchestrator.errors import ConfigError, InputError
from orchestrator.models.logprobs import summarise
from orchestrator.pipeline import Pipeline
from orchestrator.quality.what_if.simulate import Simulation, simulate
from orchestrator.quality.what_if.what_if import PolicyFigures
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.counted_runs import counted
from tests.pipelines import POLICY, dump, user_text, write_pipeline

__all__ = ["counted"]
AFTER: list[dict[str, Any]] = POLICY["after"]
BROKEN, UNSURE = AFTER
LOOK: dict[str, Any] = {"name": "look", "sample": 0.3, "then": "spot_check"}
ODD = {"name": "odd", "when": 'task.input.text.endsWith("7")', "then": "escalate"}


def draft(request: Request) -> Answer:
    """Surer and more often right by a number that the task's own picks; broken at first where it says so."""
    said = user_text(request)
    generator = random.Random(said)
    confidence, right = -generator.random(), generator.random()
    label = "a" if right < 1.0 + confidence / 2.0 else "b"
    text = "no json" if "broken" in said and request.sample < 100 else json.dumps({"label": label})
    found = summarise([text], [confidence])
    return Answer(text=text, finish_reason="stop", usage=Usage(input=10, output=5), model="drafter", logprobs=found,
                  value_logprobs=found)


def validate(request: Request) -> Answer:
    tokens = 20 + random.Random(user_text(request)).randrange(20)
    return Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=tokens, output=5), model="validator")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    yield found
    await found.aclose()


def policy(*after: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    return {"policy": "asked", "after": list(after), "otherwise": "accept", **rest}


async def run(store: Store, path: Path, *texts: str, mode: Any = None) -> None:
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validate, name="validator")}
    async with Pipeline.load(path, store=store, clients=clients, mode=mode) as pipeline:
        async for _ in pipeline.amap([Task(id=text, input={"text": text}) for text in texts]):
            pass


async def asked(store: Store, path: Path, *after: Mapping[str, Any], **how: Any) -> Simulation:
    given = PolicyConfig.model_validate(policy(*after)) if after else None
    return await simulate(store, load_pipeline(path), policy=given, **how)


def figures_of(found: Simulation, name: str) -> PolicyFigures:
    return next(one for one in found.policies if one.name == name)


def recorded(tmp_path: Path, *after: Mapping[str, Any], **settings: Any) -> Path:
    return write_pipeline(tmp_path / "p", policy=policy(*(after or (BROKEN, UNSURE, LOOK))), **settings)


async def test_what_another_policy_would_have_done_is_what_it_does(store: Store, tmp_path: Path) -> None:
    """The truth is had by running the proposed policy on the same tasks, with every draft looked at."""
    texts = [f"text {i}" for i in range(400)]
    path = recorded(tmp_path)
    await run(store, path, *texts)
    found = await asked(store, path, BROKEN, ODD, UNSURE, {**LOOK, "sample": 0.1}, threshold=-0.7)

    other = await Store.open("memory:")
    real = write_pipeline(
        tmp_path / "q", policy=policy(BROKEN, ODD, UNSURE, {**LOOK, "sample": 1.0}),
        step={"confidence": {"from": "logprob.mean", "threshold": -0.7}},
    )
    await run(other, real, *texts)
    proposed, truth = figures_of(found, "proposed"), figures_of(await simulate(other, load_pipeline(real)), "present")
    await other.aclose()
    assert (proposed.accepted, proposed.escalated) == (truth.accepted, truth.escalated)
    low, high = proposed.quality.low, proposed.quality.high
    assert low is not None
    assert high is not None
    assert low <= (truth.quality.value or 0.0) <= high
    assert high - low < 0.25
    # all of those looked at are paid for there, and a tenth of them here
    assert truth.cost.value is not None
    low, high = proposed.cost.low, proposed.cost.high
    assert low is not None
    assert high is not None
    looks = 0.9 * truth.accepted * validation_of(found)
    assert low <= truth.cost.value - looks <= high


def validation_of(found: Simulation) -> float:
    always = figures_of(found, "always validate")
    assert always.cost.value is not None
    return always.cost.value


async def test_the_present_policy_and_both_extremes_stand_beside_it(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(120)))
    found = await asked(store, path, threshold=-0.2)
    assert [one.name for one in found.policies] == ["present", "proposed", "always draft", "always validate"]
    present, proposed, draft_only, validate_only = found.policies
    assert 0.0 < proposed.accepted < present.accepted < draft_only.accepted == 1.0
    assert validate_only.quality.value == 1.0
    assert validate_only.ratio.value == validate_only.ratio.low == validate_only.ratio.high == 1.0
    assert draft_only.cost.low == draft_only.cost.high == pytest.approx(3e-6)
    assert (found.runs, found.currency, found.reference["spot_check"] > 0) == (120, "USD", True)
    assert [one.name for one in (await asked(store, path)).policies] == ["present", "always draft", "always validate"]


async def test_it_refuses_where_nothing_was_looked_at_and_names_the_rules(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path, BROKEN, UNSURE)
    await run(store, path, *(f"text {i}" for i in range(60)))
    with pytest.raises(InputError, match=r"by rule 'otherwise' \(accept\).*a spot-check rule would have to") as refused:
        await asked(store, path, threshold=-0.8)
    assert "then: spot_check" in refused.value.hint
    present = figures_of(await asked(store, path), "present")
    assert present.quality.value is None
    assert "can never be seen" in present.quality.note


async def test_a_policy_that_escalates_all_that_was_not_looked_at_is_answered(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path, BROKEN, UNSURE)
    await run(store, path, *(f"text {i}" for i in range(60)))
    found = await asked(store, path, {"name": "all", "then": "escalate"})
    proposed = figures_of(found, "proposed")
    assert proposed.quality.value == 1.0
    assert proposed.extrapolated > 0
    assert any("came to be validated otherwise" in note for note in found.notes)


async def test_a_rule_that_accepts_before_the_spot_check_is_the_one_that_is_named(
    store: Store, tmp_path: Path
) -> None:
    vip = {"name": "vip", "when": 'task.input.text.startsWith("vip")', "then": "accept"}
    path = recorded(tmp_path, BROKEN, vip, UNSURE, LOOK)
    await run(store, path, *(f"text {i}" for i in range(40)), *(f"vip {i}" for i in range(3)))
    with pytest.raises(InputError, match=r"3 of the .* by rule 'vip' \(accept\)\..*spot-check rule 'look'"):
        await asked(store, path, BROKEN, UNSURE, threshold=-2.0)


async def test_what_a_person_took_over_can_be_accepted_by_no_other_policy(store: Store, tmp_path: Path) -> None:
    asks = {"name": "asks", "when": 'task.input.text.endsWith("7")', "then": "hand_off"}
    path = recorded(tmp_path, BROKEN, asks, UNSURE, LOOK)
    await run(store, path, *(f"text {i}" for i in range(30)))
    with pytest.raises(InputError, match=r"rule 'asks' \(hand_off\)"):
        await asked(store, path, BROKEN, UNSURE, threshold=-2.0)


async def test_shadow_shows_everything(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path, BROKEN, UNSURE)
    await run(store, path, *(f"text {i}" for i in range(80)), mode="shadow")
    found = await asked(store, path, threshold=-0.9)
    always_draft = figures_of(found, "always draft")
    assert always_draft.quality.low is not None
    assert always_draft.quality.value is not None
    assert 0.5 < always_draft.quality.value < 0.95
    assert found.frontier.left_out == 0


async def test_a_redraft_that_was_never_made_is_counted_and_widens_every_interval(
    store: Store, tmp_path: Path
) -> None:
    path = recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(60)), *(f"broken {i}" for i in range(20)))
    again = {"name": "again", "when": "confidence < -0.5 && attempt < 2", "then": "redraft"}
    found = await asked(store, path, BROKEN, again, UNSURE, LOOK)
    (why, more), *rest = sorted(found.not_told["proposed"].items(), key=lambda one: one[0])
    assert (why, more, len(rest)) == ("its first draft was not kept", 20, 1)
    assert rest[0][0] == "rule 'again' wants a further draft, which was never made"
    proposed = figures_of(found, "proposed")
    assert proposed.unknown == (20 + rest[0][1]) / 80
    assert proposed.quality.low is not None
    assert proposed.quality.low < 1.0 - proposed.unknown
    assert found.not_told["present"] == {}


async def test_content_that_is_gone_is_missed_only_by_rules_that_read_it(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path, content={"keep": "none"})
    await run(store, path, *(f"text {i}" for i in range(40)))
    signals = {"name": "long", "when": "signals.logprob.value.min < -0.9", "then": "escalate"}
    assert (await asked(store, path, BROKEN, signals, UNSURE, LOOK)).not_told["proposed"] == {}
    found = await asked(store, path, BROKEN, ODD, UNSURE, LOOK)
    assert found.not_told["proposed"] == {"not kept: the task's content": 40}


async def test_content_is_read_page_by_page_in_either_database(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.quality.history.recorded.PAGE", 7)
    monkeypatch.setattr("orchestrator.quality.what_if.simulate.PAGE", 7)
    store, path = await opened(), recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(30)))
    found = await asked(store, path, {**ODD, "when": "size(task.input.text) == 6"}, UNSURE, LOOK)
    proposed = figures_of(found, "proposed")
    assert (found.runs, found.not_told["proposed"]) == (30, {})
    assert proposed.escalated >= 10 / 30


async def test_what_no_number_tells_is_named(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(20)))
    why = {"name": "why", "when": 'signals.finish.reason.contains("x")', "then": "escalate"}
    found = await asked(store, path, BROKEN, why, UNSURE, LOOK)
    assert found.not_told["proposed"] == {"not kept: the reason of signal 'finish'": 20}


async def test_a_task_that_was_never_drafted_has_no_draft_to_accept(store: Store, tmp_path: Path) -> None:
    before = [{"name": "hard", "when": 'task.input.text.endsWith("7")', "then": "escalate"}]
    path = write_pipeline(tmp_path / "p", policy=policy(BROKEN, UNSURE, LOOK, before=before))
    await run(store, path, *(f"text {i}" for i in range(50)))
    found = await asked(store, path, BROKEN, UNSURE, LOOK)
    assert found.not_told["proposed"] == {"no draft was made of it (hard)": 5}
    present = figures_of(found, "present")
    assert present.unknown == 0.0


async def test_another_validator_was_never_recorded(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(20)))
    found = await asked(store, path, BROKEN, {**UNSURE, "to": "drafter"}, LOOK)
    assert list(found.not_told["proposed"]) == ["rule 'not_sure' asks 'drafter', whose answers were never recorded"]


async def test_answers_from_the_cache_enter_no_sample(store: Store, tmp_path: Path) -> None:
    path = recorded(tmp_path, cache={"ttl": "1d"})
    await run(store, path, *(f"text {i}" for i in range(20)))
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validate, name="validator")}
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        await pipeline.arun(Task(input={"text": "text 3"}))
    found = await asked(store, path)
    assert found.runs == 20
    assert any("answered from the cache" in note for note in found.notes)


async def test_nothing_recorded_is_an_error_that_says_where_to_look(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recorded run of step 'label'"):
        await asked(store, recorded(tmp_path))
    with pytest.raises(InputError, match="no step 'lable'"):
        await asked(store, recorded(tmp_path), step="lable")
    with pytest.raises(ConfigError, match="odd"):
        await asked(store, recorded(tmp_path), {**ODD, "when": "task.input.text ="})


async def test_the_command_prints_tables_writes_the_picture_and_refuses_with_2(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recorded(tmp_path)
    await run(store, path, *(f"text {i}" for i in range(60)))
    dump(tmp_path / "other.yaml", policy(BROKEN, UNSURE))
    given = ["simulate", str(path), "--store", str(store.place.name), "--policy", str(tmp_path / "other.yaml")]
    def command(*more: str) -> int:
        return run_command([*given, *more])

    code = await asyncio.to_thread(command, "--threshold", "-0.7", "--svg", str(tmp_path / "f.svg"))
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "always validate" in said.out
    assert "thresholds: 20 of 60" in said.out
    assert (tmp_path / "f.svg").read_text().startswith("<svg")
    assert await asyncio.to_thread(command, "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in body["policies"]} == {"present", "proposed", "always draft", "always validate"}
    assert len(body["frontier"]["points"]) == 60
    dump(tmp_path / "other.yaml", policy({**UNSURE, "to": "validatr"}))
    assert await asyncio.to_thread(command) == 2
    assert "validatr" in capsys.readouterr().err
