"""One thing that `check` has to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

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
