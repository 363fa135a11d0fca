"""What each kind of signal measures, as JSON Schema: what `check` compares literals and thresholds with.

A signal that could not be measured has the value null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.config.feature_names import is_log_probability, signal_names
from orchestrator.config.loader import LoadedStep
from orchestrator.config.pipeline import ConfidenceConfig

_YES_OR_NO: Mapping[str, Any] = {"type": ["boolean", "null"]}
_NUMBER: Mapping[str, Any] = {"type": ["number", "null"]}
_COUNT: Mapping[str, Any] = {"type": ["number", "null"], "minimum": 0.0}
SHARE: Mapping[str, Any] = {"type": ["number", "null"], "minimum": 0.0, "maximum": 1.0}
LOG_PROBABILITY: Mapping[str, Any] = {"type": ["number", "null"], "maximum": 0.0}
_LOGPROBS = {
    **dict.fromkeys(("mean", "min", "q10", "q25", "q50"), LOG_PROBABILITY),
    **dict.fromkeys(("margin_mean", "margin_min"), _NUMBER),
}


def _map(properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


MEASURES: Mapping[str, Mapping[str, Any]] = {
    "schema": _YES_OR_NO,
    "logprob": _map({**_LOGPROBS, "span": _map(_LOGPROBS)}),
    "finish": {"type": ["string", "null"]},
    "length": _map({"chars": _COUNT, "tokens": _COUNT}),
    "refusal": {"enum": ["refusal", "placeholder", "empty", None]},
    "arithmetic": _YES_OR_NO,
    "regex": _YES_OR_NO,
    "agreement": SHARE,
}
"""By kind. What a `python` signal returns is its own affair."""


def measures_of(step: LoadedStep) -> dict[str, Mapping[str, Any]]:
    """By the names of the step's signals, as far as known."""
    return {name: MEASURES[kind] for name, kind in signal_names(step.config) if kind in MEASURES}


def measure_at(step: LoadedStep, path: Iterable[str]) -> Mapping[str, Any]:
    """The schema of a part of a signal's value, its name first (`logprob`, `mean`); {} where it is not known."""
    node: Any = measures_of(step)
    for place, name in enumerate(path):
        node = (node if place == 0 else node.get("properties", {})).get(name, {})
    return dict(node)


def confidence_measure(step: LoadedStep) -> tuple[str, Mapping[str, Any]]:
    """What the step's confidence is called, and its schema; {} where that is not known."""
    config = step.confidence.config
    if isinstance(config, ConfidenceConfig) and config.from_ is not None:
        return config.from_, measure_at(step, config.from_.split("."))
    return _fitted("the fitted confidence", step, step.confidence.fitted)


def gate_measure(step: LoadedStep) -> tuple[str, Mapping[str, Any]]:
    """The same of the step's gate."""
    return _fitted("the gate", step, step.gate.fitted)


def _fitted(name: str, step: LoadedStep, artefact: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    """A probability, unless the artefact keeps a raw signal as it is."""
    if artefact is None:
        return name, {}
    if artefact["model"]["kind"] != "signal":
        return name, SHARE
    (feature,) = artefact["features"]
    measure = LOG_PROBABILITY if is_log_probability(feature) else measure_at(step, (feature,))
    return f"{name}, which is {feature},", measure
