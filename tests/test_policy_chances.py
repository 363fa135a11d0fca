"""The propensity of a draft: the probability, over all draws of its policy, that the validator comes to see it."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cascade.chances import NEVER_SEEN, SEEN_IN_SERVICE, SEEN_IN_SHADOW, chances
from orchestrator.cascade.policy import compile_policy
from orchestrator.cascade.policy_views import AfterView
from orchestrator.cascade.rules import draw as drawn_of
from orchestrator.config.policy import AfterAction, PolicyConfig
from orchestrator.records import Decision, Signal
from tests.test_policy_safety import POSSIBLE, TESTS, VIEWS, bounded_by

SAMPLES = [0.05, 0.3, 0.5, 1.0]


@st.composite
def drawing(draw: st.DrawFn) -> PolicyConfig:
    """Policies of rules that draw and rules that do not, in any order."""
    after = []
    for n in range(draw(st.integers(0, 5))):
        then = draw(st.sampled_from(get_args(AfterAction)))
        sample = draw(st.sampled_from(SAMPLES if then == "spot_check" else [None, *SAMPLES]))
        after.append({"name": f"r{n}", "when": draw(st.sampled_from(TESTS)), "then": then, "sample": sample})
    otherwise = draw(st.sampled_from(["accept", "escalate", "hand_off", "decline"]))
    return PolicyConfig.model_validate({"policy": "random", "after": after, "otherwise": otherwise})


def by_every_draw(policy: PolicyConfig, view: AfterView, possible: dict[str, bool]) -> dict[str, Fraction]:
    """The probability of each action: every way in which the draws may fall, each decided with its own numbers."""
    compiled, found = compile_policy(policy), defaultdict[str, Fraction](Fraction)
    draws = [(one.name, Fraction(one.sample)) for one in policy.after if one.sample is not None]
    for fallen in itertools.product((True, False), repeat=len(draws)):
        numbers = {name: 0.0 if yes else float(share) for (name, share), yes in zip(draws, fallen, strict=True)}
        chance = math.prod((share if yes else 1 - share for (_, share), yes in zip(draws, fallen, strict=True)),
                           start=Fraction(1))
        if chance:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("orchestrator.cascade.policy.draw", lambda run, rule, attempt, of=numbers: of[rule])
                found[bounded_by(possible, compiled.after(view), view).action] += chance
    return found


@given(policy=drawing(), view=VIEWS, possible=POSSIBLE)
def test_the_logged_chance_is_that_of_a_look_over_every_draw(
    policy: PolicyConfig, view: AfterView, possible: dict[str, bool]
) -> None:
    decision = bounded_by(possible, compile_policy(policy).after(view), view)
    exact = by_every_draw(policy, view, possible)
    stands = 1 - exact["redraft"]
    if decision.action == "redraft":
        assert decision.look is None
    else:
        assert decision.look == float((exact["spot_check"] + exact["escalate"]) / stands)
    if decision.action in ("accept", "spot_check"):
        accepted = exact["accept"] + exact["spot_check"]
        assert decision.propensity == (float(exact["spot_check"] / accepted) if exact["spot_check"] else None)


@given(policy=drawing(), view=VIEWS, possible=POSSIBLE)
def test_it_does_not_depend_on_how_the_draws_fell(
    policy: PolicyConfig, view: AfterView, possible: dict[str, bool]
) -> None:
    compiled = compile_policy(policy)
    logged, of_accepted = set(), set()
    for run in range(40):
        decision = bounded_by(possible, compiled.after(_of_run(view, f"run_{run}")), view)
        if decision.action != "redraft":
            logged.add((decision.look, decision.compared))
        if decision.action in ("accept", "spot_check"):
            of_accepted.add(decision.propensity)
    assert len(logged) <= 1
    assert len(of_accepted) <= 1


def _of_run(view: AfterView, run_id: str) -> AfterView:
    return AfterView(**{name: getattr(view, name) for name in AfterView.__dataclass_fields__} | {"run_id": run_id})


NOT_SURE = {"name": "not_sure", "when": "confidence < threshold", "then": "escalate"}
DOUBTFUL = {"name": "spot_hi", "when": "confidence < 0.5", "sample": 0.3, "then": "spot_check"}
LOOK = {"name": "spot_lo", "sample": 0.05, "then": "spot_check"}
EXPLORE = {"name": "explore", "sample": 0.02, "then": "escalate"}
PASSED_ON = {"name": "person", "sample": 0.5, "then": "hand_off"}
AGAIN = {"name": "again", "sample": 0.5, "then": "redraft"}


def decisions(*after: dict[str, Any], confidence: float, runs: int = 4000, **of_view: Any) -> list[Decision]:
    """What is decided of one and the same draft, run by run."""
    policy = compile_policy(PolicyConfig.model_validate({"policy": "p", "after": after, "otherwise": "accept"}))
    possible = {"escalation_possible": True, "redraft_possible": True, "spot_check_possible": True}
    found = []
    for run in range(runs):
        view = AfterView(
            base={"task": {"input": {}, "meta": {}}, "steps": {}},
            signals={"schema": Signal(name="schema", ok=True, required=True)}, value={}, parsed=True,
            confidence=confidence, threshold=0.2, run_id=f"run_{run}", **{"attempt": 1, **of_view},
        )
        found.append(bounded_by(possible, policy.after(view), view))
    return found


@pytest.mark.parametrize(
    ("after", "confidence", "look"),
    [
        ([NOT_SURE, DOUBTFUL, LOOK, EXPLORE], 0.4, 1 - 0.7 * 0.95 * 0.98),
        ([NOT_SURE, DOUBTFUL, LOOK, EXPLORE], 0.9, 1 - 0.95 * 0.98),
        ([EXPLORE, NOT_SURE, DOUBTFUL, LOOK], 0.4, 1 - 0.7 * 0.95 * 0.98),
        ([EXPLORE, LOOK, NOT_SURE], 0.1, 1.0),
        ([LOOK, PASSED_ON], 0.9, 0.05),
        ([PASSED_ON, NOT_SURE], 0.1, 0.5),
        ([LOOK, AGAIN], 0.9, 0.05 / (1 - 0.95 * 0.5)),
        ([EXPLORE], 0.9, 0.02),
        ([NOT_SURE], 0.9, 0.0),
    ],
)
def test_it_is_the_frequency_with_which_drafts_that_stand_are_looked_at(
    after: list[dict[str, Any]], confidence: float, look: float
) -> None:
    stand = [one for one in decisions(*after, confidence=confidence) if one.action != "redraft"]
    (logged,) = {one.look for one in stand}
    assert logged == pytest.approx(look)
    seen = sum(one.action in ("spot_check", "escalate") for one in stand)
    assert abs(seen / len(stand) - look) <= 4 * math.sqrt(look * (1 - look) / len(stand))


def test_among_the_accepted_the_share_that_is_checked_is_the_logged_one_though_an_escalation_is_drawn_behind() -> None:
    served = [one for one in decisions(LOOK | {"sample": 0.3}, EXPLORE | {"sample": 0.4}, confidence=0.9, runs=20_000)
              if one.action in ("accept", "spot_check")]
    (logged,) = {one.propensity for one in served}
    assert logged == pytest.approx(0.3 / (0.3 + 0.7 * 0.6))
    checked = sum(one.spot_check for one in served)
    assert abs(checked / len(served) - logged) <= 4 * math.sqrt(logged * (1 - logged) / len(served))


def test_a_rule_that_passed_over_the_first_draft_draws_anew_for_the_second() -> None:
    first, second = ([one.spot_check for one in decisions(LOOK | {"sample": 0.5}, confidence=0.9, attempt=attempt)]
                     for attempt in (1, 2))
    passed = [later for before, later in zip(first, second, strict=True) if not before]
    assert abs(sum(passed) / len(passed) - 0.5) <= 4 * math.sqrt(0.25 / len(passed))
    assert drawn_of("run_1", "spot_check", 2) == drawn_of("run_1", "spot_check", 2) != drawn_of("run_1", "spot_check")


def test_a_draft_could_come_to_be_compared_though_it_was_drawn_before() -> None:
    found = decisions(EXPLORE | {"sample": 0.5}, NOT_SURE, confidence=0.9, runs=20)
    assert {(one.rule, one.compared) for one in found} == {("explore", True), ("otherwise", True)}
    before = {"name": "asked", "then": "hand_off"}
    assert {one.compared for one in decisions(before, NOT_SURE, confidence=0.9, runs=5)} == {False}


def test_in_shadow_all_that_is_decided_for_service_is_seen_and_without_a_validator_nothing() -> None:
    fates = (("spot_check", 0.1), ("hand_off", 0.5), ("accept", 1.0))
    assert chances(fates, SEEN_IN_SERVICE) == (0.1, float(Fraction(0.1) / (Fraction(0.1) + (1 - Fraction(0.1)) / 2)))
    assert chances(fates, SEEN_IN_SHADOW).look == pytest.approx(0.55)
    assert chances(fates, NEVER_SEEN).look == 0.0
    assert chances((("redraft", 1.0),)).look is None
