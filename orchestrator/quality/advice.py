"""The recommendation that ends a calibration, the figures behind it, and the guarantee in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.intervals import binomial_sf
from orchestrator.quality.records import Loss, Recommendation, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    recommendation: Recommendation
    reasons: tuple[str, ...]
    cost_ratio: float | None


def mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def advise(
    records: Sequence[Record], loss: Loss, threshold: float | None, tolerance: float, delta: float
) -> Advice:
    """cascade at the threshold, always_validate where none holds or none pays, always_draft where no check is needed.

    `cost_ratio` is that of the cascade over always validating (of drafting and validating everything, without a
    threshold). The cost falls as the threshold falls: where the lowest one certified does not pay, no other does.
    """
    accepted = sum(_accepts(r, threshold) for r in records)
    ratio = _cost_ratio(records, threshold)
    better = _drafter_is_better(records, delta)
    asked = any(r.validator_ok is not None for r in records)
    why_unknown = "not every draft and validation was priced" if asked else "the validator was not asked"
    unknown = f"has an unknown cost ({why_unknown})"
    cost = unknown if ratio is None else f"costs {ratio:.3g} x always validating"
    figures = f"accepts {accepted} of {len(records)} drafts and {cost}"
    if threshold is None:
        why = _why_none(records, tolerance, delta)
        return Advice(recommendation="always_validate", reasons=(why, *better), cost_ratio=ratio)
    if ratio is not None and ratio >= 1.0:
        why = f"no threshold pays: the lowest certified one {figures}"
        return Advice(recommendation="always_validate", reasons=(why,), cost_ratio=ratio)
    if accepted == len(records):
        why = f"the {loss.replace('_', ' ')} stays within {tolerance:g} with every draft accepted"
        return Advice(recommendation="always_draft", reasons=(why, f"it {cost}"), cost_ratio=ratio)
    if better:
        return Advice(recommendation="always_draft", reasons=(*better, f"the threshold {figures}"), cost_ratio=ratio)
    return Advice(recommendation="cascade", reasons=(f"the threshold {figures}",), cost_ratio=ratio)


def guarantee_in_words(
    threshold: float | None, loss: Loss, tolerance: float, confidence: float, n: int, reference: str
) -> str:
    if threshold is None:
        return "none: no threshold is certified, every draft escalates"
    what = {
        "regret": f"at most {tolerance:.4g} of all tasks get a draft accepted where the validator does better",
        "selective_error": f"at most {tolerance:.4g} of the accepted drafts are wrong",
    }[loss]
    return (
        f"{what}, with probability {confidence:.4g} over the draw of {n} calibration records; "
        f"holds for tasks drawn as those were; reference: {reference}"
    )


def _why_none(records: Sequence[Record], tolerance: float, delta: float) -> str:
    needed = math.ceil(math.log(delta) / math.log1p(-tolerance))
    if len(records) < needed:
        return f"no threshold can be certified on {len(records)} records: even without a loss it takes {needed}"
    if all(r.level is None for r in records):
        return "no record has a score: the confidence signal could not be measured"
    return "no threshold can be certified: losses stand among the surest drafts, so that the confidence does not tell"


def _drafter_is_better(records: Sequence[Record], delta: float) -> tuple[str, ...]:
    """A sign test on the tasks where the two differ (McNemar, exact), where the validator was measured throughout."""
    if any(r.validator_ok is None for r in records):
        return ()
    wins = sum(float(r.draft_ok) > r.validator_grade for r in records)
    differ = sum(float(r.draft_ok) != r.validator_grade for r in records)
    if differ == 0 or binomial_sf(wins, differ, 0.5) > delta:
        return ()
    return (f"the drafter is as good: better than the validator on {wins} of the {differ} tasks where they differ",)


def _accepts(record: Record, threshold: float | None) -> bool:
    return threshold is not None and record.level is not None and record.level >= threshold


def _cost_ratio(records: Sequence[Record], threshold: float | None) -> float | None:
    """Every draft and the escalated validations, over every validation; None where any cost is unknown."""
    drafts = [r.draft_cost for r in records]
    validations = [r.validator_cost for r in records]
    if None in drafts or None in validations:
        return None
    always = math.fsum(float(c) for c in validations if c is not None)
    escalated = (r.validator_cost for r in records if not _accepts(r, threshold))
    spent = math.fsum(float(c) for c in (*drafts, *escalated) if c is not None)
    return spent / always if always else None
