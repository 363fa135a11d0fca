"""What a certificate was made for: a digest of every setting that changes draft, signals, confidence or verdict.

Not of budgets, limits, owner, retention or endpoints, nor of the pipeline's `mode`: drafts are drawn and weighed the
same in shadow, which is where certificates come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.digest import digest, folder_digest
from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.loaded import LoadedPipeline, LoadedStep, LoadedThreshold
from orchestrator.config.order import steps_named_in
from orchestrator.config.pipeline import GateConfig, ModelConfig
from orchestrator.config.plugins import source_digest
from orchestrator.config.policy import AfterRule, BeforeRule
from orchestrator.config.secrets import written

_ADDRESS_KEYS = frozenset({"api_key", "api_base", "base_url", "timeout", "num_retries", "max_retries", "organization"})
_SHOWN_DIGITS = 16
_WEIGHING = frozenset({"confidence_source", "rules_before_confidence", "gate"})


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
    """Why the certificate of `step` counts for nothing: absent, without a threshold, of another signal, lapsed.

    A fitted confidence that is absent or was fitted on other drafts counts for nothing either.
    """
    return _problem(loaded, step.confidence, step_fingerprint(loaded, step)) if step.confidence.config else None


def gate_problem(loaded: LoadedPipeline, step: LoadedStep) -> str | None:
    """The same of the certificate of the step's gate."""
    return _problem(loaded, step.gate, gate_fingerprint(loaded, step)) if step.gate.config else None


def gate_fingerprint(loaded: LoadedPipeline, step: LoadedStep) -> dict[str, str]:
    """What a gate's certificate was made for: the drafts, and the gate; no rule comes before it."""
    drafts = draft_fingerprint(step_fingerprint(loaded, step))
    return {**drafts, "confidence_source": _short(_meaning(step.gate.fitted))}


def draft_fingerprint(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """The part of a fingerprint that says how drafts are made and judged, not which of them reach the rule that
    compares, nor by what: steps alike in it can share a fitted confidence."""
    return {name: value for name, value in fingerprint.items() if name not in _WEIGHING}


def _problem(loaded: LoadedPipeline, compared: LoadedThreshold, found: Mapping[str, str]) -> str | None:
    if compared.fitted_path is not None and (problem := _fitted_problem(loaded, compared, found)):
        return problem
    path, certificate = compared.certificate_path, compared.certificate
    if path is None or compared.config is None:
        return None
    if certificate is None:
        return f"certificate not found: {path}; {_how_to_make(loaded, compared)}"
    if certificate["threshold"] is None:
        return f"{path} certifies no threshold: none passed its test"
    if certificate["signal"] != compared.config.signal:
        return f"{path} certifies {certificate['signal']!r}, and the confidence is {compared.config.signal!r}"
    if changed := differences(certificate["fingerprint"], found):
        return f"{path} has lapsed: {', '.join(changed)} changed since it was made"
    return None


def _fitted_problem(loaded: LoadedPipeline, compared: LoadedThreshold, found: Mapping[str, str]) -> str | None:
    """Why a fitted confidence counts for nothing: absent, or fitted on drafts made otherwise."""
    path, artefact = compared.fitted_path, compared.fitted
    if artefact is None:
        return f"fitted confidence not found: {path}; {_how_to_make(loaded, compared)}"
    if changed := differences(draft_fingerprint(artefact["fingerprint"]), draft_fingerprint(found)):
        return f"{path} has lapsed: {', '.join(changed)} changed since it was fitted"
    return None


def _how_to_make(loaded: LoadedPipeline, compared: LoadedThreshold) -> str:
    gate = " --gate" if isinstance(compared.config, GateConfig) else ""
    return f"run `orchestrator calibrate {loaded.path} --labels FILE{gate}`"


def _components(loaded: LoadedPipeline, step: LoadedStep) -> dict[str, Any]:
    config, models = step.config, loaded.config.models
    validator = config.validate_
    return {
        "prompt": step.prompt,
        "system": step.system,
        "schema": step.output_schema,
        **({"output_model": source_digest(step.output_model)} if step.output_model else {}),
        "task": loaded.task_schema,
        "drafter": _identity(loaded, config.draft.model),
        "drafter_params": _parameters(models[config.draft.model]),
        "max_attempts": config.draft.max_attempts,
        "validator": _identity(loaded, validator.model) if validator else None,
        "validator_params": _parameters(models[validator.model]) if validator else None,
        "validate_mode": validator.mode if validator else None,
        "on_reject": validator.on_reject if validator else None,
        "signals": config.signals,
        "confidence_source": _source(step),
        **({"gate": _gate(step)} if step.config.gate else {}),
        "compare": config.compare,
        "rules_before_confidence": [_rule(loaded, rule) for rule in _rules_up_to_confidence(step)],
        "guards": loaded.config.guards,
        "when": config.when,
        "earlier_steps": _earlier(loaded, step),
    }


def _source(step: LoadedStep) -> Any:
    confidence = step.config.confidence
    if confidence is None or confidence.fitted is None:
        return confidence.from_ if confidence else None
    return _meaning(step.confidence.fitted)


def _gate(step: LoadedStep) -> Any:
    """A gate decides which tasks get a draft at all."""
    written = step.config.gate.threshold if step.config.gate else None
    certified = step.gate.certificate["threshold"] if step.gate.certificate else None
    return [_meaning(step.gate.fitted), certified if written is None else written]


def _meaning(artefact: Mapping[str, Any] | None) -> Any:
    """What a fitted confidence computes; not when it was fitted, nor how well."""
    return None if artefact is None else [artefact["features"], artefact["model"], artefact["calibration"]]


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
