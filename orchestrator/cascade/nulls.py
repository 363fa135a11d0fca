"""What a certificate in use is watched for, and what of it is granted to a validator that may be wrong itself.

A spot check takes the validator's word: it differs from a draft where accepting that was regretted, or where the
validator was wrong. How often that is the certificate's own records tell, and how surely. Reasoning: docs/drift.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from orchestrator.intervals import beta_cdf, beta_density
from orchestrator.quality.drift import EValues, Stretch, evidence

if TYPE_CHECKING:
    from orchestrator.cascade.runtime import Runtime, Step

CASES = 12
"""In how many steps the evidence of the records rises from nothing to all that an alarm takes."""
_MOST = 0.999


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How large a mean may be: what is promised, its `own`, and on top of it what is `granted` to the validator: its
    error as found, or (`supposed`) one of several that the records leave possible."""

    own: float
    granted: float = 0.0
    supposed: bool = False

    @property
    def most(self) -> float:
        return min(self.own + self.granted, _MOST)

    def __str__(self) -> str:
        if not self.granted:
            return f"{self.most:.3g}"
        granted = f"{'about' if self.supposed else 'the'} {self.granted:.3g}"
        return f"{self.most:.3g} ({self.own:.3g} and {granted} by which the validator itself is wrong)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nulls:
    """`regret` is the loss that the certificate's rule may have, `calibration` the error of a fitted confidence (None:
    not watched); `accepted_only` whether the loss is a share of the accepted drafts. `records` is the log e-value of
    the certificate's records against a validator that is wrong more often than in the case before this one."""

    regret: Tolerance
    calibration: Tolerance | None
    accepted_only: bool
    records: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """While the certificate holds one of `cases` does, or the validator is wrong more often than in the last of them,
    against which the log e-value of the records is `beyond`. All of that has to be refuted before there is an alarm, so
    that a false one comes with probability `false_alarm` at most."""

    cases: tuple[Nulls, ...]
    false_alarm: float
    beyond: float = math.inf

    @property
    def accepted_only(self) -> bool:
        """Whether the loss is a share of the accepted drafts."""
        return self.cases[0].accepted_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Evidence that suffices, and the case that it speaks the least against."""

    found: EValues
    nulls: Nulls


def promise_of(rt: Runtime, step: Step) -> Promise | None:
    """What the step's certificate and its fitted confidence promise; None without such a promise."""
    certificate, drift = step.loaded.confidence.certificate or {}, rt.config.drift
    if certificate.get("max_regret") is None:
        return None
    artefact = step.loaded.confidence.fitted
    fitted = artefact is not None and artefact["model"]["kind"] != "signal"
    return promised(
        certificate, calibration_error=drift.calibration_error if fitted else None,
        false_alarm=drift.false_alarm or 1.0 - float(certificate.get("confidence", 0.9)),
    )


def promised(certificate: Mapping[str, Any], *, calibration_error: float | None, false_alarm: float) -> Promise:
    """The same of a certificate as written. Nothing is granted where the validator is the reference or was not asked; a
    certificate that does not say how often it was wrong on accepted records grants all of its error, as found."""
    own, selective = float(certificate["max_regret"]), certificate.get("loss") == "selective"

    def case(tasks: float, accepted: float, records: float = 0.0, *, supposed: bool = False) -> Nulls:
        calibration = None if calibration_error is None else Tolerance(calibration_error, accepted, supposed)
        regret = Tolerance(own, accepted if selective else tasks, supposed)
        return Nulls(regret=regret, calibration=calibration, accepted_only=selective, records=records)

    asked, wrong = certificate.get("validator_asked"), certificate.get("validator_wrong")
    if certificate["reference"] == "validator":
        return Promise(cases=(case(0.0, 0.0),), false_alarm=false_alarm)
    if not asked or wrong is None:
        accuracy = certificate.get("validator_accuracy")
        unsure = 0.0 if accuracy is None or certificate["reference"] != "label" else 1.0 - float(accuracy)
        return Promise(cases=(case(unsure, unsure),), false_alarm=false_alarm)
    others = max(int(certificate["n"]) - int(certificate["regretted"]) - 1, wrong, 1)
    scale = int(certificate["accepted"]) / asked
    beyond = math.log((1.0 if calibration_error is None else 2.0) / false_alarm)  # the mean of two has to reach it
    rises = [i * beyond / CASES for i in range(CASES + 1)]
    cases = tuple(
        case(_refuted(wrong, others, rise) * scale, _refuted(wrong, asked, rise), before, supposed=True)
        for before, rise in pairwise(rises)
    )
    return Promise(cases=cases, false_alarm=false_alarm, beyond=beyond)


def broken(promise: Promise, stretches: Sequence[Stretch]) -> Broken | None:
    """Does the evidence of records and spot checks together refute every case of the promise? None: not yet.

    Where two things are watched each has its own e-value, the least over the cases, and their mean is what counts.
    """
    regret, calibration, watched = promise.beyond, promise.beyond, promise.cases[0].calibration is not None
    hardest, least, since = promise.cases[0], math.inf, 0
    for nulls in promise.cases:
        error = None if nulls.calibration is None else nulls.calibration.most
        found = evidence(stretches, max_regret=nulls.regret.most, calibration_error=error)
        if nulls.records + found.total < least:
            hardest, least, since = nulls, nulls.records + found.total, found.since
        regret = min(regret, nulls.records + found.regret)
        calibration = min(calibration, nulls.records + (found.calibration or 0.0))
        together = EValues(regret=regret, calibration=calibration if watched else None, since=since)
        if not together.trips(promise.false_alarm):
            return None
    return Broken(found=together, nulls=hardest)


@lru_cache(maxsize=256)
def _refuted(wrong: int, of: int, log_e: float) -> float:
    """The rate against which `wrong` of `of` records are evidence of this log e-value: found by bisection, above what
    they show. A rate of 1 where none is."""
    low, high = wrong / of, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        low, high = (low, middle) if _against(wrong, of, middle) >= log_e else (middle, high)
    return high


def _against(wrong: int, of: int, rate: float) -> float:
    """The log e-value of so many wrong ones against this rate, or any above it: the mean over all rates below it, each
    as likely as the others, of how much more likely that rate makes them."""
    a, b = wrong + 1.0, of - wrong + 1.0
    density = rate * beta_density(rate, a, b)
    return math.log(beta_cdf(rate, a, b)) - math.log(density) if density > 0.0 else math.inf
