"""How many records a guarantee takes, and which guarantee so many records can reach."""

from __future__ import annotations

import math

from orchestrator.errors import InputError
from orchestrator.quality.calibration.evidence import Asked


def needed(asked: Asked, attempt: int = 0) -> int:
    """Fewer records than this certify nothing, even without a single loss."""
    from orchestrator.quality.certification.thresholds import records_needed

    return records_needed(asked.max_regret, 1.0 - (1.0 - asked.confidence) * 2.0**-attempt)


def percent(share: float) -> str:
    """As it was asked for, to four figures."""
    return f"{100.0 * share:.4g}%"


def capital(words: str) -> str:
    """As a sentence begins."""
    return words[:1].upper() + words[1:]


def best_guarantee(n: int, confidence: float, attempt: int = 0) -> str:
    """What n records without a single loss certify, in words: 1 - δ^(1/n), at the j-th try with δ·2⁻ʲ."""
    if n <= 0:
        return "nothing"
    delta = (1.0 - confidence) * 2.0**-attempt
    return f"{-math.expm1(math.log(delta) / n):.2%} regret at {percent(confidence)} confidence"


def require(n: int, what: str, asked: Asked, attempt: int = 0, share: float = 1.0, why: str = "") -> None:
    """Raises InputError where `n` of `what` can't reach the guarantee: how many it takes, and what `n` could reach.
    `share` of what is brought is certified on; the rest is set apart. `why` there are no more."""
    takes = needed(asked, attempt)
    if n >= takes:
        return
    reach = -math.expm1(n * math.log1p(-asked.max_regret))
    said = f"{percent(asked.max_regret)} regret at {percent(asked.confidence)} confidence"
    said += f", at try {attempt} on the same records" if attempt > 1 else ""
    hint = f"bring {math.ceil(takes / share)} or more (some hundreds more where drafts are wrong now and then)"
    if n > 0:
        best = best_guarantee(n, asked.confidence, attempt)
        hint += f". {n} could reach {best}, or {percent(asked.max_regret)} at {reach:.0%} confidence, at best"
    hint += f". {capital(why)}" if why else ""
    raise InputError(f"{n} {what} can't certify {said}: even without a loss it takes {takes}", hint=hint)
