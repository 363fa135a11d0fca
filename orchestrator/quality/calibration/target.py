"""What a calibration is to write: the files that the step, or its gate, names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ConfigError
from orchestrator.quality.calibration.evidence import Asked

if TYPE_CHECKING:
    from orchestrator.config.loaded import LoadedPipeline, LoadedStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The files that a calibration writes, and the certificate that stands there now."""

    step: LoadedStep
    signal: str
    certificate: Path
    artefact: Path | None
    before: Mapping[str, Any] | None


def target_of(loaded: LoadedPipeline, asked: Asked) -> Target:
    """Raises ConfigError where the pipeline names no such step, or the step no file."""
    step = loaded.steps[-1]
    if asked.step is not None:
        found = next((one for one in loaded.steps if one.config.id == asked.step), None)
        if found is None:
            names = ", ".join(one.config.id for one in loaded.steps)
            raise ConfigError(f"there is no step {asked.step!r}: the pipeline has {names}", file=str(loaded.path))
        step = found
    compared = step.gate if asked.gate else step.confidence
    if compared.config is None or compared.certificate_path is None:
        raise _no_file(loaded, step, gate=asked.gate)
    return Target(
        step=step, signal=compared.config.signal, certificate=compared.certificate_path, artefact=compared.fitted_path,
        before=compared.certificate,
    )


def _no_file(loaded: LoadedPipeline, step: LoadedStep, *, gate: bool) -> ConfigError:
    if gate:
        return ConfigError(
            f"step {step.config.id!r} names no certificate file for a gate", file=str(loaded.path), key="gate",
            hint="gate: {fitted: confidence/NAME_gate.json, certificate: certificates/NAME_gate.json}",
        )
    return ConfigError(
        f"step {step.config.id!r} names no certificate file to write", file=str(loaded.path), key="confidence",
        hint="confidence: {from: logprob.mean, certificate: certificates/NAME.json}",
    )
