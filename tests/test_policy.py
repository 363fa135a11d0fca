"""Policies: one file a decision in `tests/policies`, and what holds for every policy."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestrator.cascade.bounds import enforce
from orchestrator.cascade.policy import CompiledPolicy, compile_policy
from orchestrator.cascade.policy_views import AfterView, BeforeDecision
from orchestrator.cascade.rules import draw
from orchestrator.cascade.signals import compile_signals
from orchestrator.config.policy import PolicyConfig
from orchestrator.errors import ConfigError
from orchestrator.expressions import DeclaredFields
from orchestrator.records import Decision, Signal

HERE = Path(__file__).parent
CASES = sorted((HERE / "policies").glob("*.yaml"))
SHIPPED = HERE.parent / "policies"


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path)
    return loaded


def policy_of(written: str | dict[str, Any], **options: Any) -> CompiledPolicy:
    document = read(SHIPPED / f"{written}.yaml") if isinstance(written, str) else written
    return compile_policy(PolicyConfig.model_validate(document), **options)


def signal_of(name: str, written: Any) -> Signal:
    options = {"ok": written, "required": name == "schema"} if isinstance(written, bool) else written
    return Signal(name=name, **{"required": name == "schema", **options})


def view_of(case: dict[str, Any]) -> AfterView:
    return AfterView(
        base=base_of(case), signals={name: signal_of(name, w) for name, w in case.get("signals", {}).items()},
        value=case.get("value"), parsed=case.get("parsed", True), confidence=case.get("confidence"),
        threshold=case.get("threshold"), attempt=case.get("attempt", 1), run_id=case.get("run_id", "run_1"),
        certified=case.get("certified", False), certificate_problem=case.get("problem"),
        guarantee=case.get("guarantee", ""), lapsed=case.get("lapsed", "escalate"),
    )


def base_of(case: dict[str, Any]) -> dict[str, Any]:
    task = case["task"]
    return {"task": {"input": task["input"], "meta": task.get("meta", {})}, "steps": case.get("steps", {})}


def decided(policy: CompiledPolicy, case: dict[str, Any]) -> Decision:
    view, possible = view_of(case), case.get("possible", {})
    return enforce(
        policy.after(view), escalation_possible=lambda to: possible.get("escalation", True),
        redraft_possible=possible.get("redraft", True), spot_check_possible=possible.get("spot_check", True),
        signals=view.signals, parsed=view.parsed,
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_decision_is_the_one_on_file(path: Path) -> None:
    case = read(path)
    expect = case["expect"]
    said: BeforeDecision | Decision
    if expect.pop("at", "after") == "before":
        said = policy_of(case["policy"]).before(base_of(case))
        decision = said.action
    else:
        said = decision = decided(policy_of(case["policy"]), case)
    if "forbid" in expect:
        assert said.forbid == set(expect.pop("forbid"))
    for part in expect.pop("says", []):
        assert part in said.explanation
    action = expect.pop("action")
    assert (decision.action if decision else None) == action
    for name, wanted in expect.items():
        assert getattr(decision, name) == wanted, name


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_policy_accepts_a_broken_draft(path: Path) -> None:
    policy = policy_of(path.stem)
    for attempt in (1, 2, 3):
        case = {"task": {"input": {"text": "x"}}, "signals": {"schema": False}, "confidence": 0.0, "threshold": -1.0}
        for run in range(200):
            decision = decided(policy, {**case, "attempt": attempt, "run_id": f"run_{run}"})
            assert decision.action in ("redraft", "escalate", "hand_off")


def test_a_draw_is_the_same_for_the_same_run_and_rule_and_fair_over_runs() -> None:
    draws = [draw(f"run_{n}", "spot_check") for n in range(20_000)]
    assert draws[7] == draw("run_7", "spot_check") != draw("run_7", "other")
    assert all(0.0 <= d < 1.0 for d in draws)
    share = sum(d < 0.02 for d in draws) / len(draws)
    assert abs(share - 0.02) < 4 * (0.02 * 0.98 / len(draws)) ** 0.5


def test_the_draw_of_a_known_run_never_changes() -> None:
    """Replaying a ledger needs the same draws in every version."""
    assert draw("run_1", "spot_check") == 0.6897811605991974


SAMPLING = {
    "policy": "two",
    "after": [
        {"name": "some", "sample": 0.5, "when": "attempt == 1", "then": "spot_check"},
        {"name": "more", "sample": 0.5, "then": "spot_check"},
    ],
    "otherwise": "accept",
}


def test_the_logged_propensity_is_the_chance_of_a_check_by_the_rules_reached() -> None:
    policy = policy_of(SAMPLING)
    case = {"task": {"input": {}}, "signals": {"schema": True}}
    seen = Counter()
    for run in range(2_000):
        decision = decided(policy, {**case, "run_id": f"run_{run}"})
        seen[decision.rule, decision.propensity] += 1
        assert decision.spot_check == (decision.rule != "otherwise") == (decision.action == "spot_check")
    assert seen.keys() == {("some", 0.75), ("more", 0.75), ("otherwise", 0.75)}
    assert abs(seen["otherwise", 0.75] / 2_000 - 0.25) < 0.05
    assert decided(policy, {**case, "attempt": 2}).propensity == 0.5


def test_a_draft_that_is_only_accepted_because_it_was_drawn_is_no_sample_of_the_accepted_ones() -> None:
    policy = policy_of({
        "policy": "early",
        "after": [
            {"name": "look", "sample": 0.5, "then": "spot_check"},
            {"name": "not_sure", "when": "confidence < threshold", "then": "escalate"},
        ],
        "otherwise": "accept",
    })
    seen = set()
    for run in range(50):
        for confidence in (0.2, 0.8):
            case = {"task": {"input": {}}, "signals": {"schema": True}, "confidence": confidence, "threshold": 0.5}
            decision = decided(policy, {**case, "run_id": f"run_{run}"})
            seen.add((confidence, decision.rule, decision.propensity))
    assert seen == {
        (0.2, "look", 1.0), (0.2, "not_sure", 0.5), (0.8, "look", 0.5), (0.8, "otherwise", 0.5),
    }


def test_a_sampled_rule_before_the_draft_is_drawn_by_the_run() -> None:
    policy = policy_of({"policy": "p", "before": [{"name": "explore", "sample": 0.5, "then": "escalate"}]})
    base = base_of({"task": {"input": {}}})
    taken = sum(policy.before(base, run_id=f"run_{n}").action is not None for n in range(500))
    assert 150 < taken < 350
    assert policy.before(base).forbid == {"remote"}


@pytest.fixture
def guards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own, importable as `own_guards`."""
    (tmp_path / "own_guards.py").write_text(
        "def asks_for_secrets(task):\n    return 'password' in task.input['text']\n"
        "def names_a_person(task, value):\n    return value['name'] != ''\n"
        "def maybe(task, value=None):\n    return 'maybe'\n"
        "async def waits(task, value):\n    return True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_guards"


def test_a_guard_is_a_rule_on_the_task_and_on_the_answer(guards: str) -> None:
    policy = policy_of(
        {
            "policy": "guarded",
            "before": [{"name": "secrets", "guard": f"{guards}:asks_for_secrets", "then": "decline", "message": "no"}],
            "after": [{"name": "person", "guard": f"{guards}:names_a_person", "then": "hand_off"}],
            "otherwise": "accept",
        },
        allow_imports=["own_guards"],
    )
    asked = policy.before(base_of({"task": {"input": {"text": "the password?"}}})).action
    assert asked is not None
    assert (asked.action, asked.message) == ("decline", "no")
    assert "guard own_guards:asks_for_secrets" in asked.explanation
    case = {"task": {"input": {"text": "hi"}}, "signals": {"schema": True}}
    assert policy.before(base_of(case)).action is None
    assert decided(policy, {**case, "value": {"name": "Ada"}}).action == "hand_off"
    assert decided(policy, {**case, "value": {"name": ""}}).action == "accept"


def test_a_guard_that_raises_or_says_neither_is_unevaluable(guards: str) -> None:
    rules = [
        {"name": "secrets", "guard": f"{guards}:asks_for_secrets", "forbid": ["remote"]},
        {"name": "unsure", "guard": f"{guards}:maybe", "then": "escalate"},
    ]
    after = [{"name": "person", "guard": f"{guards}:names_a_person", "then": "accept"}]
    policy = policy_of({"policy": "g", "before": rules, "after": after}, allow_imports=["own_guards"])
    before = policy.before(base_of({"task": {"input": {}}}))
    assert before.forbid == {"remote"}
    assert before.action is None
    assert [p.split(":")[0] for p in before.problems] == [
        "secrets cannot be evaluated (guard own_guards", "unsure cannot be evaluated (guard own_guards"
    ]  # fmt: skip
    decision = decided(policy, {"task": {"input": {}}, "signals": {"schema": True}, "value": None})
    assert (decision.action, decision.rule) == ("escalate", "person")
    assert "raised TypeError" in decision.explanation


RULE = {"name": "r", "then": "escalate"}


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"after": [{**RULE, "when": "confidnce < 1.0"}]}, "policy 'p', rule 'r': .*did you mean 'confidence'"),
        ({"before": [{**RULE, "when": "confidence < 1.0"}]}, "rule 'r' reads confidence: before the draft it can't"),
        ({"after": [{**RULE, "guard": "os:system"}]}, "rule 'r': 'os:system' may not be imported"),
        ({"after": [{**RULE, "guard": "own_guards:waits"}]}, "is a coroutine function"),
        ({"after": [RULE, RULE]}, "the name 'r' is taken"),
        ({"before": [RULE], "after": [RULE]}, "the name 'r' is taken"),
        ({"after": [{**RULE, "name": "otherwise"}]}, "the name 'otherwise' is taken"),
    ],
)
def test_a_policy_that_does_not_compile_names_the_rule(guards: str, policy: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        policy_of({"policy": "p", **policy}, allow_imports=["own_guards"])


def test_check_finds_undeclared_and_unguarded_fields_of_every_rule() -> None:
    policy = policy_of(
        {
            "policy": "p",
            "before": [{"name": "home", "when": 'task.meta.residency == "local"', "forbid": ["remote"]}],
            "after": [{"name": "odd", "when": "signals.shema.ok && value.qty > 1.0", "then": "escalate"}],
        }
    )
    meta = {"type": "object", "properties": {"residency": {"type": "string"}}}
    fields = DeclaredFields(task={"properties": {"meta": meta}}, value={"properties": {"n": {}}}, signals=["schema"])
    problems = policy.check(fields)
    assert [p.split(":")[0] for p in problems] == ["before rule 'home'", "after rule 'odd'", "after rule 'odd'"]
    assert "may be missing" in problems[0]
    assert "did you mean 'schema'" in problems[1]
    assert "value.qty is not declared" in problems[2]


def test_the_shipped_policies_have_no_problems_on_the_task_they_are_shipped_for() -> None:
    import json

    folder = HERE.parent / "pipelines" / "order_lines"
    fields = DeclaredFields(
        task=json.loads((folder / "task.json").read_text()), value=json.loads((folder / "output.json").read_text()),
        signals=["schema", "logprob", "arithmetic"],
    )
    for path in SHIPPED.glob("*.yaml"):
        assert policy_of(path.stem).check(fields) == []


def test_the_policy_and_the_signals_of_the_documentation_compile() -> None:
    page = (HERE.parent / "docs" / "policies.md").read_text()
    shown = [YAML(typ="safe").load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert policy_of(shown[0]).config == policy_of("high_volume").config
    signals = compile_signals([s for s in shown[1]["signals"] if "python" not in s])
    assert signals.names == ("schema", "logprob", "refusal", "arithmetic", "iban")


def test_numbers_too_close_to_tell_apart_are_written_out() -> None:
    view = view_of({"task": {"input": {}}, "confidence": -0.1200004, "threshold": -0.12})
    assert view.comparison().startswith("confidence -0.1200004 < threshold -0.12 (")
