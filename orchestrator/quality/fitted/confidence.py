"""Fit a confidence: from the features of labelled drafts to P(right), measured on records the fit never saw.

    table -> outer folds: the whole fit on the others, applied to the one held out -> figures
          -> the same fit on all records -> artefact; or the raw signal, where a fit is no better or labels are few

The whole fit, whose choices are made on inner folds, is `cross_fit.fit_whole`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.errors import ConfigError, InputError
from orchestrator.intervals import normal_quantile
from orchestrator.quality.fitted.feature_table import FeatureTable, feature_table
from orchestrator.quality.fitted.reliability import auroc, brier, calibration, log_losses, mean
from orchestrator.records import Features

Role = Literal["draft", "gate"]

LEAST_LABELS = 50
LEAST_OF_EACH = 10
MANY_LABELS = 1000
"""From here on gradient boosting is tried, and the calibration is isotonic (Niculescu-Mizil and Caruana 2005)."""
FEW_LABELS = 300
"""Below, ten folds in place of five: each fit then sees nine tenths of the little there is."""


@dataclass(frozen=True, kw_only=True)
class FittedArtefact:
    """A fitted confidence (role "draft") or gate. `held_out[i]` is what was predicted for record i by a fit that never
    saw it (empty for the raw signal); `notes` are what the screen says beyond the figures."""

    role: Role
    features: tuple[str, ...]
    model: Mapping[str, Any]
    calibration: Mapping[str, Any]
    fitted_on: Mapping[str, Any]
    measured: Mapping[str, Any]
    notes: tuple[str, ...]
    held_out: tuple[float, ...] = field(default=(), repr=False)

    @property
    def is_raw(self) -> bool:
        return bool(self.model["kind"] == "signal")

    def body(self) -> dict[str, Any]:
        """The artefact as JSON, without pipeline, step, created and fingerprint, which the caller knows."""
        return {
            "kind": "confidence", "format": 1, "role": self.role, "features": list(self.features),
            "model": dict(self.model), "calibration": dict(self.calibration), "fitted_on": dict(self.fitted_on),
            "measured": dict(self.measured),
        }

    def probability(self, features: Features, meta: Mapping[str, Any]) -> float | None:
        """As the running pipeline computes it; the raw signal where `is_raw`."""
        return FittedConfidence(self.body()).of(features, meta)

    @property
    def words(self) -> str:
        """For the screen: what was fitted, how good it is on records it never saw, what was left out."""
        n, right = self.fitted_on["n"], self.fitted_on["right"]
        m = self.measured
        what = {
            "signal": f"the raw signal {self.features[0]}",
            "logistic": f"logistic regression on {len(self.features)} features",
            "trees": f"gradient boosting on {len(self.features)} features",
        }[self.model["kind"]]
        scaled = {"none": "", "platt": ", Platt scaling", "isotonic": ", centred isotonic calibration"}
        lines = [f"{self.role} confidence from {n} labels ({right:g} right): {what}{scaled[self.calibration['kind']]}"]
        if self.is_raw:
            lines.append(f"AUROC {_shown(m['auroc'])}; not a probability, so it has no calibration error")
        else:
            raw = m["raw"]
            beside = f" ({raw['feature']} alone: {_shown(raw['auroc'])})" if raw else ""
            lines.append(
                f"held out ({m['folds']} folds): AUROC {_shown(m['auroc'])}{beside}, Brier {m['brier']:.3f}, "
                f"calibration error {m['calibration_error']:.3f} ({m['calibration_error_by_chance']:.3f} by chance)"
            )
        return "\n".join((*lines, *self.notes))


def fit_confidence(
    features: Sequence[Features],
    right: Sequence[bool | float],
    *,
    tags: Sequence[Mapping[str, str]] | None = None,
    names: Sequence[str] | None = None,
    raw: str = "lp_mean",
    weights: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> FittedArtefact:
    """The confidence of drafts from their `features` (None: not measured) and whether each was `right` (a grade counts
    in part). Certify a threshold on other records than these.

    `names` restricts the features; `raw` is the feature it must beat, and what is kept where it does not, or where
    there are fewer than 50 labels or 10 of either kind. `weights`: one over the propensity of each label. Records of
    one group (the same task drafted twice) are never split between fitting and measuring.
    Raises InputError for labels or features that can't be used, ConfigError where scikit-learn is not installed.
    """
    table = feature_table(
        features, right, tags=tags, names=names, weights=weights, groups=groups, before_draft=False
    )
    signal = _signal(features, raw)
    if why := _too_few(table):
        return _raw(table, raw, signal, why)
    fitted = _fit_and_measure(table, "draft", seed, raw=raw, signal=signal)
    better_than = fitted.measured["raw"]["auroc"] if signal else _by_chance(table)
    if fitted.measured["auroc"] <= better_than:
        auroc_of_both = f"AUROC {fitted.measured['auroc']:.3f} against {better_than:.3f}"
        return _raw(table, raw, signal, f"a fit on {len(table.names)} features orders no better ({auroc_of_both})")
    return fitted


def fit_gate(
    features: Sequence[Features],
    right: Sequence[bool | float],
    *,
    tags: Sequence[Mapping[str, str]] | None = None,
    names: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> FittedArtefact:
    """P(the draft will be right) from what is known before it: `task_*` features and tags; else as `fit_confidence`.

    Raises InputError too where there are too few labels for a fit, or where the task does not tell: a gate has no raw
    signal to fall back on.
    """
    table = feature_table(features, right, tags=tags, names=names, weights=weights, groups=groups, before_draft=True)
    if why := _too_few(table):
        raise InputError(f"no gate: {why}", hint="a gate has no raw signal to fall back on: label more tasks")
    fitted = _fit_and_measure(table, "gate", seed)
    if fitted.measured["auroc"] <= _by_chance(table):
        raise InputError(
            "no gate: the task alone does not tell which drafts will be right (held-out AUROC "
            f"{fitted.measured['auroc']:.3f} on {table.n} labels; chance alone reaches {_by_chance(table):.3f})",
            hint="name tags that tell kinds of task apart, under `tags:` in the pipeline",
        )
    return fitted


def _too_few(table: FeatureTable) -> str | None:
    weighted = "" if table.weights is None else f", which tell as much as {table.effective:.0f} of equal weight"
    if table.effective < LEAST_LABELS:
        return f"a fit takes {LEAST_LABELS} labels and there are {table.n}{weighted}"
    if table.fewer < LEAST_OF_EACH:
        right = math.fsum(table.right)
        return f"a fit takes {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong drafts; {right:g} of {table.n} are right"
    return None if table.names else "no feature varies between the records"


def _by_chance(table: FeatureTable) -> float:
    """What the AUROC of numbers that tell nothing stays below with probability 0.95 (Mann and Whitney 1947)."""
    right = math.fsum(table.right) / table.n * table.effective
    wrong = table.effective - right
    return 0.5 + normal_quantile(0.95) * math.sqrt((right + wrong + 1.0) / (12.0 * right * wrong))


def _signal(features: Sequence[Features], raw: str) -> list[float] | None:
    """The raw signal of each record, -inf where it was not measured; None where it never was."""
    values = [row.get(raw) for row in features]
    found = [-math.inf if value is None or math.isnan(value) else float(value) for value in values]
    return found if max(found) > -math.inf else None


def _raw(table: FeatureTable, raw: str, signal: list[float] | None, why: str) -> FittedArtefact:
    if signal is None:
        raise InputError(
            f"{why}; and no record has the raw signal {raw!r} to fall back on",
            hint="label more drafts, or name a feature that was measured as `raw`",
        )
    order = auroc(signal, table.right, table.weights)
    return FittedArtefact(
        role="draft", features=(raw,), model={"kind": "signal"}, calibration={"kind": "none"},
        fitted_on=_fitted_on(table), notes=(f"the raw signal is kept: {why}",),
        measured={
            "auroc": order, "brier": None, "calibration_error": None, "folds": 0,
            "raw": {"feature": raw, "auroc": order}, "reliability": [],
        },
    )


def _fit_and_measure(
    table: FeatureTable, role: Role, seed: int, *, raw: str | None = None, signal: Sequence[float] | None = None
) -> FittedArtefact:
    try:
        from orchestrator.quality.fitted.cross_fit import fit_whole
        from orchestrator.quality.fitted.fit_data import Data
        from orchestrator.quality.fitted.fitted_models import one_thread
    except ImportError as error:
        raise ConfigError(
            "fitting a confidence needs scikit-learn (applying one does not)", hint="pip install 'draftgate[quality]'"
        ) from error

    data = Data.of(table, raw)
    k = 5 if table.n >= FEW_LABELS else 10
    many = table.effective >= MANY_LABELS
    fold_of = data.folds(k, seed)
    held_out = [math.nan] * table.n
    with one_thread():
        for fold in range(k):
            fitted = FittedConfidence(fit_whole(data.part(fold_of != fold), seed, many=many, raw=raw)[0])
            for i in (fold_of == fold).nonzero()[0].tolist():
                probability = fitted.of(table.given[i], table.tags[i])
                held_out[i] = math.nan if probability is None else probability
        body, notes = fit_whole(data, seed, many=many, raw=raw)
    left_out = (f"left out: {', '.join(table.left_out)}",) if table.left_out else ()
    return FittedArtefact(
        role=role, features=tuple(body["features"]), model=body["model"], calibration=body["calibration"],
        fitted_on=_fitted_on(table), measured=_measured(table, held_out, fold_of.tolist(), raw, signal),
        notes=(*notes, *left_out), held_out=tuple(held_out),
    )


def _measured(
    table: FeatureTable, held_out: Sequence[float], folds: Sequence[int], raw: str | None,
    signal: Sequence[float] | None,
) -> dict[str, Any]:
    """Figures of held-out predictions; those of the raw signal on the same pairs of records."""
    right, weights = table.right, table.weights
    found = calibration(held_out, right, weights)
    return {
        "auroc": auroc(held_out, right, weights, folds), "brier": brier(held_out, right, weights),
        "log_loss": mean(log_losses(held_out, right), weights), "calibration_error": found.error,
        "calibration_error_by_chance": found.by_chance, "folds": len(set(folds)),
        "raw": {"feature": raw, "auroc": auroc(signal, right, weights, folds)} if signal else None,
        "reliability": [one.body() for one in found.bins],
    }


def _fitted_on(table: FeatureTable) -> dict[str, Any]:
    return {"n": table.n, "right": math.fsum(table.right)}


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
