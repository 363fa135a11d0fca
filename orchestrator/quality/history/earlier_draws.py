"""With what probability the validator came to see a draft, where an earlier version logged that of a spot check alone.

Where the policy drew more than spot checks, or drew before the confidence was compared, it is asked again, as it stood.
**It is asked where the numbers that are kept are all that it reads, of every draft alike; elsewhere nothing is told.**
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from orchestrator.cascade.bounds import enforce
from orchestrator.cascade.policy import CompiledPolicy, compile_policy
from orchestrator.cascade.policy_views import AfterView
from orchestrator.config.policy import AfterRule, PolicyConfig
from orchestrator.errors import ConfigError
from orchestrator.expressions import compile_expression
from orchestrator.quality.history.stored_config import StoredStep
from orchestrator.records import Signal

_KEPT = frozenset({("confidence",), ("threshold",), ("attempt",)})


def chance_and_reach(row: Any, step: StoredStep, features: Mapping[str, float | None]) -> tuple[float, bool]:
    """The probability of a look (0.0 where it can't be told), and whether the draft came to the rule that compares its
    confidence. `row` is its decision as logged."""
    reached = step.reached(row.rule)
    elsewhere = row.action in ("hand_off", "decline") and step.decides(row.rule)
    if step.mode == "shadow":
        return float(not elsewhere), reached
    if step.mode != "cascade":
        return 0.0, reached
    if not _spot_checks_alone(step):
        return _asked_again(row, step, features) or (0.0, reached)
    if row.action in ("accept", "spot_check"):
        return row.propensity or 0.0, reached
    return float(not elsewhere), reached


def _spot_checks_alone(step: StoredStep) -> bool:
    """Was a spot check all that its policy drew, of drafts that came to be compared, were not made anew, and went to
    nobody but the validator? Then what was logged of one that was accepted is the probability of a look."""
    after = step.policy.after
    first = next((i for i, one in enumerate(after) if one.sample is not None), None)
    if first is None:
        return True
    if first < (step.compares_at() or 0) or step.policy.otherwise not in ("accept", "escalate"):
        return False
    return all(
        one.then == "spot_check" or (one.sample is None and one.then in ("accept", "escalate")) for one in after[first:]
    )


def _draws_before_a_redraft(policy: PolicyConfig) -> bool:
    """Then what was drawn for the first draft was drawn for the next one, too: a draw was one of the run."""
    last = max((i for i, one in enumerate(policy.after) if one.then == "redraft"), default=-1)
    return any(one.sample is not None for one in policy.after[: last + 1])


def _asked_again(row: Any, step: StoredStep, features: Mapping[str, float | None]) -> tuple[float, bool] | None:
    policy = _compiled(step.policy.model_dump_json())
    if policy is None or step.may_pause or (row.attempts > 1 and _draws_before_a_redraft(step.policy)):
        return None
    if any(rule.reads_confidence for rule in policy.afters) and row.threshold is None:
        return None
    oks = {name: features.get(f"{name}.ok") for name in step.signals}
    if "schema" not in oks or any(ok != 1.0 for name, ok in oks.items() if name != "schema"):
        return None  # whether the draft was read, or which of its signals it needed, is not kept
    if not _reads_kept(step.policy, frozenset(oks)):
        return None
    parsed = oks["schema"] == 1.0
    signals = {name: Signal(name=name, ok=ok == 1.0, required=name == "schema") for name, ok in oks.items()}
    decision = enforce(
        policy.after(AfterView(
            base={}, signals=signals, value=None, parsed=parsed, confidence=row.confidence, threshold=row.threshold,
            attempt=row.attempts, run_id=row.run_id,
        )),
        escalation_possible=lambda to: True, redraft_possible=row.attempts < step.max_attempts, signals=signals,
        parsed=parsed,
    )
    if decision.look is None or (step.decides(row.rule) and row.attempts == 1 and decision.rule != row.rule):
        return None  # something that is not known here had a part in it
    return decision.look, bool(decision.compared)


@lru_cache(maxsize=256)
def _compiled(policy_json: str) -> CompiledPolicy | None:
    """None where what it did is not known from the draft: the task may have been kept at home, another model asked."""
    policy = PolicyConfig.model_validate_json(policy_json)
    if policy.before or any(one.to for one in policy.after):
        return None
    try:
        return compile_policy(policy)
    except ConfigError:  # a guard, which was allowed then
        return None


def _reads_kept(policy: PolicyConfig, signals: frozenset[str]) -> bool:
    return all(_is_kept(path, signals) for rule in policy.after for path in _reads(rule))


def _is_kept(path: tuple[str, ...], signals: frozenset[str]) -> bool:
    return path in _KEPT or (len(path) == 3 and path[::2] == ("signals", "ok") and path[1] in signals)


def _reads(rule: AfterRule) -> frozenset[tuple[str, ...]]:
    return _paths(rule.when) if rule.when is not None else frozenset()


@lru_cache(maxsize=1024)
def _paths(when: str) -> frozenset[tuple[str, ...]]:
    nodes = compile_expression(when).tree.walk()
    return frozenset(node.path for node in nodes if node.kind in ("path", "has", "name"))
