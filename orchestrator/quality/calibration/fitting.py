"""Split the records, fit a confidence or a gate on one part, leave the other to certify on. Never the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cascade.confidence import FittedConfidence
from orchestrator.config.feature_names import ANSWER_PREFIX
from orchestrator.config.fingerprint import draft_fingerprint, step_fingerprint
from orchestrator.errors import InputError
from orchestrator.quality.calibration.certificate_file import write_json, write_text
from orchestrator.quality.calibration.evidence import (
    Asked,
    Known,
    Place,
    Reference,
    in_order,
    place_of,
)
from orchestrator.quality.calibration.tried import digests, packed, unpacked
from orchestrator.records import Features, Json

if TYPE_CHECKING:
    from orchestrator.quality.fitted.confidence import FittedArtefact

RAW = ("lp_mean", "span_mean", "agreement")
"""The raw signals that a fit is compared with, and what is kept where there is too little to fit on."""

LEAST_TRUSTED_SHOWN = 5
LEAST_SHOWN = -0.25
"""Log-odds nearer to 0 than this are as good as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """An artefact, what the screen says of it, and the records that it never saw. `picture` is its reliability diagram
    as SVG, empty for a raw signal, which is no probability."""

    artefact: Mapping[str, Any]
    path: Path
    words: str
    certify_on: tuple[Known, ...]
    picture: str = ""

    @property
    def diagram(self) -> Path | None:
        """Where the picture goes: beside the artefact."""
        return self.path.with_suffix(".svg") if self.picture else None

    def write(self) -> None:
        """Raises InputError where a file can't be written."""
        write_json(self.path, self.artefact, "fitted confidence")
        if self.diagram is not None:
            write_text(self.diagram, self.picture, "diagram")
        else:
            self.path.with_suffix(".svg").unlink(missing_ok=True)  # the picture of another fit

    def score(self, features: Features, meta: Mapping[str, Json]) -> float | None:
        return FittedConfidence(self.artefact).of(features, meta)


def split(known: Sequence[Known], asked: Asked) -> tuple[list[Known], list[Known]]:
    """(to fit on, to certify on): by a digest of each record's id, so that a record stays in its part for good."""
    to_fit = [one for one in known if place_of(f"fit {one.id}", asked.seed) < asked.fit_share]
    chosen = {one.id for one in to_fit}
    return to_fit, [one for one in known if one.id not in chosen]


def fit(place: Place, known: Sequence[Known], reference: Reference, path: Path) -> Fit:
    """Fit on a share of the records. With a share of 0 the artefact in place is kept, to be certified on the records
    that it was not fitted on. Nothing is written yet."""
    if place.asked.fit_share == 0.0:
        return _kept(place, known, path)
    to_fit, rest = split(known, place.asked)
    found = fitted_on(place, to_fit)
    body = {
        **found.body(), "pipeline": place.loaded.config.pipeline, "step": place.step.config.id,
        "created": place.now().isoformat(timespec="seconds"),
        "fitted_on": {
            **found.fitted_on, "reference": reference, "from": _day(to_fit, min), "to": _day(to_fit, max),
            "records": packed(digests(to_fit)),
        },
        "fingerprint": draft_fingerprint(step_fingerprint(place.loaded, place.step)),
    }
    return Fit(
        artefact=body, path=path, words="\n".join((found.words, *_answers_trusted_least(found, place))),
        certify_on=tuple(rest), picture=_picture(found, place),
    )


def _answers_trusted_least(found: FittedArtefact, place: Place) -> Iterator[str]:
    """By answer from a closed list: those that lower the confidence most, in log-odds."""
    for answer in place.step.answers:
        offsets = (found.model.get("offsets") or {}).get(answer.name, {})
        values = {place: value for (_, value), place in answer.places.items()}
        lowest = sorted((offset, int(at)) for at, offset in offsets.items() if offset < LEAST_SHOWN)
        if lowest:
            shown = ", ".join(f"{values[at]!r} {offset:+.2f}" for offset, at in lowest[:LEAST_TRUSTED_SHOWN])
            yield f"trusted least of {answer.name.removeprefix(ANSWER_PREFIX)} (log-odds): {shown}"


def fitted_on(place: Place, to_fit: Sequence[Known]) -> FittedArtefact:
    """A confidence (or, where that is asked for, a gate) fitted on these records. Nothing is written."""
    from orchestrator.quality.fitted.confidence import fit_confidence, fit_gate

    to_fit = in_order(to_fit)
    features = [one.features for one in to_fit]
    right = [one.draft_ok for one in to_fit]
    tags = [
        {name: str(one.meta[name]) for name in place.loaded.config.tags if name in one.meta} for one in to_fit
    ]
    unequal = len({one.propensity for one in to_fit}) > 1
    weights = [1.0 / one.propensity for one in to_fit] if unequal else None
    if not to_fit:
        raise InputError("no records to fit a confidence on", hint="bring more, or raise --fit-share")
    if place.asked.gate:
        return fit_gate(features, right, tags=tags, weights=weights, seed=place.asked.seed)
    raw = next((name for name in RAW if any(row.get(name) is not None for row in features)), RAW[0])
    return fit_confidence(features, right, tags=tags, raw=raw, weights=weights, seed=place.asked.seed)


def _kept(place: Place, known: Sequence[Known], path: Path) -> Fit:
    artefact = (place.step.gate if place.asked.gate else place.step.confidence).fitted
    if artefact is None:
        raise InputError(f"there is no fitted confidence at {str(path)!r} to keep", hint="leave --fit-share 0 out")
    records = artefact["fitted_on"].get("records")
    if records is None:
        raise InputError(f"{str(path)!r} does not say which records it was fitted on", hint="leave --fit-share 0 out")
    seen = unpacked(records)
    rest = tuple(one for one in known if not digests([one]) & seen)
    words = f"{path} is kept; {len(known) - len(rest)} records that it was fitted on are left out"
    return Fit(artefact=artefact, path=path, words=words, certify_on=rest)


def _picture(found: FittedArtefact, place: Place) -> str:
    from orchestrator.quality.fitted.reliability import diagram

    bins = found.measured.get("reliability")
    return diagram(bins, title=f"{place.loaded.config.pipeline}, {place.step.config.id}") if bins else ""


def _day(known: Sequence[Known], pick: Any) -> str | None:
    from datetime import UTC

    times = [one.at for one in known if one.at is not None]
    return datetime.fromtimestamp(pick(times), UTC).isoformat(timespec="seconds") if times else None
