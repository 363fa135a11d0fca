"""A confidence file: a small fitted model as plain JSON. Numbers and names only: reading it runs no code.

What the numbers mean is said where they are applied, in `orchestrator/cascade/confidence.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictStr, model_validator

from orchestrator.config.checked import validated
from orchestrator.config.document import Document, read_json
from orchestrator.config.feature_names import ANSWER_PREFIX

Positive = Annotated[FiniteFloat, Field(gt=0.0)]
Share = Annotated[FiniteFloat, Field(ge=0.0, le=1.0)]
MAX_TREES = 1000
MAX_NODES = 255


class _Exact(BaseModel):
    """A key that is not known might change what the numbers mean, and text is no number: both are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SignalModel(_Exact):
    kind: Literal["signal"]


class LogisticModel(_Exact):
    """`log_odds` says which features are log-probabilities, weighed as log-odds. `offsets` are added for what was
    answered: by the name of the answer, by its place in the list of what is allowed; times 1 - p of the log-probability
    `doubted_by`, where that is given."""

    kind: Literal["logistic"]
    log_odds: list[bool] | None = None
    doubted_by: StrictStr | None = None
    offsets: dict[StrictStr, dict[Annotated[StrictStr, Field(pattern="^[0-9]+$")], FiniteFloat]] | None = None
    fill: list[FiniteFloat | None]
    means: list[FiniteFloat]
    scales: list[Positive]
    clip: Positive | None = None
    weights: list[FiniteFloat]
    intercept: FiniteFloat


class Tree(_Exact):
    """Node 0 is the root. A child stands after its parent, so that every walk ends."""

    feature: Annotated[list[Annotated[int, Field(ge=-1)]], Field(min_length=1, max_length=MAX_NODES)]
    threshold: list[FiniteFloat]
    left: list[int]
    right: list[int]
    value: list[FiniteFloat]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        nodes = len(self.feature)
        for name in ("threshold", "left", "right", "value"):
            if (length := len(getattr(self, name))) != nodes:
                raise ValueError(f"{name} has {length} entries for {nodes} nodes")
        for node, feature in enumerate(self.feature):
            for child in () if feature == -1 else (self.left[node], self.right[node]):
                if not node < child < nodes:
                    raise ValueError(f"node {node} has the child {child!r}: give one from {node + 1} to {nodes - 1}")
        return self


class TreesModel(_Exact):
    kind: Literal["trees"]
    fill: list[FiniteFloat | None]
    base: FiniteFloat
    trees: Annotated[list[Tree], Field(max_length=MAX_TREES)]


class NoCalibration(_Exact):
    kind: Literal["none"]


class PlattCalibration(_Exact):
    """A slope that is not positive would turn the order round."""

    kind: Literal["platt"]
    slope: Positive
    offset: FiniteFloat


class IsotonicCalibration(_Exact):
    kind: Literal["isotonic"]
    x: Annotated[list[FiniteFloat], Field(min_length=2)]
    y: list[Share]

    @model_validator(mode="after")
    def _strictly_increases(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} entries and y {len(self.y)}")
        for name in ("x", "y"):
            if any(a >= b for a, b in pairwise(getattr(self, name))):
                raise ValueError(f"{name} must increase from each entry to the next, else scores tie or turn round")
        return self


class ConfidenceArtefact(BaseModel):
    """What loading relies on. Further keys (figures, dates) are kept and not compared."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: Literal["confidence"]
    format: Literal[1]
    pipeline: StrictStr
    step: StrictStr
    role: Literal["draft", "gate"]
    features: Annotated[list[StrictStr], Field(min_length=1)]
    model: Annotated[SignalModel | LogisticModel | TreesModel, Field(discriminator="kind")]
    calibration: Annotated[NoCalibration | PlattCalibration | IsotonicCalibration, Field(discriminator="kind")]
    fitted_on: Mapping[str, Any]
    measured: Mapping[str, Any]
    fingerprint: dict[str, StrictStr]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_names(self.features, self.role)
        width = len(self.features)
        match self.model:
            case SignalModel():
                if width != 1:
                    raise ValueError(f"a model of kind 'signal' passes one feature through, not {width}")
                if self.calibration.kind != "none":
                    raise ValueError(f"a raw signal has no log-odds for calibration {self.calibration.kind!r}")
            case LogisticModel() as model:
                for name in ("fill", "means", "scales", "weights"):
                    _check_width(f"model.{name}", len(getattr(model, name)), width)
                if model.log_odds is not None:
                    _check_width("model.log_odds", len(model.log_odds), width)
                if wrong := [name for name in model.offsets or () if not name.startswith(ANSWER_PREFIX)]:
                    raise ValueError(f"model.offsets has the key {wrong[0]!r}: write '{ANSWER_PREFIX}FIELD'")
                if model.offsets and self.role == "gate":
                    raise ValueError("a gate stands before the draft: there is no answer yet for model.offsets")
            case TreesModel() as model:
                _check_width("model.fill", len(model.fill), width)
                highest = max((max(tree.feature) for tree in model.trees), default=-1)
                if highest >= width:
                    raise ValueError(f"a tree asks for feature {highest}, and there are {width} (from 0)")
        return self


def read_confidence(path: Path) -> Mapping[str, Any]:
    """The artefact as written, checked. Raises ConfigError where it is none, or could not be applied."""
    document = Document(path, read_json(path))
    validated(ConfidenceArtefact, document)
    return dict(document.data)


def _check_width(name: str, length: int, width: int) -> None:
    if length != width:
        raise ValueError(f"{name} has {length} entries for {width} features")


def _check_names(features: list[str], role: str) -> None:
    if len(set(features)) < len(features):
        twice = next(name for name in features if features.count(name) > 1)
        raise ValueError(f"the feature {twice!r} stands twice")
    for name in features:
        if name.startswith("tag.") and "=" not in name:
            raise ValueError(f"the feature {name!r} names a tag without its value: write 'tag.KEY=VALUE'")
        if role == "gate" and not name.startswith(("task_", "tag.")):
            raise ValueError(f"a gate stands before the draft: it can't read {name!r}, only task_* and tag.KEY=VALUE")
