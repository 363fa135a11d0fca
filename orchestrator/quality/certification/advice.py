"""The recommendation that ends a calibration, the figures behind it, and the guarantee in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.intervals import binomial_sf, relative_entropy
from orchestrator.quality.certification.sample import Sample
from orchestrator.quality.records import Cost, Loss, Recommendation


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    recommendation: Recommendation
    reasons: tuple[str, ...]
    cost_ratio: float | None


@dataclass(frozen=True, slots=True)
class Costs:
    """Over validating everything: `threshold` of the cascade or gate, `drafts` of drafting everything and nothing
    else. None: a cost is unknown, `why`, or validating is `free`."""

    threshold: float | None
    drafts: float | None
    why: str = ""
    free: bool = False

    @property
    def words(self) -> str:
        return f"has an unknown cost ({self.why})" if self.threshold is None else cost_words(self.threshold)


def advise(
    sample: Sample, threshold: float | None, accepted: int, tolerance: float, delta: float, *, drafts_first: bool = True
) -> Advice:
    """cascade at the threshold, always_validate where none holds or none pays, always_draft where no check is needed.

    `drafts_first` False: a gate, whose escalated tasks are not drafted. The cost falls as the threshold falls: where
    the lowest one certified does not pay, no other does.
    """
    costs = _costs(sample, accepted, drafts_first)
    better = _drafter_is_better(sample, delta) if costs.drafts is None or costs.drafts < 1.0 else None
    figures = f"accepts {accepted} of {sample.n} drafts and {costs.words}"

    def say(recommendation: Recommendation, *reasons: str | None) -> Advice:
        return Advice(
            recommendation=recommendation, reasons=tuple(filter(None, reasons)), cost_ratio=costs.threshold
        )

    if costs.free:
        return say("always_validate", "validating costs nothing: there is nothing to save")
    if threshold is None:
        why = _why_none(sample, tolerance, delta)
        return say("always_draft", better, why) if better else say("always_validate", why)
    if accepted == sample.n and (costs.threshold is None or costs.threshold < 1.0):
        held = f"the {_named(sample.loss)} stays within {tolerance:g} with every draft accepted"
        return say("always_draft", held, f"it {costs.words}", better, _by_the_guarantee(costs))
    if better:
        return say("always_draft", better, f"the threshold {figures}", _by_the_guarantee(costs))
    if costs.threshold is not None and costs.threshold >= 1.0:
        return say("always_validate", f"no threshold pays: the lowest certified one {figures}", _why_dear(costs))
    undrafted = None if drafts_first else "the others go undrafted to the validator"
    return say("cascade", f"the threshold {figures}", undrafted, _by_the_guarantee(costs))


def guarantee_in_words(
    threshold: float | None, loss: Loss, tolerance: float, confidence: float, n: int, reference: str
) -> str:
    if threshold is None:
        return "none: no threshold is certified, every draft escalates"
    what = {
        "regret": f"at most {tolerance:.4g} of all tasks get a draft accepted where the validator does better",
        "selective": f"at most {tolerance:.4g} of the accepted drafts are wrong",
    }[loss]
    return (
        f"{what}, with probability {confidence:.4g} over the draw of {n} calibration records; "
        f"holds for tasks drawn as those were; reference: {reference}"
    )


def _why_none(sample: Sample, tolerance: float, delta: float) -> str:
    needed = math.ceil(math.log(delta) / math.log1p(-tolerance))
    if sample.n < needed:
        return f"no threshold can be certified on {sample.n} records: even without a loss it takes {needed}"
    if not sample.levels:
        return "no record has a score: the confidence signal could not be measured"
    if sample.loss == "selective" and sample.base <= tolerance:
        return f"no threshold can be certified: too few drafts are accepted to tell, it takes {needed} and some more"
    return "no threshold can be certified: losses stand among the surest drafts, so that the confidence does not tell"


def _by_the_guarantee(costs: Costs) -> str | None:
    """A recommendation without a cost says nothing of money."""
    if costs.threshold is not None:
        return None
    return "this goes by the guarantee alone: whether it saves anything is not known"


def _why_dear(costs: Costs) -> str:
    if costs.drafts is not None and costs.drafts >= 1.0:
        return f"drafting alone {cost_words(costs.drafts)}"
    return "a cascade pays for the draft on every task, and too few are accepted to earn that back"


def _drafter_is_better(sample: Sample, delta: float) -> str | None:
    """Where the validator was measured throughout: the exact sign test on the tasks where the two differ (McNemar),
    Hoeffding's bound on the mean difference of grades."""
    if any(r.validator_ok is None for r in sample.records):
        return None
    gains = [d - v for d, v in zip(sample.drafts, sample.validators, strict=True) if d != v]
    wins = sum(gain > 0.0 for gain in gains)
    if not gains or math.fsum(gains) <= 0.0:
        return None
    if all(abs(gain) == 1.0 for gain in gains):
        p_value = binomial_sf(wins, len(gains), 0.5)
    else:
        p_value = math.exp(-sample.n * relative_entropy((1.0 - math.fsum(gains) / sample.n) / 2.0, 0.5))
    if p_value > delta:
        return None
    return f"the drafter is as good: better than the validator on {wins} of the {len(gains)} tasks where they differ"


def _costs(sample: Sample, accepted: int, drafts_first: bool) -> Costs:
    """The drafts made and the escalated validations, over every validation."""
    drafts = [r.draft_cost for r in sample.records]
    validations = [r.validator_cost for r in sample.records]
    if None in drafts or None in validations:
        return Costs(None, None, _why_unknown(sample))
    always, every_draft = _total(validations), _total(drafts)
    if not always:
        return Costs(None, None, "nothing was validated at a cost", free=bool(drafts))
    served = sample.order[:accepted]
    escalated = max(0.0, always - _total([validations[i] for i in served]))
    made = every_draft if drafts_first else _total([drafts[i] for i in served])
    return Costs((made + escalated) / always, every_draft / always)


def _why_unknown(sample: Sample) -> str:
    """An answer that the validator never gave is told apart from a price that is not known."""
    records = sample.records
    if all(r.validator_ok is None and r.validator_cost is None for r in records):
        return "the validator was not asked"
    counts = {
        "no answer of the validator": sum(r.validator_ok is None and r.validator_cost is None for r in records),
        "no cost of a validation": sum(r.validator_ok is not None and r.validator_cost is None for r in records),
        "no cost of its draft": sum(r.draft_cost is None for r in records),
    }
    return f"of {sample.n} records " + ", ".join(f"{n} with {what}" for what, n in counts.items() if n)


def _total(costs: Sequence[Cost | None]) -> float:
    return math.fsum(float(cost) for cost in costs if cost is not None)


def cost_words(ratio: float) -> str:
    return f"costs {ratio:.3g} x always validating"


def _named(loss: Loss) -> str:
    return "regret" if loss == "regret" else "selective error"
