"""`orchestrator calibrate`: from records whose truth is known to a certificate that the pipeline then goes by.

source -> records -> (fit a confidence on some) -> certify on the others -> files, or the reason why there are none
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.config.fingerprint import gate_fingerprint, step_fingerprint
from orchestrator.errors import InputError
from orchestrator.quality.calibration.certificate_file import certificate_body, keep_previous, write_json
from orchestrator.quality.calibration.drafting import marks_of
from orchestrator.quality.calibration.elsewhere import Elsewhere, whole_cost
from orchestrator.quality.calibration.escalation_price import escalation_price, left_out
from orchestrator.quality.calibration.evidence import (
    Asked,
    Bars,
    Evidence,
    Known,
    Place,
    Source,
    Unlabelled,
    as_records,
    in_order,
    no_bars,
    place_of,
)
from orchestrator.quality.calibration.fitting import Fit, fit
from orchestrator.quality.calibration.guarantees import require
from orchestrator.quality.calibration.labels import from_labels, label_tasks
from orchestrator.quality.calibration.priced import STANDS_IN, with_escalations_priced
from orchestrator.quality.calibration.revoked import changes_of, is_revoked, not_revoked
from orchestrator.quality.calibration.target import Target, target_of
from orchestrator.quality.calibration.tried import this_try, tried_on
from orchestrator.quality.calibration.ways import Way, ways
from orchestrator.quality.records import Certificate, Loss
from orchestrator.records import Task

if TYPE_CHECKING:
    from orchestrator.config.loader import LoadedPipeline
    from orchestrator.models.client import ModelClient
    from orchestrator.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A certificate and where it was written. `came` of the `labelled` tasks came to the rule that compares the
    confidence (None: `reached` did), and of `reached` of those the truth is known or stands in for; the others were
    decided before it, and the certificate does not speak of them. `notes` are for the screen; `fitted` is the fitted
    confidence's file, and `diagram` its picture. `ways` compares a gate with others. `escalations` is what their
    price leaves out. `elsewhere` counts the tasks that other rules decide, and `whole_cost` is the step's over
    always validating with them in it (None: a cost is unknown, or there are none). `kept` are copies of the
    certificate before, and of its fitted confidence, where that one had a threshold; `revoked`: spot checks had revoked
    it. Where this has none, `unsure` is what becomes of every draft."""

    certificate: Certificate
    path: Path
    signal: str
    labelled: int
    reached: int
    source: str = ""
    notes: tuple[str, ...] = ()
    fitted: Path | None = None
    diagram: Path | None = None
    fit_words: str = ""
    ways: tuple[Way, ...] = ()
    escalations: str = ""
    came: int | None = None
    elsewhere: Elsewhere = field(default_factory=dict)
    whole_cost: float | None = None
    kept: tuple[Path, ...] = ()
    revoked: bool = False
    unsure: Literal["escalate", "hand_off"] = "escalate"

    @property
    def words(self) -> str:
        """What `calibrate` prints: figures first, the recommendation last."""
        from orchestrator.quality.calibration.calibration_words import words

        return words(self)


async def calibrate(
    pipeline: str | Path | LoadedPipeline, source: Source | Iterable[Task], *, max_regret: float,
    confidence: float = 0.90, store: str | Store, loss: Loss = "regret", validate: bool = False, gate: bool = False,
    step: str | None = None, attempt: int | None = None, fit_share: float = 0.4, traffic: bool = True, seed: int = 0,
    concurrency: int = 64,
    clients: Mapping[str, ModelClient] | None = None, now: Callable[[], datetime] = lambda: datetime.now(UTC),
    bars: Bars = no_bars,
) -> Calibration:
    """Certify the threshold of a step (by default the last) on the records of `source`, and write its certificate.

    `source` is one of `from_labels`, `from_ledger`, `by_spending`, or labelled tasks themselves. `validate` also has
    the validator answer labelled tasks alone; otherwise it counts as right. With `gate` it is the step's gate that is
    fitted and certified. Where a confidence is fitted, `fit_share` of the records is set apart for that. `traffic`:
    recorded drafts of the same step, labelled or not, sharpen the test by the spread of their scores.

    Drafts and validations are kept in `store`: an interrupted calibration goes on where it stopped. Raises InputError
    where the records can't be used or are too few, ConfigError where the pipeline names no file to write.
    """
    from orchestrator.config.loader import load_pipeline

    loaded = load_pipeline(pipeline) if isinstance(pipeline, str | Path) else pipeline
    asked = Asked(
        max_regret=max_regret, confidence=confidence, loss=loss, step=step, gate=gate, attempt=attempt,
        fit_share=fit_share, traffic=traffic, seed=seed,
    )
    target = target_of(loaded, asked)
    found = source if callable(source) else _of_tasks(list(source), validate)
    async with opened(store) as at:
        changes = await asyncio.to_thread(changes_of, at, loaded.config.pipeline, target.step.config.id)
        place = Place(
            loaded=loaded, step=target.step, store=at, asked=asked, clients=clients, concurrency=concurrency, now=now,
            bars=bars, changes=changes, marks=marks_of(loaded, target.step, asked, changes),
        )
        evidence = await found(place)
    return _certified(place, target, replace(evidence, known=in_order(evidence.known)))


def _of_tasks(tasks: Sequence[Task], validate: bool) -> Source:
    return from_labels(lambda: label_tasks(tasks), validate=validate)


@contextlib.asynccontextmanager
async def opened(store: str | Store) -> AsyncIterator[Store]:
    """A store as it is, or the one at a URL, closed again."""
    if not isinstance(store, str):
        yield store
        return
    from orchestrator.store.engine import Store as Opened

    at = await Opened.open(store)
    try:
        yield at
    finally:
        await at.aclose()


# -- the certificate ---------------------------------------------------------------------------------------------------


def _certified(place: Place, target: Target, evidence: Evidence) -> Calibration:
    asked, known = place.asked, evidence.known
    if not known:
        raise _none_reached(place, evidence)
    fitted = fit(place, known, evidence.reference, target.artefact) if target.artefact is not None else None
    certify_on = fitted.certify_on if fitted is not None else known
    fingerprint = _fingerprint(place, fitted)
    scored = [replace(one, score=_score(one, fitted)) for one in certify_on]
    this = this_try(asked, scored, target.before, fingerprint, place.changed)
    share = 1.0 if fitted is None else 1.0 - asked.fit_share
    require(len(certify_on), _what(fitted), asked, this.attempt, share, evidence.fewer)
    certificate, said = _certify(place, certify_on, fitted, evidence, this.attempt)
    escalated = _escalated(certify_on, fitted, certificate)
    price = escalation_price(place, certify_on, escalated, evidence.escalations)
    unpriced = STANDS_IN if evidence.escalations is None else left_out(place.step)
    certificate = with_escalations_priced(certificate, certify_on, price, unpriced)
    body = certificate_body(
        certificate, place.loaded, place.step.config.id, signal=target.signal, reference=evidence.reference,
        created=place.now(), fingerprint=fingerprint, tried_on=tried_on(this, asked, scored, place.changed),
        source=evidence.source,
    )
    not_revoked(body, place.changes)
    kept = _kept_before(place, target, fitted)
    if fitted is not None:  # the artefact first: until its certificate follows, nothing is accepted by it
        fitted.write()
    write_json(target.certificate, body, "certificate")
    return Calibration(
        certificate=certificate, path=target.certificate, signal=target.signal, labelled=evidence.tasks,
        reached=len(known), source=evidence.source, notes=(*evidence.notes, *said, *filter(None, [this.note])),
        fitted=fitted.path if fitted else None, diagram=fitted.diagram if fitted else None,
        fit_words=fitted.words if fitted else "",
        ways=ways(place, certify_on, fitted, certificate) if asked.gate and fitted is not None else (),
        escalations=left_out(place.step), came=evidence.came, elsewhere=evidence.elsewhere,
        whole_cost=whole_cost(
            certificate, certify_on, len(known) if evidence.came is None else evidence.came, evidence.elsewhere
        ),
        kept=kept, revoked=is_revoked(target.before, place.changes), unsure=place.loaded.config.certificate_lapsed,
    )


def _kept_before(place: Place, target: Target, fitted: Fit | None) -> tuple[Path, ...]:
    """Copies of the certificate in place, if it has a threshold, and of the fitted confidence it was made for: the new
    one may be the worse."""
    before = target.before
    if before is None or before["threshold"] is None:
        return ()
    certificate = keep_previous(target.certificate, "certificate")
    now = (gate_fingerprint if place.asked.gate else step_fingerprint)(place.loaded, place.step)
    if target.artefact is None or fitted is None or not target.artefact.is_file():
        return (certificate,)
    if before["fingerprint"].get("confidence_source") != now["confidence_source"]:
        return (certificate,)  # another fit stands there: a copy that was kept of the right one stays
    return certificate, keep_previous(target.artefact, "fitted confidence")


def _certify(
    place: Place, known: Sequence[Known], fitted: Fit | None, evidence: Evidence, attempt: int
) -> tuple[Certificate, tuple[str, ...]]:
    """The certificate, and what is to be said of how it came about."""
    from orchestrator.quality.certification.thresholds import certify

    asked = place.asked
    certified = partial(
        certify, as_records(known, [_score(one, fitted) for one in known]), max_regret=asked.max_regret,
        confidence=asked.confidence, loss=asked.loss, seed=asked.seed, reference=evidence.reference, attempt=attempt,
        drafts_first=not asked.gate,
    )
    traffic = _traffic(place, fitted, evidence)
    said: tuple[str, ...] = ()
    try:
        certificate = certified(traffic=traffic or None)
    except (ValueError, ImportError) as error:
        certificate = certified()
        said = (f"recorded drafts without a label are left aside: {error}",)
    return certificate, (*said, *_thinned(known, certificate))


def _thinned(known: Sequence[Known], certificate: Certificate) -> tuple[str, ...]:
    """More data can leave less: beside spot checks that are drawn rarely, most labelled records are thinned away."""
    if len({one.propensity for one in known}) < 2:
        return ()
    return (
        f"{certificate.n:,} of {certificate.given:,} records are tested: those whose truth was likelier to be seen are "
        "thinned to the chance of the others",
    )


def _traffic(place: Place, fitted: Fit | None, evidence: Evidence) -> list[float]:
    """Scores of the other tasks of the stream. Where some records were set apart to fit on, the same share of these
    is: what is left is the whole stream of the records that are certified on."""
    apart = place.asked.fit_share if fitted is not None else 0.0
    kept = [one for one in evidence.traffic if place_of(f"fit {one.id}", place.asked.seed) >= apart]
    scores = [_score(one, fitted) for one in kept]
    return [math.nan if score is None else score for score in scores]


def _escalated(known: Sequence[Known], fitted: Fit | None, certificate: Certificate) -> list[Known]:
    """Those that the certified threshold sends on; all of them where there is none."""
    threshold = math.inf if certificate.threshold is None else certificate.threshold
    return [one for one in known if (score := _score(one, fitted)) is None or not score >= threshold]


def _score(one: Known | Unlabelled, fitted: Fit | None) -> float | None:
    return one.score if fitted is None else fitted.score(one.features, one.meta)


def _fingerprint(place: Place, fitted: Fit | None) -> Mapping[str, str]:
    """What the certificate is made for, the fitted confidence that was just written included."""
    step = place.step
    if fitted is None:
        return step_fingerprint(place.loaded, step)
    if place.asked.gate:
        return gate_fingerprint(place.loaded, replace(step, gate=replace(step.gate, fitted=fitted.artefact)))
    return step_fingerprint(place.loaded, replace(step, confidence=replace(step.confidence, fitted=fitted.artefact)))


def _what(fitted: Fit | None) -> str:
    return "records" if fitted is None else "records (the others were set apart to fit the confidence on)"


def _none_reached(place: Place, evidence: Evidence) -> InputError:
    step = place.step
    why = "they were all decided by rules before it"
    if step.gate.problem is not None:
        why = f"the gate stops them: {step.gate.problem}"
    return InputError(
        f"none of the {evidence.tasks} tasks came to a rule of step {step.config.id!r} that compares the confidence: "
        f"{why}", hint="calibrate the gate first (--gate)" if step.gate.problem else "look at the policy's rules",
    )
