"""Recorded runs weighed in groups: the same figures as run by run, in memory and time that do not grow with them."""

from __future__ import annotations

import math
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.loader import load_pipeline
from orchestrator.config.policy import PolicyConfig
from orchestrator.models.logprobs import summarise
from orchestrator.pipeline import Pipeline
from orchestrator.quality.history.numbers import Numbers
from orchestrator.quality.what_if import replay, replaying
from orchestrator.quality.what_if.cases import Case
from orchestrator.quality.what_if.cost_ratio import cost_ratio
from orchestrator.quality.what_if.groups import Group, KeptRuns, grouped
from orchestrator.quality.what_if.linear_costs import Costing
from orchestrator.quality.what_if.mean_shape import Form, shape_of
from orchestrator.quality.what_if.plainness import compares_plainly
from orchestrator.quality.what_if.pools import Need
from orchestrator.quality.what_if.power_sums import Sums
from orchestrator.quality.what_if.replay import Move
from orchestrator.quality.what_if.simulate import simulate
from orchestrator.records import Answer, Request, Task, Usage
from orchestrator.store.engine import Store
from orchestrator.testing import ScriptedModel
from tests.pipelines import POLICY, user_text, write_pipeline

ACCEPT, ESCALATE = Move(kind="accept", rule="otherwise"), Move(kind="escalate", rule="not_sure")
COSTS = st.integers(0, 10**11)
WEIGHTS = st.floats(-3.0, 3.0).map(lambda x: round(x, 3))


def sums(rows: list[tuple[int, int, int]]) -> Sums:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    return Sums.of(columns, [[-1] * len(rows)] * 2, len(rows))


@given(st.lists(st.lists(st.tuples(COSTS, COSTS, COSTS), min_size=1, max_size=12), min_size=1, max_size=4),
       st.lists(st.tuples(WEIGHTS, WEIGHTS, WEIGHTS, WEIGHTS), min_size=4, max_size=4))
def test_moments_from_power_sums_are_those_of_the_numbers_themselves(
    groups: list[list[tuple[int, int, int]]], forms: list[tuple[float, ...]]
) -> None:
    made = [Form(constant * 1e9, list(weights)) for constant, *weights in forms[: len(groups)]]
    values = [
        form.constant + math.fsum(w * x for w, x in zip(form.weights, row, strict=True))
        for form, rows in zip(made, groups, strict=True) for row in rows
    ]
    found = shape_of([sums(rows) for rows in groups], made)
    n, mean = len(values), math.fsum(values) / len(values)
    second = math.fsum((value - mean) ** 2 for value in values) / n
    third = math.fsum((value - mean) ** 3 for value in values) / n
    scale = max(map(abs, values)) or 1.0
    assert found.n == n
    assert found.mean == pytest.approx(mean, abs=1e-9 * scale)
    assert found.error == pytest.approx(math.sqrt(second / max(1, n - 1)), abs=1e-7 * scale)
    if second > 1e-8 * scale**2:
        assert found.skewness == pytest.approx(third / second**1.5, rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(COSTS, COSTS, COSTS), min_size=2, max_size=30), st.data())
def test_sums_are_the_same_in_whatever_parts_they_are_taken(rows: list[tuple[int, int, int]], data: Any) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(1, len(rows) - 1))
    assert sums(shuffled[:cut]) + sums(shuffled[cut:]) == sums(rows)


def drawn(generator: random.Random) -> Case:
    seen = generator.random() < 0.5
    return Case(
        propensity=generator.choice([0.0, 0.2, 1.0]), right=generator.random() < 0.8 if seen else None, look="possible",
        confidence=generator.choice([None, generator.randrange(12) / 10]), draft=generator.choice([None, 10_000]),
        alone=generator.randrange(10**6) if seen else None, draft_bound=generator.choice([None, 20_000]),
        validator_bound=generator.choice([None, 500_000, 700_000]), decided="rule 'otherwise' (accept)",
    )


def told(groups: list[Group]) -> dict[Any, Sums]:
    return {(group.like.alike, group.move): group.sums for group in groups}


def test_at_each_threshold_stand_the_groups_of_the_moves_made_there() -> None:
    generator = random.Random(3)
    cases = [drawn(generator) for _ in range(400)]
    moves = [(generator.choice([ACCEPT, ESCALATE]), generator.choice([ESCALATE, Move(kind="hand_off", rule="x")]))
             for _ in cases]
    kept = KeptRuns()
    for case, both in zip(cases, moves, strict=True):
        kept.add(case, both)
    levels = kept.confidences()
    assert levels == sorted({case.confidence for case in cases if case.confidence is not None})
    for threshold, groups in zip(levels, kept.at_thresholds(levels, 0, 1), strict=True):
        made = [surest if case.confidence is not None and case.confidence >= threshold else doubtful
                for case, (surest, doubtful) in zip(cases, moves, strict=True)]
        assert told(groups) == told(grouped(cases, made))


def test_a_ratio_goes_by_pairs_and_not_by_two_means() -> None:
    """Fieller's interval by its definition, on the pairs themselves: the roots of mean(x - r y) = error x quantile."""
    generator = random.Random(5)
    cases = [Case(propensity=1.0, right=True, look="possible", draft=generator.randrange(1000, 2000),
                  alone=generator.randrange(50_000, 90_000), draft_bound=10**6, validator_bound=10**6)
             for _ in range(500)]
    groups = grouped(cases, [ESCALATE] * len(cases))
    cost, always = (Costing(groups, [need] * len(groups), [1.0] * len(groups), {1.0: 1.0}, 0.95)
                    for need in (Need(draft=1.0, alone=0.5), Need(alone=1.0)))
    found = cost_ratio(cost, always, 0.95)
    pairs = [((case.draft or 0) + 0.5 * (case.alone or 0), float(case.alone or 0)) for case in cases]
    assert found.value == pytest.approx(sum(x for x, _ in pairs) / sum(y for _, y in pairs))
    assert found.interval is not None
    for end in (found.interval.low, found.interval.high):
        apart = [x - end * y for x, y in pairs]
        mean = math.fsum(apart) / 500
        error = math.sqrt(math.fsum((a - mean) ** 2 for a in apart) / 499 / 500)
        assert abs(mean) / error == pytest.approx(1.965, abs=0.1)  # Student's, and little skewness


def looked_at(costs: list[int]) -> Costing:
    """Always validating, where one in ten was looked at."""
    seen = [Case(propensity=0.1, right=True, look="possible", draft=0, alone=cost, draft_bound=0, validator_bound=10**6)
            for cost in costs]
    unseen = [Case(propensity=0.1, right=None, look="possible", draft=0, draft_bound=0)] * (9 * len(costs))
    groups = grouped([*seen, *unseen], [ESCALATE] * 10 * len(costs))
    return Costing(groups, [Need(alone=1.0)] * len(groups), [0.1] * len(groups), {0.1: True}, 0.95)


def test_skewed_calls_that_stand_for_others_count_for_fewer_degrees_of_freedom() -> None:
    even, skewed = looked_at([1000, 3000] * 30), looked_at([1000] * 50 + [4000] * 10)
    assert even.freedom > 59
    assert skewed.freedom < 0.4 * even.freedom
    assert not skewed.is_rough


def test_a_run_takes_some_fifty_bytes_and_not_some_thousand() -> None:
    generator = random.Random(1)
    cases = [Case(propensity=0.02, right=None, look="possible", confidence=generator.random(), draft=20_000 + i,
                  draft_bound=40_000, decided="rule 'otherwise' (accept)") for i in range(20_000)]
    kept = KeptRuns()
    tracemalloc.start()
    for case in cases:
        kept.add(case, (ACCEPT, ACCEPT, ACCEPT, ESCALATE))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 64 * len(cases)


def test_numbers_are_the_mapping_they_were_made_of() -> None:
    kept = {"lp_mean": -0.25, "agreement": None, "schema.ok": 1}
    numbers = Numbers(kept)
    assert dict(numbers) == kept
    assert list(numbers) == list(kept)
    assert (numbers.get("agreement", 3.0), numbers.get("unheard of", 3.0)) == (None, 3.0)
    with pytest.raises(KeyError):
        numbers["unheard of"]


# -- rules that ask little of a draft ----------------------------------------------------------------------------------

BROKEN, UNSURE = POLICY["after"]
LOOK = {"name": "look", "sample": 0.3, "then": "spot_check"}


def draft(request: Request) -> Answer:
    """Surer or less sure, unreadable at first where the text says so."""
    said = user_text(request)
    confidence = -random.Random(said).random()
    text = "no json" if "broken" in said and request.sample < 100 else '{"label":"a"}'
    found = summarise([text], [confidence])
    return Answer(text=text, finish_reason="stop", usage=Usage(input=10, output=5), model="drafter", logprobs=found,
                  value_logprobs=found)


def validate(request: Request) -> Answer:
    return Answer(text='{"label":"a"}', finish_reason="stop", usage=Usage(input=30, output=5), model="validator")


@pytest.mark.parametrize("after", [
    (BROKEN, UNSURE, LOOK),
    ({"name": "dice", "sample": 0.4, "then": "escalate"}, UNSURE, LOOK),
    ({**UNSURE, "when": "confidence >= threshold && signals.finish.ok", "then": "accept"},
     {"name": "rest", "then": "escalate"}),
    (BROKEN, {"name": "again", "when": "attempt < 2 && confidence < threshold", "then": "redraft"}, LOOK),
])
async def test_runs_alike_in_all_that_is_asked_move_alike(
    after: tuple[dict[str, Any], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rules ask little each different question is put once; the answers are those of asking it of every run."""
    path = write_pipeline(tmp_path / "p", policy={**POLICY, "after": [BROKEN, UNSURE, LOOK]})
    clients = {"drafter": ScriptedModel(draft, name="drafter"), "validator": ScriptedModel(validate, name="validator")}
    store = await Store.open("memory:")
    async with Pipeline.load(path, store=store, clients=clients) as pipeline:
        texts = [f"{'broken ' if i % 9 == 0 else ''}text {i}" for i in range(150)]
        async for _ in pipeline.amap([Task(id=text, input={"text": text}) for text in texts]):
            pass
    policy = PolicyConfig.model_validate({"policy": "asked", "after": list(after), "otherwise": "accept"})
    loaded, put = load_pipeline(path), 0
    decided = replay.Replay._decided

    def counted(*args: Any) -> Move:
        nonlocal put
        put += 1
        return decided(*args)

    monkeypatch.setattr(replay.Replay, "_decided", counted)
    once = await simulate(store, loaded, policy=policy, threshold=-0.4)
    few, put = put, 0
    monkeypatch.setattr(replaying, "_asks_more", lambda when: True)
    of_every_run = await simulate(store, loaded, policy=policy, threshold=-0.4)
    await store.aclose()
    assert once == of_every_run
    assert few < 40 < 150 < put


@pytest.mark.parametrize(("when", "more"), [
    (None, False), ("confidence < threshold", False), ("!signals.schema.ok && attempt < 2", False),
    ("has(signals.schema.ok) || confidence >= threshold", False), ("confidence < threshold - 0.1", True),
    ("confidence < -0.5", True), ("signals.logprob.value.min < -1.0", True), ("size(task.input.text) > 3", True),
    ("2.0 * confidence < threshold", True), ("1.0 - confidence >= threshold", True),
    ("-confidence < threshold", True), ("confidence > threshold", True), ("threshold < confidence", True),
    ("!(confidence < threshold) && (confidence >= threshold ? true : false)", False),
    ('signals["schema"].ok', True), ("signals.exists(s, s == 'schema')", True), ("value.label == 'a'", True),
])
def test_only_oks_attempts_and_a_plain_comparison_are_little(when: str | None, more: bool) -> None:
    assert replaying._asks_more(when) is more


@pytest.mark.parametrize(("when", "plainly"), [
    ("confidence < threshold", True), ("!(confidence<threshold)||attempt < 2", True),
    ("signals.schema.ok ? confidence >= threshold : confidence < threshold", True),
    ("2.0 * confidence < threshold", False), ("1.0 - confidence >= threshold", False),
    ("-confidence < threshold", False), ("confidence < threshold * 2.0", False), ("confidence < 0.5", False),
    ("confidence < threshold && confidence > 0.1", False), ("confidence == threshold", False),
    ("confidence < threshold && task.input.text != 'confidence < 1'", True),
])
def test_a_frontier_is_drawn_where_confidence_itself_is_held_against_the_threshold(when: str, plainly: bool) -> None:
    assert compares_plainly(when) is plainly
