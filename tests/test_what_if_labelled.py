"""What another policy is worth where a label says what is right: the validator may be wrong, and is seen by chance."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.loader import load_pipeline
from orchestrator.errors import Outage
from orchestrator.finance.success import Cell, assume, tally
from orchestrator.models.logprobs import summarise
from orchestrator.pipeline import Pipeline
from orchestrator.quality.history.recorded import RecordedDraft, read_recorded
from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.groups import Group, grouped
from orchestrator.quality.what_if.order import against_validating
from orchestrator.quality.what_if.picture import svg
from orchestrator.quality.what_if.replay import ALWAYS_VALIDATE, Move
from orchestrator.quality.what_if.simulate import Simulation, simulate
from orchestrator.quality.what_if.what_if import Figure, PolicyFigures, quality
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.counted_runs import counted
from tests.pipelines import POLICY, user_text, write_pipeline

__all__ = ["counted"]
BROKEN, UNSURE = POLICY["after"]
LOOK: dict[str, Any] = {"name": "look", "sample": 0.3, "then": "spot_check"}
ACCEPT, HAND_OFF = Move(kind="accept", rule="otherwise"), Move(kind="hand_off", rule="asks")
USAGE = Usage(input=20, output=5)


def drafted(text: str) -> tuple[float, str]:
    """Confidence and label: surer is more often right, which is "a"."""
    generator = random.Random(text)
    confidence, right = -generator.random(), generator.random()
    return confidence, "a" if right < 1.0 + confidence / 3.0 else "b"


def validated(text: str) -> str:
    """Wrong on every fifth of the tasks that the drafter is sure of, and there half as the drafter is."""
    generator = random.Random(f"validator {text}")
    wrong = generator.random() < 0.2 and drafted(text)[0] >= -0.5
    return ("b" if generator.random() < 0.5 else "c") if wrong else "a"


def draft(request: Request) -> Answer:
    confidence, label = drafted(user_text(request))
    text = json.dumps({"label": label})
    found = summarise([text], [confidence])
    return Answer(text=text, finish_reason="stop", usage=USAGE, model="drafter", logprobs=found, value_logprobs=found)


def validate(request: Request) -> Answer:
    return Answer(text=json.dumps({"label": validated(user_text(request))}), finish_reason="stop", usage=USAGE,
                  model="validator")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = await Store.open(f"sqlite:///{tmp_path / 's.db'}")
    yield found
    await found.aclose()


def pipeline(tmp_path: Path, *after: Mapping[str, Any], step: dict[str, Any] | None = None, **rest: Any) -> Path:
    policy = {"policy": "p", "after": list(after or (BROKEN, UNSURE, LOOK)), "otherwise": "accept", **rest}
    return write_pipeline(tmp_path / "p", policy=policy, step=step)


async def run(
    store: Store, path: Path, texts: list[str], *, labelled: bool = True, mode: Any = None,
    validator: Callable[[Request], Answer | Exception] = validate,
) -> None:
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validator, name="validator")}
    expected = {"label": "a"} if labelled else None
    async with Pipeline.load(path, store=store, clients=clients, mode=mode) as pipeline:
        async for _ in pipeline.amap([Task(id=one, input={"text": one}, expected=expected) for one in texts]):
            pass


def figures_of(found: Simulation, name: str) -> PolicyFigures:
    return next(one for one in found.policies if one.name == name)


def ends(figure: Figure | None) -> tuple[float, float]:
    assert figure is not None
    assert figure.low is not None
    assert figure.high is not None
    return figure.low, figure.high


def truth(texts: list[str], threshold: float) -> float:
    served = [label if confidence >= threshold else validated(one) for one in texts
              for confidence, label in [drafted(one)]]
    return served.count("a") / len(served)


TEXTS = [f"text {i}" for i in range(400)]


async def test_a_validator_that_no_labelled_task_came_to_is_estimated_from_those_a_draw_sent_there(
    store: Store, tmp_path: Path
) -> None:
    path = pipeline(tmp_path)
    await run(store, path, TEXTS)
    found = await simulate(store, load_pipeline(path), threshold=-0.25)
    for name, threshold in (("present", -0.5), ("proposed", -0.25), ("always validate", 1.0)):
        figure = figures_of(found, name).quality
        low, high = ends(figure)
        assert low <= truth(TEXTS, threshold) <= high
        assert high - low < 0.2
        assert figure.value == pytest.approx(truth(TEXTS, threshold), abs=0.06)
    (note,) = [note for note in found.notes if "nobody saw whether the validator is right" in note]
    assert "that a draw sent to it" in note


async def test_where_no_look_was_possible_the_validator_counts_both_ways(store: Store, tmp_path: Path) -> None:
    path = pipeline(tmp_path, BROKEN, UNSURE)
    await run(store, path, TEXTS[:120])
    found = await simulate(store, load_pipeline(path))
    sure = sum(drafted(one)[0] >= -0.5 for one in TEXTS[:120])
    low, high = ends(figures_of(found, "always validate").quality)
    assert low < 1.0 - sure / 120 < truth(TEXTS[:120], 1.0) < high == 1.0
    assert f"on {sure} labelled tasks nobody saw whether the validator is right: {sure} count as right at" in "".join(
        found.notes
    )
    present = figures_of(found, "present")  # the labels tell of each of its answers
    assert present.quality.value == truth(TEXTS[:120], -0.5)


async def test_without_labels_the_validator_is_the_reference_and_right(store: Store, tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    await run(store, path, TEXTS[:60], labelled=False)
    found = await simulate(store, load_pipeline(path))
    assert figures_of(found, "always validate").quality.value == 1.0
    assert figures_of(found, "present").gain is None
    assert not any("labelled" in note for note in found.notes)


async def test_what_was_validated_without_a_draft_is_wrong_where_the_label_says_so(
    store: Store, tmp_path: Path
) -> None:
    path = pipeline(tmp_path, before=[{"name": "hard", "when": 'task.input.text.endsWith("7")', "then": "escalate"}])
    texts = [one for one in TEXTS if one.endswith("7")]
    await run(store, path, texts)
    found = await simulate(store, load_pipeline(path))
    assert truth(texts, 1.0) < 1.0
    assert figures_of(found, "present").quality.value == truth(texts, 1.0)


async def test_a_look_that_gave_no_answer_tells_neither_for_nor_against_the_validator(
    store: Store, tmp_path: Path
) -> None:
    """Of the sure, the validator is out for every third; all are to be looked at."""
    def out(request: Request) -> Answer | Exception:
        return Outage("503", sent=True) if int(user_text(request).split()[1]) % 3 == 0 else validate(request)

    path = pipeline(tmp_path, BROKEN, {**LOOK, "sample": 1.0})
    texts = TEXTS[:90]
    await run(store, path, texts, validator=out)
    found = await simulate(store, load_pipeline(path))
    low, high = ends(figures_of(found, "always validate").quality)
    seen_right = sum(validated(one) == "a" for i, one in enumerate(texts) if i % 3)
    assert low < seen_right / 90 < (seen_right + 30) / 90 < high + 1e-12


def runs_told(found: list[RecordedDraft], *names: str) -> set[tuple[Any, ...]]:
    return {tuple(getattr(one, name) for name in names) for one in found}


async def test_another_answer_than_a_proven_draft_may_be_right_as_well(store: Store, tmp_path: Path) -> None:
    """A proof is no label: several answers may have one."""
    signals = ["schema", "logprob", {"regex": {"pattern": '"[ab]"', "proof": True, "required": False}}]
    path = pipeline(tmp_path, BROKEN, {**LOOK, "sample": 1.0}, step={"signals": signals})
    await run(store, path, TEXTS[:80], labelled=False)
    found = await read_recorded(store, load_pipeline(path), "label")
    assert runs_told(found, "truth", "draft_ok", "validator_ok", "contradicted") == {
        ("proof", True, True, False), ("proof", True, None, True)
    }


# -- figures of cases --------------------------------------------------------------------------------------------------


def labelled(*, right: bool, chance: float, validator: bool | None = None, **rest: Any) -> Case:
    return Case(propensity=1.0, right=right, look="possible", seen_by_chance=chance, labelled=True,
                validator_right=validator, **rest)


def always(cases: list[Case]) -> Figure:
    return quality(grouped(cases, [ALWAYS_VALIDATE] * len(cases)))


def test_a_validator_that_contradicts_a_wrong_draft_is_mostly_right_and_may_be_wrong() -> None:
    figure = always([labelled(right=False, chance=1.0, contradicted=True)] * 40
                    + [labelled(right=True, chance=1.0, validator=True)] * 60)
    low, high = ends(figure)
    assert (figure.value, high) == (1.0, 1.0)
    assert 0.45 < low < 0.6


def test_tasks_seen_by_another_chance_or_with_another_draft_stand_for_none() -> None:
    """Nothing but the draw may tell the seen from the others."""
    often = [labelled(right=True, chance=0.5, validator=True)] * 50 + [labelled(right=True, chance=0.5)] * 50
    seldom = [labelled(right=True, chance=0.1)] * 100
    wrong = [labelled(right=False, chance=0.5)] * 100
    assert ends(always(often))[0] > 0.9
    for others in (seldom, wrong):
        low, high = ends(always([*often, *others]))
        assert (low < 0.5, high) == (True, 1.0)


def test_the_strata_of_two_questions_do_not_mix_though_their_chance_is_one() -> None:
    cells = [Cell(runs=1, success=True, propensity=0.1), Cell(runs=9, success=None, propensity=0.1),
             Cell(runs=10, success=None, propensity=0.1, apart="validator")]
    found = tally(cells)
    assert [(s.propensity, s.apart, s.runs) for s in found.strata] == [(0.1, "", 10)]
    assert (found.unreached, tally(assume(cells, False)).wrong) == (10, 10)


def groups_of(cases: list[Case], move: Move) -> list[Group]:
    return grouped(cases, [move] * len(cases))


def test_the_better_of_two_is_told_task_by_task_where_two_intervals_overlap() -> None:
    both = [labelled(right=True, chance=1.0, validator=True)] * 300
    neither = [labelled(right=False, chance=1.0, validator=False)] * 60
    gained, lost = labelled(right=True, chance=1.0, validator=False), labelled(right=False, chance=1.0, validator=True)
    cases = [*both, *neither, *[gained] * 16, *[lost] * 2]
    mine, other = quality(groups_of(cases, ACCEPT)), always(cases)
    assert ends(mine)[0] < ends(other)[1]
    found = against_validating(groups_of(cases, ACCEPT))
    low, high = ends(found)
    assert found is not None
    assert found.value == pytest.approx(14 / 378)
    assert 0.0 < low < 14 / 378 < high
    assert ends(against_validating(groups_of([*both, *[lost] * 20], ACCEPT)))[1] < 0.0
    assert ends(against_validating(groups_of(both, HAND_OFF)))[1] < -0.9


def test_which_is_better_is_not_told_where_the_validator_was_hardly_seen() -> None:
    cases = [labelled(right=True, chance=0.02, validator=True)] * 8 + [labelled(right=True, chance=0.02)] * 392
    low, high = ends(against_validating(groups_of(cases, ACCEPT)))
    assert low <= 0.0 < 0.2 < high


def test_intervals_of_always_validating_cover_its_truth_where_labels_stand_for_the_reference() -> None:
    """A hundred small ledgers: 3% of the validator's answers are wrong wherever they are, and one accepted in ten is
    looked at."""
    generator, hits, better = random.Random(17), 0, 0
    for _ in range(100):
        cases = []
        for _ in range(300):
            sure, right = generator.random() < 0.6, generator.random() < 0.9
            ok, shown = generator.random() < 0.97, not sure or generator.random() < 0.1
            unclear = shown and sure and not right
            cases.append(labelled(right=right, chance=0.1 if sure else 1.0, contradicted=unclear and ok,
                                  validator=ok if shown and not (unclear and ok) else None))
        low, high = ends(always(cases))
        hits += low <= 0.97 <= high
        low, high = ends(against_validating(groups_of(cases, ACCEPT)))
        better += low <= 0.9 - 0.97 <= high
    assert (hits >= 95, better >= 95) == (True, True)


# -- what is said ------------------------------------------------------------------------------------------------------


async def test_the_picture_says_what_its_figures_rest_on(store: Store, tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    await run(store, path, TEXTS[:100])
    found = await simulate(store, load_pipeline(path))
    drawn = " ".join(part.split("<")[0] for part in svg(found).split(">"))
    assert len(found.notes) >= 2
    for note in found.notes:
        assert note in " ".join(drawn.split())


async def test_the_order_is_told_in_shadow_where_each_answer_is_seen(store: Store, tmp_path: Path) -> None:
    path = pipeline(tmp_path)
    await run(store, path, TEXTS, mode="shadow")
    found = await simulate(store, load_pipeline(path))
    assert truth(TEXTS, -0.5) > truth(TEXTS, 1.0)
    low, high = ends(figures_of(found, "present").gain)
    assert low <= truth(TEXTS, -0.5) - truth(TEXTS, 1.0) <= high
    assert not any("nobody saw" in note for note in found.notes)
    assert any(note.startswith("present: ") and "than always validating" in note for note in found.notes)
