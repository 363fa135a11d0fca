"""What no policy can do, whatever its rules say: searched for by hypothesis over random policies and drafts."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cascade.bounds import enforce
from orchestrator.cascade.policy import compile_policy
from orchestrator.cascade.policy_views import AfterView
from orchestrator.config.policy import AfterAction, BeforeAction, PolicyConfig
from orchestrator.records import Decision, Signal

TESTS = [
    None, "true", "signals.schema.ok", "!signals.schema.ok && attempt < 2", "confidence < threshold",
    "confidence >= threshold || true", "task.meta.amount > 10.0", "has(task.meta.amount) && task.meta.amount > 10.0",
    "value.qty > 1.0", "value == null", "attempt > 1", "signals.totals.ok", "task.input.text", "1 / 0 == 1",
]  # fmt: skip
BEFORE_TESTS = [
    None, "true", "false", "task.meta.amount > 10.0", "has(task.meta.amount)", "task.input.text", "size(task.input) > 1"
]  # fmt: skip
ACTIONS = get_args(AfterAction)


@st.composite
def policies(draw: st.DrawFn) -> PolicyConfig:
    after = []
    for n in range(draw(st.integers(0, 4))):
        then = draw(st.sampled_from(ACTIONS))
        sample = draw(st.sampled_from([0.5, 1.0] if then == "spot_check" else [None, 0.5, 1.0]))
        after.append({"name": f"a{n}", "when": draw(st.sampled_from(TESTS)), "then": then, "sample": sample})
    before = []
    for n in range(draw(st.integers(0, 3))):
        effect = draw(st.sampled_from([{"forbid": ["remote"]}, *({"then": a} for a in get_args(BeforeAction))]))
        before.append({"name": f"b{n}", "when": draw(st.sampled_from(BEFORE_TESTS)), **effect})
    otherwise = draw(st.sampled_from(["accept", "escalate", "hand_off", "decline"]))
    return PolicyConfig.model_validate({"policy": "random", "before": before, "after": after, "otherwise": otherwise})


SIGNALS = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(Signal, name=st.just(name), ok=st.booleans(), required=st.booleans())
        for name in ("schema", "totals", "logprob")
    },
)
NUMBER = st.none() | st.floats(-1, 1) | st.just(float("nan"))
BASES = st.fixed_dictionaries(
    {
        "task": st.fixed_dictionaries(
            {
                "input": st.dictionaries(st.just("text"), st.text(max_size=3)),
                "meta": st.dictionaries(st.just("amount"), st.sampled_from([5, 50, None, "x"])),
            }
        ),
        "steps": st.just({}),
    }
)
VIEWS = st.builds(
    AfterView, base=BASES, signals=SIGNALS, value=st.sampled_from([None, {}, {"qty": 3}, {"qty": "x"}, "text"]),
    parsed=st.booleans(), confidence=NUMBER, threshold=NUMBER, attempt=st.integers(1, 3), run_id=st.text(max_size=4),
    certified=st.booleans(), lapsed=st.sampled_from(["escalate", "hand_off"]),
)  # fmt: skip
POSSIBLE = st.fixed_dictionaries(
    {name: st.booleans() for name in ("escalation_possible", "redraft_possible", "spot_check_possible")}
)


def bounded_by(possible: dict[str, bool], said: Decision, view: AfterView) -> Decision:
    escalation = possible["escalation_possible"]
    asked = {**possible, "escalation_possible": lambda to: escalation}
    return enforce(said, signals=view.signals, parsed=view.parsed, **asked)  # type: ignore[arg-type]


@given(policy=policies(), view=VIEWS, possible=POSSIBLE)
def test_accepting_implies_a_draft_that_was_read_and_every_required_signal_ok(
    policy: PolicyConfig, view: AfterView, possible: dict[str, bool]
) -> None:
    said = compile_policy(policy).after(view)
    bounded = bounded_by(possible, said, view)
    for decision in (said, bounded):
        assert decision.explanation
        if decision.action in ("accept", "spot_check"):
            assert view.parsed
            assert all(s.ok for s in view.signals.values() if s.required or s.name == "schema")


@given(policy=policies(), view=VIEWS, possible=POSSIBLE)
def test_what_is_decided_is_possible(policy: PolicyConfig, view: AfterView, possible: dict[str, bool]) -> None:
    said = compile_policy(policy).after(view)
    bounded = bounded_by(possible, said, view)
    assert bounded.action != "escalate" or possible["escalation_possible"]
    assert bounded.action != "redraft" or possible["redraft_possible"]
    assert not bounded.spot_check or (possible["spot_check_possible"] and bounded.propensity is not None)
    assert bounded.spot_check == (bounded.action == "spot_check")
    if not possible["spot_check_possible"]:
        assert bounded.propensity is None


CARE = {"accept": 0, "spot_check": 0, "redraft": 1, "escalate": 2, "hand_off": 3, "decline": 3}


@given(policy=policies(), view=VIEWS, possible=POSSIBLE)
def test_bounds_only_ever_ask_for_more_care(policy: PolicyConfig, view: AfterView, possible: dict[str, bool]) -> None:
    said = compile_policy(policy).after(view)
    bounded = bounded_by(possible, said, view)
    assert CARE[bounded.action] >= CARE[said.action]


@given(policy=policies(), view=VIEWS)
def test_the_first_rule_that_can_not_be_evaluated_or_matches_decides(policy: PolicyConfig, view: AfterView) -> None:
    """An independent reading of the rules, one at a time, agrees with the compiled policy on who decides."""
    for rule in policy.after:
        alone = compile_policy(policy.model_copy(update={"after": (rule,), "otherwise": "escalate"})).after(view)
        if alone.rule == rule.name:
            break
    else:
        rule = None
    decision = compile_policy(policy).after(view)
    assert decision.rule == (rule.name if rule else "otherwise")
    if rule is not None and "cannot be evaluated" in decision.explanation:
        assert decision.action == "escalate"


@given(policy=policies(), base=BASES)
def test_a_before_rule_that_can_not_be_evaluated_forbids_remote_models(policy: PolicyConfig, base: Any) -> None:
    said = compile_policy(policy).before(base, run_id="run_1")
    unevaluable = [r for r in policy.before if r.when == "task.input.text" or (
        r.when == "task.meta.amount > 10.0" and not isinstance(base["task"]["meta"].get("amount"), int))]  # fmt: skip
    reached = [r for r in unevaluable if r.forbid]
    if reached or said.problems:
        assert "remote" in said.forbid
        assert len(said.problems) >= len(reached)
        assert "remote models are forbidden for this task" in said.explanation
    if said.action is not None:
        assert said.action.forbid == said.forbid
