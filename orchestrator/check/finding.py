"""One thing that `check` has to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from orchestrator.config.expression_names import reads_confidence
from orchestrator.config.loader import LoadedPipeline, LoadedStep
from orchestrator.errors import OrchestratorError


@dataclass(frozen=True, slots=True)
class Finding:
    """`error`: the pipeline would not do what it says; `warning`: it would, with something to know; `info`: a fact."""

    level: Literal["error", "warning", "info"]
    where: str
    message: str


@contextmanager
def faults_of(place: str, findings: list[Finding]) -> Iterator[None]:
    """Turn what is raised within into a finding."""
    try:
        yield
    except OrchestratorError as error:
        findings.append(fault(place, error))


def fault(place: str, error: OrchestratorError) -> Finding:
    return Finding("error", place, f"{error} ({error.hint})" if error.hint else str(error))


def confidence_rules(step: LoadedStep) -> list[str]:
    """The names of the step's rules that compare the confidence."""
    return [rule.name for rule in step.policy.after if rule.when and reads_confidence(rule.when)]


def without_a_certificate(loaded: LoadedPipeline, what: str) -> str:
    """What becomes of `what` where nothing valid certifies a threshold."""
    return f"every {what} would {'escalate' if loaded.config.certificate_lapsed == 'escalate' else 'be handed off'}"


def compared_drafts(step: LoadedStep) -> str:
    return f"draft that reaches {', '.join(confidence_rules(step)) or 'the threshold'}"
