"""What a configuration in the ledger says of one step: enough to read the drafts that were made under it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.feature_names import signal_names
from orchestrator.config.pipeline import StepConfig
from orchestrator.config.policy import AfterRule, PolicyConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """One step as it stood. `features` name the numbers kept of its drafts and `fingerprint` says how those were made;
    both are None in a configuration older than that. `proofs` are those of its `signals` that decide by themselves.
    `may_pause`: where too much was escalated, escalations were handed off.
    """

    id: str
    config_id: str
    mode: str
    features: tuple[str, ...] | None
    fingerprint: Mapping[str, str] | None
    policy: PolicyConfig
    proofs: tuple[str, ...]
    is_last: bool
    signals: tuple[str, ...] = ()
    max_attempts: int = 1
    may_pause: bool = False

    def reached(self, rule: str | None) -> bool:
        """Did a draft that `rule` decided come to the rule that compares its confidence?

        What is no rule of the policy (`rejected`, `validator_outage`, …) came after an escalation, and nobody knows by
        which rule: then it counts as reached.
        """
        names = [one.name for one in self.policy.after]
        compares = self.compares_at()
        if compares is None or rule is None or rule in {one.name for one in self.policy.before}:
            return False
        return rule not in names or names.index(rule) >= compares

    def decides(self, rule: str | None) -> bool:
        """Is it one of the policy's rules on drafts? What else is named as a rule came of what was wanting."""
        return rule == "otherwise" or any(one.name == rule for one in self.policy.after)

    def compares_at(self) -> int | None:
        """The place of the first `after` rule that compares the confidence."""
        return next((i for i, one in enumerate(self.policy.after) if _compares(one)), None)


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
    step = StepConfig.model_validate(said)
    limit = (body["pipeline"].get("limits") or {}).get("escalation") or {}
    return StoredStep(
        id=step_id, config_id=config_id, mode=mode, features=None if features is None else tuple(features),
        fingerprint=body.get("fingerprints", {}).get(step_id),
        policy=PolicyConfig.model_validate(files["policy"]), proofs=_proofs(step),
        is_last=written[-1]["id"] == step_id, signals=tuple(name for name, _ in signal_names(step)),
        max_attempts=step.draft.max_attempts, may_pause=limit.get("then") == "hand_off",
    )


def _proofs(step: StepConfig) -> tuple[str, ...]:
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
