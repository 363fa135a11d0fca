"""A gate beside a cascade beside always validating: what each costs on the same records, at the same guarantee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.quality.calibration.evidence import Known, Place, as_records
from orchestrator.quality.calibration.fitting import Fit
from orchestrator.quality.records import Certificate, Record
from orchestrator.records import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of doing the tasks. `validated` is the share that the validator does; `cost` that of a thousand tasks
    (None: not every cost is known); `certified`: does a certified threshold stand behind it."""

    name: str
    validated: float
    cost: Money | None
    certified: bool


def ways(place: Place, known: Sequence[Known], fitted: Fit, certificate: Certificate) -> tuple[Way, ...]:
    """The gate alone drafts what it lets through and sends the rest to the validator without a draft; the cascade
    drafts everything. Its threshold is certified here for the comparison, and written nowhere."""
    gate = as_records(known, [fitted.score(one.features, one.meta) for one in known])
    cascade = as_records(known, [_confidence(place, one) for one in known])
    asked = place.asked
    from orchestrator.quality.certification.thresholds import certify

    other = certify(
        cascade, max_regret=asked.max_regret, confidence=asked.confidence, loss=asked.loss, seed=asked.seed
    )
    currency = next((one.validator_cost.currency for one in known if one.validator_cost is not None), "USD")
    return (
        _way("gate alone", gate, certificate.threshold, currency, drafts_first=False),
        _way("cascade", cascade, other.threshold, currency, drafts_first=True),
        _way("always validate", gate, None, currency, drafts_first=False),
    )


def _confidence(place: Place, one: Known) -> float | None:
    """The step's confidence, where it has one at hand."""
    from orchestrator.cascade.confidence import FittedConfidence

    artefact = place.step.confidence.fitted
    return FittedConfidence(artefact).of(one.features, one.meta) if artefact is not None else one.score


def _way(
    name: str, records: Sequence[Record], threshold: float | None, currency: str, *, drafts_first: bool
) -> Way:
    accepted = [threshold is not None and r.level is not None and r.level >= threshold for r in records]
    spent: list[int | None] = []
    for record, taken in zip(records, accepted, strict=True):
        if taken or drafts_first:
            spent.append(None if record.draft_cost is None else int(record.draft_cost))
        if not taken:
            spent.append(None if record.validator_cost is None else int(record.validator_cost))
    known = [one for one in spent if one is not None]
    cost = None
    if len(known) == len(spent):
        cost = Money(nano=round(sum(known) * 1000 / len(records)), currency=currency)
    return Way(
        name=name, validated=1.0 - sum(accepted) / len(records), cost=cost,
        certified=threshold is not None or name == "always validate",
    )
