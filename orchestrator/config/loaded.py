"""A pipeline with its files read: what `load_pipeline` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.config.closed_answers import ClosedAnswer
from orchestrator.config.feature_names import feature_names
from orchestrator.config.pipeline import ConfidenceConfig, GateConfig, PipelineConfig, StepConfig
from orchestrator.config.policy import PolicyConfig
from orchestrator.config.prices import PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedThreshold:
    """A step's `confidence:` or `gate:` with the files that `calibrate` makes, which may not be there yet. `problem`
    says why they count for nothing."""

    config: ConfidenceConfig | GateConfig | None = None
    fitted: Mapping[str, Any] | None = None
    fitted_path: Path | None = None
    certificate: Mapping[str, Any] | None = None
    certificate_path: Path | None = None
    problem: str | None = None

    @property
    def value(self) -> float | None:
        """The number that is compared with; None where nothing (valid) certifies one."""
        if self.config is None or self.problem:
            return None
        found = self.config.threshold if self.certificate is None else self.certificate["threshold"]
        return None if found is None else float(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedStep:
    """One step with its files read. `prompt` and `system` are Jinja sources; without a prompt the task brings messages.

    `reads` are the dotted names the prompt mentions, `answers` what the output takes from closed lists. `output_model`
    is the pydantic model that `output_schema` was made of, where it was.
    """

    config: StepConfig
    prompt: str | None
    system: str | None
    reads: frozenset[tuple[str, ...]] = frozenset()
    output_schema: dict[str, Any] | None
    output_model: type[BaseModel] | None = None
    answers: tuple[ClosedAnswer, ...] = ()
    policy: PolicyConfig
    policy_path: Path
    confidence: LoadedThreshold
    gate: LoadedThreshold

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the numbers kept of every draft, in their order."""
        return feature_names(self.config, [one.name for one in self.answers])


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A pipeline with its files read. `resolved` maps each key that names a path to what it resolved to.

    `config` has the values of `${NAME}` in place, `body` has not: `config_id` is the digest of `body`.
    """

    config: PipelineConfig
    path: Path
    steps: tuple[LoadedStep, ...]
    book: PriceBook | None
    book_path: Path | None
    task_schema: dict[str, Any] | None
    config_id: str
    resolved: Mapping[str, Path]
    body: Mapping[str, Any] = field(repr=False)
