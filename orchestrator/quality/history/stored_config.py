"""What a configuration in the ledger says of one step: enough to read the drafts that were made under it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from orchestrator.cascade.rules import draw
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.feature_names import signal_names
from orchestrator.config.pipeline import StepConfig
from orchestrator.config.policy import AfterRule, PolicyConfig

_PLAIN = "confidence < threshold"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """One step as it stood. `features` name the numbers kept of its drafts and `fingerprint` says how those were made;
    both are None in a configuration older than that. `proofs` are the signals that decide by themselves.
    """

    id: str
    config_id: str
    mode: str
    features: tuple[str, ...] | None
    fingerprint: Mapping[str, str] | None
    policy: PolicyConfig
    proofs: tuple[str, ...]
    is_last: bool

    def reached(self, rule: str | None) -> bool:
        """Did a draft that `rule` decided come to the rule that compares its confidence?

        What is no rule of the policy (`rejected`, `validator_outage`, …) came after an escalation, and nobody knows by
        which rule: then it counts as reached.
        """
        names = [one.name for one in self.policy.after]
        compares = next((i for i, one in enumerate(self.policy.after) if _compares(one)), None)
        if compares is None or rule is None or rule in {one.name for one in self.policy.before}:
            return False
        return rule not in names or names.index(rule) >= compares

    def chance_of_a_look(
        self, run_id: str, rule: str | None, spot_check: float | None, confidence: float | None,
        threshold: float | None, *, escalated: bool,
    ) -> float:
        """The probability that the validator came to see a draft on which `rule` decided, over the policy's own draws.

        `spot_check` is the logged one. 1.0 where no draw was involved; 0.0 where it is none, or cannot be told.
        """
        chance = 0.0 if spot_check is None else spot_check
        at = next((i for i, one in enumerate(self.policy.after) if one.name == rule), len(self.policy.after))
        decided = self.policy.after[at] if at < len(self.policy.after) else None
        if escalated:
            if decided is None or decided.sample is None or decided.then != "escalate" or self.mode == "shadow":
                return 1.0
            later = _chance_of(self.policy, at + 1, confidence, threshold)
            return 0.0 if later is None else _either(decided.sample, later)
        for one in self.policy.after[:at]:
            if one.then != "escalate" or one.sample is None:
                continue
            if one.when is None and one.guard is None:
                chance = _either(chance, one.sample)
            elif draw(run_id, one.name) >= one.sample:
                return 0.0  # it may have matched and not been drawn, or not have matched
        return chance


def stored_steps(rows: Sequence[tuple[str, str, str]], step_id: str) -> Iterator[StoredStep]:
    """Those of (config id, mode, body) rows that know the step."""
    for config_id, mode, body_json in rows:
        found = _stored(config_id, mode, json.loads(body_json), step_id)
        if found is not None:
            yield found


def _stored(config_id: str, mode: str, body: Mapping[str, Any], step_id: str) -> StoredStep | None:
    files = body.get("steps", {}).get(step_id)
    written = (body.get("pipeline") or {}).get("steps") or []
    said = next((one for one in written if one.get("id") == step_id), None)
    if files is None or said is None:
        return None
    features = body.get("features", {}).get(step_id)
    return StoredStep(
        id=step_id, config_id=config_id, mode=mode, features=None if features is None else tuple(features),
        fingerprint=body.get("fingerprints", {}).get(step_id),
        policy=PolicyConfig.model_validate(files["policy"]), proofs=_proofs(said),
        is_last=written[-1]["id"] == step_id,
    )


def _proofs(said: Mapping[str, Any]) -> tuple[str, ...]:
    step = StepConfig.model_validate(said)
    return tuple(
        name for (name, _), entry in zip(signal_names(step), step.signals, strict=True)
        if isinstance(entry, dict) and next(iter(entry.values())).get("proof")
    )


def _compares(rule: AfterRule) -> bool:
    return rule.when is not None and _reads_confidence(rule.when)


@lru_cache(maxsize=1024)
def _reads_confidence(when: str) -> bool:
    """Asked of the same few rules for each draft of a ledger."""
    return reads_confidence(when)


def _chance_of(policy: PolicyConfig, first: int, confidence: float | None, threshold: float | None) -> float | None:
    """What the rules from `first` on would have made of a draft; None where that takes more than its confidence."""
    chance = 0.0
    for rule in policy.after[first:]:
        if rule.when == _PLAIN and confidence is not None and threshold is not None:
            if confidence >= threshold:
                continue
        elif rule.when is not None or rule.guard is not None:
            return None
        if rule.sample is None:
            return 1.0 if rule.then == "escalate" else chance
        if rule.then in ("escalate", "spot_check"):
            chance = _either(chance, rule.sample)
    return 1.0 if policy.otherwise == "escalate" else chance


def _either(a: float, b: float) -> float:
    return 1.0 - (1.0 - a) * (1.0 - b)
