"""A certificate at the price of its escalations. Threshold and guarantee stay as they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.quality.calibration.escalation_price import FEWEST, EscalationPrice
from orchestrator.quality.calibration.evidence import Known
from orchestrator.quality.certification.advice import cost_words
from orchestrator.quality.records import Certificate
from orchestrator.records import Money


def with_escalations_priced(
    certificate: Certificate, known: Sequence[Known], price: EscalationPrice | None, unpriced: str
) -> Certificate:
    """With its cost at the `price` of an escalation; where there is none, with the words for what that leaves
    `unpriced`. A gate's escalations have no draft to read; where none pays with cheap escalations, none does with dear
    ones."""
    ratio = certificate.cost_ratio
    rests = (
        certificate.drafts_first and certificate.threshold is not None and certificate.accepted < certificate.n
        and certificate.recommendation != "always_validate"
    )
    if not rests or ratio is None:
        return certificate
    if price is None:
        return replace(certificate, reasons=(*certificate.reasons, *filter(None, [unpriced])))
    drafts = _sum(one.draft_cost for one in known) / _sum(one.validator_cost for one in known)
    priced = ratio + (price.times - 1.0) * max(0.0, ratio - drafts)
    dear = priced >= 1.0 and certificate.recommendation == "cascade"
    reasons = [one.replace(cost_words(ratio), cost_words(priced)) for one in certificate.reasons]
    reasons.append(f"{price.words}: it does not pay" if dear else price.words)
    if ratio < priced:
        reasons.append(f"in mode redo, where it is that answer, the cascade {cost_words(ratio)}")
    return replace(
        certificate, cost_ratio=priced, recommendation="always_validate" if dear else certificate.recommendation,
        reasons=tuple(reasons),
    )


STANDS_IN = (
    "always validating is priced like recorded verdicts on drafts, since too few answers of the validator alone are on "
    "record: a rule {name: spot_check, sample: 0.02, then: spot_check} brings some"
)
"""Said where `alone` had to let a verdict stand for an answer."""


def alone(
    known: Sequence[Known], verdicts: Sequence[Money | None]
) -> tuple[tuple[Known, ...], tuple[Money, ...] | None]:
    """`known` drafts of a ledger with what the validator's own answer would have cost, and the costs of recorded
    escalations. Of an escalated draft the ledger holds the cost of its verdict (in the order of `known`; None: the
    validator answered alone, or was not asked): over the mean of all verdicts, times the mean of its own answers.

    Too few of either: a verdict stands for an answer, and None is given for the escalations.
    """
    own = [one.validator_cost for one in known if one.validator_cost is not None]
    paid = [one for one in verdicts if one is not None]
    if min(len(own), len(paid)) < FEWEST or len({one.currency for one in (*own, *paid)}) != 1 or not _sum(paid):
        return _filled_in(known, verdicts, 1.0), None if paid else ()
    return _filled_in(known, verdicts, (_sum(paid) / len(paid)) / (_sum(own) / len(own))), tuple(paid)


def _filled_in(known: Sequence[Known], verdicts: Sequence[Money | None], times: float) -> tuple[Known, ...]:
    return tuple(
        one if verdict is None or one.validator_cost is not None
        else replace(one, validator_cost=Money(nano=round(verdict.nano / times), currency=verdict.currency))
        for one, verdict in zip(known, verdicts, strict=True)
    )


def _sum(amounts: Iterable[Money | None]) -> float:
    return math.fsum(one.nano for one in amounts if one is not None)
