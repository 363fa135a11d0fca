"""What a certificate was made for: a digest of every setting that changes draft, signals, confidence or verdict.

Not of budgets, limits, owner, retention or endpoints, nor of the pipeline's `mode`: drafts are drawn and weighed the
same in shadow, which is where certificates come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.digest import digest, folder_digest
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.loaded import LoadedPipeline, LoadedStep
from orchestrator.config.order import steps_named_in
from orchestrator.config.pipeline import ModelConfig
from orchestrator.config.policy import AfterRule, BeforeRule
from orchestrator.config.secrets import written

_ADDRESS_KEYS = frozenset({"api_key", "api_base", "base_url", "timeout", "num_retries", "max_retries", "organization"})
_SHOWN_DIGITS = 16


def step_fingerprint(loaded: LoadedPipeline, step: LoadedStep) -> dict[str, str]:
    """A short digest for each named component of `step`."""
    return {name: _short(value) for name, value in _components(loaded, step).items()}


def fingerprint_digest(fingerprint: Mapping[str, str]) -> str:
    """One `sha256:` digest of a whole fingerprint."""
    return digest(dict(fingerprint))


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    """The names of the components in which `a` and `b` differ, sorted."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def certificate_problem(loaded: LoadedPipeline, step: LoadedStep) -> str | None:
    """Why the certificate of `step` counts for nothing: absent, without a threshold, of another signal, lapsed."""
    path, confidence, certificate = step.certificate_path, step.config.confidence, step.certificate
    if path is None or confidence is None:
        return None
    if certificate is None:
        return f"certificate not found: {path}; run `orchestrator calibrate {loaded.path} --labels FILE`"
    if certificate["threshold"] is None:
        return f"{path} certifies no threshold: none passed its test"
    if certificate["signal"] != confidence.from_:
        return f"{path} certifies {certificate['signal']!r}, and `confidence:` is from {confidence.from_!r}"
    if changed := differences(certificate["fingerprint"], step_fingerprint(loaded, step)):
        return f"{path} has lapsed: {', '.join(changed)} changed since it was made"
    return None


def _components(loaded: LoadedPipeline, step: LoadedStep) -> dict[str, Any]:
    config, models = step.config, loaded.config.models
    validator = config.validate_
    confidence = config.confidence
    return {
        "prompt": step.prompt,
        "system": step.system,
        "schema": step.output_schema,
        "task": loaded.task_schema,
        "drafter": _identity(loaded, config.draft.model),
        "drafter_params": _parameters(models[config.draft.model]),
        "max_attempts": config.draft.max_attempts,
        "validator": _identity(loaded, validator.model) if validator else None,
        "validator_params": _parameters(models[validator.model]) if validator else None,
        "validate_mode": validator.mode if validator else None,
        "on_reject": validator.on_reject if validator else None,
        "signals": config.signals,
        "confidence_source": confidence.from_ if confidence else None,
        "compare": config.compare,
        "rules_before_confidence": [_rule(loaded, rule) for rule in _rules_up_to_confidence(step)],
        "guards": loaded.config.guards,
        "when": config.when,
        "earlier_steps": _earlier(loaded, step),
    }


def _identity(loaded: LoadedPipeline, name: str) -> list[str | None]:
    """Which weights answer: an embedded model by its files, others by name and pinned revision."""
    model = loaded.config.models[name]
    folder = loaded.resolved.get(f"models.{name}.use")
    return [model.kind, folder_digest(folder) if folder else model.target, model.revision]


def _parameters(model: ModelConfig) -> dict[str, Any]:
    return {
        "thinking": model.thinking,
        "max_tokens": model.max_tokens,
        "temperature": model.temperature,
        "redraft_temperature": model.redraft_temperature,
        "seed": model.seed,
        "structured": model.structured,
        "serve": [model.serve.dtype, model.serve.args],
        "litellm_params": _without_addresses(model.litellm_params),
        "extra_body": written(model.extra_body),
    }


def _without_addresses(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: written(value) for key, value in params.items() if key not in _ADDRESS_KEYS}


def _rules_up_to_confidence(step: LoadedStep) -> list[BeforeRule | AfterRule]:
    """The rules a draft passes to reach the one that reads the confidence, that one included."""
    rules: list[BeforeRule | AfterRule] = list(step.policy.before)
    for rule in step.policy.after:
        rules.append(rule)
        if rule.when is not None and reads_confidence(rule.when):
            break
    return rules


def _rule(loaded: LoadedPipeline, rule: BeforeRule | AfterRule) -> dict[str, Any]:
    said = rule.model_dump(mode="json", exclude={"name", "message"})
    return {**said, "to": _identity(loaded, rule.to) if rule.to else None}


def _earlier(loaded: LoadedPipeline, step: LoadedStep) -> list[Any]:
    """The fingerprints and policies of the steps whose values `step` reads."""
    named = steps_named_in(step)
    return [
        [_components(loaded, one), one.policy.model_dump(mode="json")]
        for one in loaded.steps if one.config.id in named
    ]


def _short(value: Any) -> str:
    return digest(value).removeprefix("sha256:")[:_SHOWN_DIGITS]
