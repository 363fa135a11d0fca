"""What an assessment comes to: is a cascade worth it, and what could more requests bring?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from orchestrator.quality.assessment.savings import Measured
from orchestrator.quality.calibration.escalation_price import EscalationPrice
from orchestrator.quality.certification.sample import Sample
from orchestrator.quality.records import Certificate, Loss, Record

Recommended = Literal["cascade", "always_validate", "always_draft", "undecided"]


def recommend(
    certificate: Certificate, measured: Measured, price: EscalationPrice | None, unpriced: str
) -> tuple[Recommended, str]:
    """(the recommendation, why), by what was measured where that settles it, else by what was certified. `unpriced`:
    what is left out where there is no `price` of an escalation."""
    if certificate.threshold is None:
        return "always_validate", "; ".join(certificate.reasons)
    share, redo = measured.share, _redo_words(measured)
    if share is not None and share.low is not None and share.low >= 1.0:
        mode = f" in mode {' or '.join(price.modes)}" if price is not None else ""
        return "always_validate", f"the cascade costs {share} of always validating: it does not pay{mode}{redo}"
    if share is not None and (share.value if share.high is None else share.high) >= 1.0:
        return "undecided", f"the cascade costs {share} of always validating: assess a larger sample{redo}"
    why = f"{_cost_words(measured)}, with regret {measured.regret} on tasks that had no part in choosing the threshold"
    better: Recommended = "always_draft" if certificate.recommendation == "always_draft" else "cascade"
    return better, why + redo + (f"; {unpriced}" if price is None and unpriced else "")


def _cost_words(measured: Measured) -> str:
    if measured.cost is not None:
        return f"it costs {measured.cost} of always validating"
    if measured.bill is not None:
        return f"{measured.bill} of the validator's bill is left, the drafter's own cost being unknown"
    return f"{measured.validated} of the tasks still go to the validator; what that saves in money is not known"


def _redo_words(measured: Measured) -> str:
    """Where each escalation being the validator's own answer would be cheaper."""
    share, redo = measured.share, measured.in_redo
    if share is None or redo is None or redo.value >= share.value:
        return ""
    return f"; in mode redo it costs {redo}"


def could_accept(records: Sequence[Record], loss: Loss, tolerance: float) -> float:
    """The share that the lowest threshold accepts whose loss on these very records is within `tolerance`: about what
    many more records could come to, by hindsight. No guarantee."""
    sample = Sample(records, loss)
    within = [
        accepted for accepted in sample.accepted
        if sample.lost(accepted) <= tolerance * (sample.n if loss == "regret" else accepted)
    ]
    return max(within, default=0) / sample.n if sample.n else 0.0
