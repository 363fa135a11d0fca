"""A loaded pipeline, compiled as far as that goes, for the checks to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.check.finding import Finding, faults_of
from orchestrator.config.loader import LoadedPipeline

if TYPE_CHECKING:
    from orchestrator.cascade.policy import CompiledPolicy
    from orchestrator.cascade.signals import SignalSet
    from orchestrator.models.client import ModelClient


@dataclass(frozen=True, slots=True)
class Checked:
    """A loaded pipeline with what could be compiled of it: a step or model that could not be is absent. `revoked` says
    of a step when and why its certificate was."""

    loaded: LoadedPipeline
    signals: Mapping[str, SignalSet]
    policies: Mapping[str, CompiledPolicy]
    clients: Mapping[str, ModelClient]
    revoked: Mapping[str, str]


def compiled(loaded: LoadedPipeline, findings: list[Finding], *, revoked: Mapping[str, str]) -> Checked:
    from orchestrator.cascade.policy import compile_policy
    from orchestrator.cascade.signals import compile_signals
    from orchestrator.models.catalog import client_of

    policies: dict[str, CompiledPolicy] = {}
    signals: dict[str, SignalSet] = {}
    clients: dict[str, ModelClient] = {}
    for step in loaded.steps:
        with faults_of(f"step {step.config.id}", findings):
            signals[step.config.id] = compile_signals(
                step.config.signals, output_schema=step.output_schema, output_model=step.output_model,
                allow_imports=loaded.config.allow_imports,
            )
        with faults_of(f"step {step.config.id}, {step.policy_path.name}", findings):
            policies[step.config.id] = compile_policy(step.policy, allow_imports=loaded.config.allow_imports)
    for name in loaded.config.models:
        with faults_of(f"model {name}", findings):
            clients[name] = client_of(loaded, name)
    return Checked(loaded, signals, policies, clients, revoked)


def logprob_models(checked: Checked) -> frozenset[str]:
    """The drafters whose signals need log-probabilities."""
    return frozenset(
        step.config.draft.model for step in checked.loaded.steps
        if step.config.id in checked.signals and checked.signals[step.config.id].needs_logprobs
    )
